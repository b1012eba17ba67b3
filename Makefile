# One line a target; what takes more stands in tools/.
PORT ?= 8080
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PYTEST := $(RUN) -m pytest

.PHONY: help install run check fmt lint types floors test test-full cover system node clean

help:            ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*##/\t/' | expand -t 12

install: .make/runtime  ## the gateway and what it needs, into .venv

.make/runtime: requirements.lock pyproject.toml
	@sh tools/setup.sh runtime $(PYTHON)

.make/dev: requirements-dev.lock pyproject.toml
	@sh tools/setup.sh dev $(PYTHON)

.make/node: tests/clients/package-lock.json
	@sh tools/setup.sh node

system:          ## system packages that the tests need (nginx, browsers …), said before it is done
	@sh tools/setup.sh system

run: install     ## serve on http://127.0.0.1:8080 (PORT=… for another), no key needed
	@exec $(RUN) -m gateway serve --port $(PORT)

fmt: .make/dev   ## format the code
	$(VENV)/bin/ruff format gateway tests
	$(VENV)/bin/ruff check --fix gateway tests

lint: .make/dev  ## format and lint, changing nothing
	$(VENV)/bin/ruff format --check gateway tests
	$(VENV)/bin/ruff check gateway tests

types: .make/dev ## strict types
	$(VENV)/bin/mypy

floors: .make/dev  ## who may import whom
	$(VENV)/bin/lint-imports

test: system .make/dev .make/node  ## all tests, with the branch coverage gate
	@sh tools/test.sh

test-full: system .make/dev .make/node  ## the same at the stated scales
	@sh tools/test.sh --full

check: lint types floors test  ## everything that must hold before a commit

clean:           ## forget what was installed and measured
	rm -rf $(VENV) .make .coverage* tests/clients/node_modules

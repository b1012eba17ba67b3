# One line a target; what takes more stands in tools/.
PORT ?= 8080
PROCESSES ?= 3
STREAMS ?= 1000
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
CLIENTS := tests/clients/node_modules

.PHONY: help install run run-cluster rolling check fmt lint types floors test test-full system bench bench-full bench-peers clean

help:            ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*##/\t/' | expand -t 12

install: $(VENV)/.runtime  ## the gateway and what it needs, into .venv

$(VENV)/.runtime: requirements.lock pyproject.toml
	@sh tools/setup.sh runtime $(PYTHON)

$(VENV)/.dev: requirements-dev.lock pyproject.toml
	@sh tools/setup.sh dev $(PYTHON)

$(CLIENTS)/.ready: tests/clients/package-lock.json
	@sh tools/setup.sh node

system:          ## system packages that the tests need (nginx, browsers …), said before it is done
	@sh tools/setup.sh system

run: install     ## serve on http://127.0.0.1:8080 (PORT=… for another), no key needed
	@exec $(RUN) -m gateway serve --port $(PORT)

run-cluster: install  ## nginx, Redis and 3 gateways on http://127.0.0.1:8080 (PORT=…, PROCESSES=…), no key needed
	@exec $(RUN) -m fleet run --port $(PORT) --processes $(PROCESSES)

rolling: install ## restart 3 gateways one by one under 1,000 streams, and count what is lost (PROCESSES=…, STREAMS=…)
	@exec $(RUN) -m fleet rolling --processes $(PROCESSES) --streams $(STREAMS)

fmt: $(VENV)/.dev   ## format the code
	$(VENV)/bin/ruff format gateway tests bench fleet
	$(VENV)/bin/ruff check --fix gateway tests bench fleet

lint: $(VENV)/.dev  ## format and lint, changing nothing
	$(VENV)/bin/ruff format --check gateway tests bench fleet
	$(VENV)/bin/ruff check gateway tests bench fleet

types: $(VENV)/.dev ## strict types
	$(VENV)/bin/mypy

floors: $(VENV)/.dev  ## who may import whom
	$(VENV)/bin/lint-imports

test: system $(VENV)/.dev $(CLIENTS)/.ready  ## all tests, with the branch coverage gate
	@sh tools/test.sh

test-full: system $(VENV)/.dev $(CLIENTS)/.ready  ## the same at the stated scales
	@sh tools/test.sh --full

bench: install   ## measure against nginx, in under 5 minutes (BENCH="--rounds 5" …)
	@$(RUN) -m bench run $(BENCH)
	@$(RUN) -m bench door

bench-full: install  ## every scenario; takes an hour
	@$(RUN) -m bench run --full $(BENCH)

bench-peers: install  ## the same with LiteLLM, installed into .bench
	@$(RUN) -m bench run --targets nginx,gateway,native,litellm $(BENCH)

check: lint types floors test  ## everything that must hold before a commit

clean:           ## forget what was installed and measured
	rm -rf $(VENV) .node22 .coverage .bench $(CLIENTS)

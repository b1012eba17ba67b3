#!/bin/sh
# Runs the tests under coverage, then the gate. --full runs the stated scales as well.
set -eu
cd "$(dirname "$0")/.."
[ ! -x .node22/bin/node ] || PATH="$PWD/.node22/bin:$PATH"
PATH="$PATH:/usr/sbin"
export PATH
if [ "${1:-}" = "--full" ]; then
    SSEGW_FULL=1
    export SSEGW_FULL
fi
rm -f .coverage
.venv/bin/coverage run -m pytest
.venv/bin/coverage report

#!/bin/sh
# Runs the tests under coverage, then the gate. --full runs the stated scales as well.
#
# Those that start processes of their own mostly wait for them, so they run beside the others; what they say is shown
# behind what the others said.
set -eu
cd "$(dirname "$0")/.."
[ ! -x .node22/bin/node ] || PATH="$PWD/.node22/bin:$PATH"
PATH="$PATH:/usr/sbin"
export PATH
if [ "${1:-}" = "--full" ]; then
    SSEGW_FULL=1
    export SSEGW_FULL
fi
waiting="tests/benchmark tests/clients tests/cluster tests/fleet tests/model tests/scale"
apart=""
for folder in $waiting; do
    apart="$apart --ignore=$folder"
done
said=$(mktemp)
beside=""
# Whoever stops this with Ctrl-C stops both.
trap '[ -z "$beside" ] || kill "$beside" 2>/dev/null; rm -f "$said"' EXIT
rm -f .coverage .coverage.*
# A shell lets its background ignore Ctrl-C, and so would everything that the tests start.
heed='import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])'
# shellcheck disable=SC2086
.venv/bin/python -c "$heed" .venv/bin/coverage run -p -m pytest $waiting >"$said" 2>&1 &
beside=$!
status=0
# shellcheck disable=SC2086
.venv/bin/coverage run -p -m pytest tests $apart || status=$?
echo "Waiting for the tests in $waiting ..."
wait "$beside" || status=$?
beside=""
cat "$said"
[ "$status" -eq 0 ] || exit "$status"
.venv/bin/coverage combine -q
.venv/bin/coverage report

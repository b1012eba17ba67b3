#!/bin/sh
# Installs one thing: runtime | dev | node | system | cluster. Says what it does before it does it.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

# Runs apt-get where root or sudo allow; else prints the one line to run, and fails.
apt_install() {
    line="apt-get install -y --no-install-recommends $*"
    if [ "$(id -u)" = 0 ]; then as=""; elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as="sudo"; else
        say "missing system packages; please run: sudo $line"
        exit 1
    fi
    say "installing system packages: $line"
    $as apt-get update -qq >&2
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $as $line >&2
}

venv() {
    python=$1
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { say "Python 3.11 or newer is needed"; exit 1; }
    [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null && [ -x .venv/bin/pip ] && return
    rm -rf .venv
    say "creating .venv"
    if ! "$python" -m venv .venv 2>/dev/null; then
        rm -rf .venv
        apt_install python3-venv ca-certificates
        "$python" -m venv .venv
    fi
}

# Installs a lock file with its hashes: by uv where it can be had, else by pip.
locked() {
    say "installing $1"
    [ -x .venv/bin/uv ] || .venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements-uv.lock ||
        say "no uv; pip takes longer"
    if [ -x .venv/bin/uv ]; then
        UV_LINK_MODE=copy .venv/bin/uv pip install -q --python .venv/bin/python --require-hashes -r "$1"
    else
        .venv/bin/pip install -q --disable-pip-version-check --require-hashes -r "$1"
    fi
}

missing=""
need() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"; }

# What a cluster on one machine is made of.
need_cluster() {
    need nginx nginx-light
    need redis-server redis-server
    need curl curl
    need openssl openssl
}

case "$1" in
runtime)
    venv "$2"
    locked requirements.lock
    touch .venv/.runtime
    ;;
dev)
    venv "$2"
    locked requirements-dev.lock
    touch .venv/.dev .venv/.runtime
    ;;
node)
    major=$(node -p 'process.versions.node.split(".")[0]')
    if [ "$major" -lt 20 ]; then
        # Debian 12 has Node 18; some of the clients need 20. The registry has Node itself as a package.
        say "Node $major is too old for the clients; installing Node 22 into .node22"
        arch=$(node -p 'process.arch')
        npm install --silent --no-save --no-audit --no-fund --ignore-scripts --prefix .node22 "node-linux-$arch@22"
        ln -sfn "node_modules/node-linux-$arch/bin" .node22/bin
    fi
    say "installing the npm clients that the tests use"
    (cd tests/clients && npm ci --silent --no-audit --no-fund --ignore-scripts)
    touch tests/clients/node_modules/.ready
    ;;
system)
    need_cluster
    need chromium chromium
    need firefox-esr firefox-esr
    need node nodejs
    need npm npm
    need systemd-analyze systemd
    [ -z "$missing" ] || apt_install $missing
    ;;
cluster)
    need_cluster
    [ -z "$missing" ] || apt_install $missing
    ;;
*)
    say "usage: tools/setup.sh runtime|dev PYTHON | node | system | cluster"
    exit 2
    ;;
esac

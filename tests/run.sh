#!/usr/bin/env bash
# Installs what the tests need, starts a PostgreSQL of their own, and runs everything.
#
#   tests/run.sh                 all tests
#   tests/run.sh presence        those whose names contain "presence"
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

install() {
    command -v apt-get >/dev/null || { echo "please install: $*" >&2; exit 1; }
    say "installing $*"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

command -v cc >/dev/null || install build-essential

postgres_bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }
bin=$(postgres_bin || true)
if [ -z "$bin" ] || [ ! -x "$bin/initdb" ]; then
    install postgresql
    bin=$(postgres_bin)
fi

# PostgreSQL refuses to run as root: then its own user runs it.
scratch=$(mktemp -d)
run_as=()
if [ "$(id -u)" = 0 ]; then
    id postgres >/dev/null 2>&1 || useradd --system --no-create-home postgres
    chown postgres "$scratch"
    run_as=(setpriv --reuid postgres --regid "$(id -g postgres)" --clear-groups)
fi
stop() {
    (cd / && "${run_as[@]}" "$bin/pg_ctl" -D "$scratch/data" -m immediate stop >/dev/null 2>&1) || true
    rm -rf "$scratch"
}
trap stop EXIT

say "starting PostgreSQL ($("$bin/postgres" --version))"
port=$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])' 2>/dev/null || echo 54329)
(
    cd /
    "${run_as[@]}" "$bin/initdb" -D "$scratch/data" -U rollcall --auth=trust --encoding=UTF8 --locale=C >/dev/null
    # Tests want a database that is quick to make and may be lost.
    "${run_as[@]}" "$bin/pg_ctl" -D "$scratch/data" -w -l "$scratch/log" -o \
        "-p $port -k $scratch -c listen_addresses=127.0.0.1 -c max_connections=400 -c fsync=off -c full_page_writes=off" \
        start >/dev/null
)
export ROLLCALL_TEST_POSTGRES="postgres://rollcall@127.0.0.1:$port/postgres"
export ROLLCALL_TEST_POSTGRES_BIN="$bin"

# A snapshot that differs fails; it is never taken by the way.
export INSTA_UPDATE="${INSTA_UPDATE:-no}"

say "running the tests"
cargo test --no-fail-fast --quiet "$@"

#!/usr/bin/env bash
# Benchmarks the system and comparable designs on this machine, in one run.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: scripts/bench.sh [--seconds N] [--rounds N] [--rate N] [--only "SYSTEM..."] [--before COMMIT]
                        [--orders-only] [--output FOLDER]

Starts a private RabbitMQ and PostgreSQL and runs these systems on them:

  echo           axum + lapin, one message per request, no storage: the upper bound of a simple design
  nest-memory    a NestJS gateway and RabbitMQ microservice that keeps its orders in memory
  nest-postgres  the same on PostgreSQL
  sqlite         this system on SQLite
  postgres       this system on PostgreSQL
  sqlite-quorum  this system on SQLite with REQUEST_QUEUE_TYPE=quorum, on one node; only with --only

Measures one system after the other with oha: orders over 1, 16, 64 and 256 connections, orders at a fixed
rate, reads, orders of a single product, the complete order flow, and webhooks. Prints tables, writes
bench.json and bench.svg, and checks the data with `order-worker verify` afterwards.

  --seconds N       duration of each measurement (default 10; about ten minutes in total)
  --rounds N        how often orders are measured, in turns; the median is shown (default 1)
  --rate N          the fixed rate, in orders per second (default 1000)
  --only SYSTEMS    measure only these systems, separated by blanks
  --before COMMIT   also measure this system as of that commit: sqlite-before and postgres-before
  --orders-only     measure only orders over 1 to 256 connections and at the fixed rate
  --output FOLDER   folder for bench.json and bench.svg (default target/bench)

Requires the Rust toolchain, and Node.js and npm for the NestJS systems, which are skipped without them.
Installs missing tools: RabbitMQ and PostgreSQL from the distribution's packages, oha with cargo into
target/tools (takes a few minutes, once), NestJS with npm into target/bench-nestjs. Other load on the machine
changes the results: compare only results of the same run.
USAGE
}

cd "$(dirname "$0")/.."
. scripts/lib.sh

export BENCH_SECONDS=10 BENCH_ROUNDS=1 BENCH_RATE=1000 BENCH_ONLY='' BENCH_ORDERS_ONLY='' BENCH_OUTPUT="$PWD/target/bench" BEFORE=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --seconds) BENCH_SECONDS=${2:?}; shift ;;
        --rounds) BENCH_ROUNDS=${2:?}; shift ;;
        --before) BEFORE=${2:?}; shift ;;
        --rate) BENCH_RATE=${2:?}; shift ;;
        --only) BENCH_ONLY=${2:?}; shift ;;
        --orders-only) BENCH_ORDERS_ONLY=1 ;;
        --output) BENCH_OUTPUT=$(mkdir -p "${2:?}" && cd "$2" && pwd); shift ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

make_work_folder

need_rust
need_rabbitmq
need_postgres

OHA_VERSION=1.16.0
export BENCH_OHA="$PWD/target/tools/bin/oha"
if ! "$BENCH_OHA" --version 2>/dev/null | grep -q "$OHA_VERSION"; then
    say "installing oha $OHA_VERSION into target/tools ..."
    cargo install --quiet --locked --root target/tools --version "$OHA_VERSION" oha
fi

: "${BENCH_ONLY:=echo nest-memory nest-postgres sqlite postgres}"
if [ -n "$BEFORE" ]; then
    BEFORE=$(git rev-parse --verify --quiet "$BEFORE^{commit}") || die "there is no such commit"
    for store in sqlite postgres; do
        [[ " $BENCH_ONLY " != *" $store "* ]] || BENCH_ONLY+=" $store-before"
    done
    export BENCH_BEFORE="$PWD/target/bench-before/$BEFORE"
    if ! [ -x "$BENCH_BEFORE/order-worker" ]; then
        say "building release binaries of $BEFORE ..."
        mkdir -p "$WORK/before" "$BENCH_BEFORE"
        git archive "$BEFORE" | tar -x -C "$WORK/before"
        (cd "$WORK/before" && CARGO_TARGET_DIR="$OLDPWD/target" cargo build --quiet --locked --release --workspace --bins)
        mv target/release/api-gateway target/release/order-worker "$BENCH_BEFORE"
    fi
fi
export BENCH_NEST="$PWD/target/bench-nestjs"
if [[ $BENCH_ONLY = *nest* ]]; then
    if command -v npm >/dev/null; then
        say "building the NestJS systems ..."
        mkdir -p "$BENCH_NEST"
        cp -r scripts/bench/nestjs/. "$BENCH_NEST/"
        (cd "$BENCH_NEST" && npm install --no-package-lock --no-audit --no-fund --loglevel=error &&
            npm run --silent build) >"$WORK/npm.log" 2>&1 || { tail -5 "$WORK/npm.log" >&2; die "cannot build the NestJS systems"; }
    else
        say "npm is not installed: skipping the NestJS systems"
        BENCH_ONLY=$(printf '%s ' $BENCH_ONLY | sed 's/nest-[a-z]*//g')
    fi
fi

say "building release binaries ..."
cargo build --quiet --release --workspace --bins --examples
cargo test --quiet --release --package api-gateway --test bench --no-run

start_rabbitmq "$WORK/rabbitmq"
export BENCH_RABBITMQ_PID=${STARTED##* }
start_postgres "$WORK/postgres"
export BENCH_POSTGRES_PID=${STARTED##* }
# Each system gets its own vhost on the broker.
(
    . "$WORK/rabbitmq/env"
    for system in $BENCH_ONLY; do
        rabbitmqctl --quiet add_vhost "$system"
        rabbitmqctl --quiet set_permissions --vhost "$system" guest '.*' '.*' '.*'
    done
)
mkdir "$WORK/systems"
SHIPPER_WEBHOOK_SECRET=whsec_$(head -c 24 /dev/urandom | base64)
[ ${#SHIPPER_WEBHOOK_SECRET} = 38 ] || die "cannot generate a secret: head, base64 or /dev/urandom is missing"
export SHIPPER_WEBHOOK_SECRET
export BENCH_FOLDER="$WORK/systems" BENCH_AMQP="amqp://guest:guest@127.0.0.1:$RABBITMQ_PORT"
export BENCH_POSTGRES="postgres://orders@127.0.0.1:$POSTGRES_PORT" BENCH_POSTGRES_BIN=$POSTGRES_BIN
cargo test --quiet --release --package api-gateway --test bench

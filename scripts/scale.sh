#!/usr/bin/env bash
# Measures the cost of operations on a million orders, and the throughput of several workers.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: scripts/scale.sh [--orders N] [--store sqlite|postgres] [--workers-only]
                        [--no-verify]

Fills a temporary database with 1,000 orders and then with N (default 1,000,000), each created by the same code as
a real order. Prints the cost of creating, reading, searching, listing with each filter, claiming due steps, statistics,
retention and verifying at both sizes, and the size on disk; with more than a million, at a million as well. Then
measures 1, 2 and 4 workers on one PostgreSQL database, with a different product in every order and with the same
product in all. Runs release builds without broker and gateway.

A million orders need about 7 GB in the temporary folder and some six minutes for each store, ten million on
PostgreSQL 66 GB, an hour, and 2 GB of memory for verify.

  --orders N      number of orders (default 1,000,000)
  --store NAME    only this store
  --no-verify     without verify, which reads everything
  --workers-only  only the measurement of several workers
EOF
}

cd "$(dirname "$0")/.."
. scripts/lib.sh

ORDERS=1000000 STORES="sqlite postgres" WORKERS_ONLY=
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --orders) ORDERS=${2:?}; shift ;;
        --store) STORES=${2:?}; shift ;;
        --no-verify) export SCALE_NO_VERIFY=1 ;;
        --workers-only) STORES='' WORKERS_ONLY=1 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

make_work_folder

need_rust
say "building ..."
cargo test --quiet --release --package order-worker --test scale --no-run

export SCALE_ORDERS=$ORDERS
case $STORES in *sqlite*) export SCALE_SQLITE="sqlite://$WORK/orders.db" ;; esac
if [ -n "$WORKERS_ONLY" ] || [[ $STORES = *postgres* ]]; then
    need_postgres
    start_postgres "$WORK/postgres"
    server="postgres://orders@127.0.0.1:$POSTGRES_PORT"
    for database in million workers; do
        "$POSTGRES_BIN/psql" -qX -c "CREATE DATABASE $database" "$server/postgres"
    done
    [ -n "$WORKERS_ONLY" ] || export SCALE_POSTGRES="$server/million"
    export SCALE_POSTGRES_WORKERS="$server/workers"
fi
cargo test --quiet --release --package order-worker --test scale

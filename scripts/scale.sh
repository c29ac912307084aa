#!/usr/bin/env bash
# What a million orders cost, and what more workers bring.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: scripts/scale.sh [--orders N] [--store sqlite|postgres] [--workers-only]

Fills a private database with 1,000 orders and then with N (default 1,000,000), each made by the same
decisions as a real one, and prints what creating, reading, listing by each filter, sweeping and
verifying cost at both sizes. Then has 1, 2 and 4 workers decide over one PostgreSQL database, each
order its own product, or all the same. All without broker and gateway, in release builds.

A million orders take about 6 GB in the temporary folder and, by store, some ten minutes.
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

#!/usr/bin/env bash
# Measures for how long orders and reads pause while the schema of a large PostgreSQL database is migrated.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: scripts/upgrade-pause.sh [--orders N] [--runs N]

Fills a PostgreSQL database of the previous version (scripts/previous-version) with N orders and their events,
customers and webhook deliveries. Then, in each run, on a copy of it: customers order and read while a worker of this
version starts beside the one of the previous version and migrates the schema, and while the previous one stops.
Prints a Markdown table with the longest time without a response, and with the slowest response, before, during and
after the migration; then the statements that waited for locks. Uses debug builds. Asserts nothing.

A million orders need about 20 GB in the temporary folder, 10 minutes to fill, and 2 minutes for each run.

  --orders N  number of orders (default 1,000,000); rounded down to tens
  --runs N    number of runs (default 3)
EOF
}

cd "$(dirname "$0")/.."
. scripts/lib.sh

ORDERS=1000000 RUNS=3
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --orders) ORDERS=${2:?}; shift ;;
        --runs) RUNS=${2:?}; shift ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

make_work_folder
need_rust
need_rabbitmq
need_postgres
command -v python3 >/dev/null || apt_install python3
need_previous_worker || die "the previous version is not available (in a clone: git fetch --unshallow --tags)"
say "building ..."
cargo build --quiet --workspace --bins

start_rabbitmq "$WORK/rabbitmq"
prepare_postgres "$WORK/postgres"
cat >>"$WORK/postgres/data/postgresql.conf" <<EOF
shared_buffers = 1GB
max_wal_size = 8GB
# Reports every wait for a lock that is longer than this.
log_lock_waits = on
deadlock_timeout = 50ms
log_line_prefix = '%m [%p] '
EOF
(run_postgres "$WORK/postgres") >"$WORK/postgres/out.log" 2>&1 &
STARTED="${STARTED:-} $!"
wait_for "the private PostgreSQL" 60 postgres_answers "$POSTGRES_PORT"

python3 scripts/upgrade_pause.py --orders "$ORDERS" --runs "$RUNS" --folder "$WORK" \
    --previous-worker "$PREVIOUS_WORKER" --programs "$PWD/target/debug" --psql "$POSTGRES_BIN/psql" \
    --postgres "postgres://orders@127.0.0.1:$POSTGRES_PORT" --amqp "amqp://guest:guest@127.0.0.1:$RABBITMQ_PORT/%2f"

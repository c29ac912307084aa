#!/usr/bin/env bash
# Load while things go wrong, then the reckoning.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: scripts/chaos.sh [--quick] [--minutes N] [--seed N] [--store sqlite|postgres] [--fault TEXT]

Runs, over either store at the same time, two gateways, a worker (two on PostgreSQL), a broker and a
database of their own, with customers who order, cancel and ask again; kills, freezes, cuts off, slows down and fills up one after the
other; then waits for quiet, runs `order-worker verify`, and compares every acknowledged answer with
what is stored. Prints a table; exits 0 if nothing was lost, doubled or stuck.

  --quick        about three minutes: what can happen to either store happens to one of them, and
                 what takes long to get over does not happen
  --minutes N    goes on for at least N minutes, with another seed each round
  --seed N       the customers' choices and the moments of the faults (default: by the clock; printed)
  --store NAME   only over this store
  --fault TEXT   only faults whose name contains TEXT

Installs what is missing from the distribution's packages: RabbitMQ, PostgreSQL, Python, libfaketime.
Two faults need a disk of their own, which root may mount; they are skipped elsewhere.
EOF
}

cd "$(dirname "$0")/.."
. scripts/lib.sh

export CHAOS_SEED=$(($(date +%s) % 1000000))
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --quick) export CHAOS_QUICK=1 ;;
        --minutes) export CHAOS_MINUTES=${2:?}; shift ;;
        --seed) export CHAOS_SEED=${2:?}; shift ;;
        --store) export CHAOS_STORES=${2:?}; shift ;;
        --fault) export CHAOS_FAULT=${2:?}; shift ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

make_work_folder

need_rust
need_rabbitmq
need_postgres
command -v python3 >/dev/null || apt_install python3
find_faketime() { TEST_FAKETIME=$(ls /usr/lib/*/faketime/libfaketime.so.1 2>/dev/null | head -1); [ -n "$TEST_FAKETIME" ]; }
find_faketime || { apt_install libfaketime && find_faketime; }

# Debug builds: these can be told where to die.
say "building ..."
cargo build --quiet --workspace --bins
cargo test --quiet --workspace --test chaos --no-run

say "simulating in memory, a crash possible between any two effects ..."
if [ -n "${CHAOS_QUICK:-}" ]; then seeds=2000; else seeds=20000; fi
SIMULATION_SEEDS=$seeds cargo test --quiet --workspace --test domain simulation -- --nocapture |
    grep -E 'seeds|SIMULATION_SEED|panicked' || die "the simulation failed"

export TEST_FAKETIME TEST_FOLDER="$WORK" TEST_LIB="$PWD/scripts/lib.sh" TEST_POSTGRES_BIN="$POSTGRES_BIN"
cargo test --quiet --workspace --test chaos

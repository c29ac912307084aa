#!/usr/bin/env bash
# Fault injection under load, followed by a consistency check.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: scripts/chaos.sh [--quick] [--minutes N] [--seed N] [--store sqlite|postgres] [--fault TEXT]

Runs, for each store in parallel, two gateways, a worker (two on PostgreSQL), a broker and a database.
Simulated customers place orders, cancel them and retry requests, while one fault after the other is
injected: killed, frozen, disconnected or slow processes, and full disks. Then waits until the system is
idle, runs `order-worker verify`, and compares every acknowledged response with the stored data. Prints a
table; exits 0 if nothing was lost, duplicated or left unfinished.

  --quick        about seven minutes on two cores: faults that apply to both stores are injected on one of them, and
                 faults with a long recovery are skipped
  --minutes N    repeats for at least N minutes, with another seed in each round
  --seed N       seed of the customers' choices and the times of the faults (default: by the clock; printed)
  --store NAME   only this store
  --fault TEXT   only faults whose name contains TEXT

Installs missing tools from the distribution's packages: RabbitMQ, PostgreSQL, Python, libfaketime.
Two faults need a separate disk that root mounts; without root they are skipped.
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

# Debug builds contain the crash points.
say "building ..."
cargo build --quiet --workspace --bins
cargo test --quiet --workspace --test chaos --no-run

say "running the simulation in memory, with crashes between any two effects ..."
if [ -n "${CHAOS_QUICK:-}" ]; then seeds=2000; else seeds=20000; fi
SIMULATION_SEEDS=$seeds cargo test --quiet --workspace --test domain simulation -- --nocapture |
    grep -E 'seeds|SIMULATION_SEED|panicked' || die "the simulation failed"

export TEST_FAKETIME TEST_FOLDER="$WORK" TEST_LIB="$PWD/scripts/lib.sh" TEST_POSTGRES_BIN="$POSTGRES_BIN"
cargo test --quiet --workspace --test chaos

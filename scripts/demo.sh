#!/usr/bin/env bash
# Builds and starts the system and runs the demo scenarios. Needs only a Rust toolchain.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: scripts/demo.sh [--exit]

Builds api-gateway and order-worker, starts them on a temporary database, and runs a few orders through
the API: one delivered, one sold out, one declined, one cancelled during payment, and one whose worker is
killed in the middle. Then the system keeps running until Ctrl-C; with --exit it stops immediately.

The broker is the first available of: AMQP_URL, if set; a container, if Docker runs; a private RabbitMQ,
installed from the distribution's packages if it is missing. The demo stops everything that it started.

Exit status: 0 if every result was as expected.
EOF
}

EXIT_AFTER=
for argument in "$@"; do
    case $argument in
        --exit) EXIT_AFTER=1 ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

cd "$(dirname "$0")/.."
. scripts/lib.sh
WORK=$(mktemp -d)
CONTAINER=
cleanup() {
    stop_all
    [ -z "$CONTAINER" ] || docker rm -f "$CONTAINER" >/dev/null 2>&1 || true
    rm -rf "$WORK"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

missing=
for tool in curl jq openssl; do command -v $tool >/dev/null || missing="$missing $tool"; done
[ -z "$missing" ] || apt_install ca-certificates $missing
need_rust

# --- The broker -------------------------------------------------------------------------------

if [ -n "${AMQP_URL:-}" ]; then
    say "broker: AMQP_URL"
elif command -v docker >/dev/null && docker info >/dev/null 2>&1 &&
    free_port && CONTAINER=$(docker run -d -p "127.0.0.1:$PORT:5672" rabbitmq:4 2>"$WORK/docker.log"); then
    say "broker: a Docker container"
    wait_for RabbitMQ 120 amqp_answers "$PORT"
    export AMQP_URL="amqp://guest:guest@127.0.0.1:$PORT/%2f"
else
    need_rabbitmq
    start_rabbitmq "$WORK/rabbitmq"
    say "broker: a private RabbitMQ on port $RABBITMQ_PORT"
    export AMQP_URL="amqp://guest:guest@127.0.0.1:$RABBITMQ_PORT/%2f"
fi

# --- The system -------------------------------------------------------------------------------

say "building (takes a few minutes the first time) ..."
cargo build --quiet --workspace --bins
BIN=${CARGO_TARGET_DIR:-target}/debug

# port PREFERRED: sets PORT to that port, or to a free one if it is in use.
port() {
    PORT=$1
    if (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; then free_port; fi
}
port 8080; export HTTP_ADDR="127.0.0.1:$PORT"
port 8081; export WORKER_HTTP_ADDR="127.0.0.1:$PORT"
export DATABASE_URL="sqlite://$WORK/orders.db"
SECRET=$(head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
[ ${#SECRET} = 48 ] || die "cannot generate a secret: head, od or /dev/urandom is missing"
SHIPPER_WEBHOOK_SECRET="whsec_$(printf '%s' "$SECRET" | sed 's/../\\x&/g' | xargs -0 printf '%b' | base64 -w0)"
export SHIPPER_WEBHOOK_SECRET CARRIER=manual
API="http://$HTTP_ADDR"

# Appends to the log, so that it also covers a restarted worker.
start_worker() {
    "$BIN/order-worker" serve >>"$WORK/worker.log" 2>&1 &
    WORKER=$!
    STARTED="${STARTED:-} $WORKER"
    wait_for "the worker" 30 curl -sf "http://$WORKER_HTTP_ADDR/readyz" -o /dev/null || { cat "$WORK/worker.log" >&2; exit 1; }
}
"$BIN/api-gateway" >>"$WORK/gateway.log" 2>&1 &
STARTED="${STARTED:-} $!"
start_worker
wait_for "the gateway" 30 curl -sf "$API/readyz" -o /dev/null || { cat "$WORK/gateway.log" >&2; exit 1; }
say "gateway: $API   worker: http://$WORKER_HTTP_ADDR/readyz"

# --- The scenarios ----------------------------------------------------------------------------

on_failure() {
    printf 'Last lines of the logs:\n' >&2
    tail -n 15 "$WORK/gateway.log" "$WORK/worker.log" >&2
}
KEY=
. scripts/story.sh
run_scenarios ""

section "kill -9 of the worker in the middle of a payment"
call POST /v1/orders "$(order TSHIRT 1 pm_slow)"
expect "POST /v1/orders" "$STATUS" 201
ID=$(get .id)
sleep 1
kill -9 "$WORKER"; wait "$WORKER" 2>/dev/null || true
say "   worker killed; the order is $(printf '%s' "$ID" | cut -c1-13)..."
start_worker
say "   a new worker has started"
WAIT_SECONDS=60 wait_for_order "$ID" '.status + " " + (.shipments[0].status // "")' "processing label_created"
expect "the new worker finished the payment" "$(get '.status + ", " + .payment.status')" "processing, authorized"

section "Consistency check"
"$BIN/order-worker" verify >"$WORK/verify.log" && verified=0 || verified=$?
expect "order-worker verify: exit status" "$verified" 0
say "   $(tail -n 1 "$WORK/verify.log")"

printf '\n'
if [ -n "$EXIT_AFTER" ]; then
    say "The demo succeeded. Stopping."
else
    say "The demo succeeded. Open $API in a browser (or: curl $API/v1/orders). Ctrl-C stops the system."
    say "Logs: $WORK/gateway.log and $WORK/worker.log"
    wait "$WORKER"
fi

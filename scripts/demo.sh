#!/usr/bin/env bash
# The running system and its story, from a bare machine with a Rust toolchain.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: scripts/demo.sh [--exit]

Builds api-gateway and order-worker, starts them on a private database, and walks through the story
of a few orders: delivered, sold out, declined, cancelled while paying, and one whose worker is
killed in the middle. Then it leaves everything running until Ctrl-C; with --exit it stops instead.

The broker is the first of: AMQP_URL if it is set; a container if Docker runs; else a private
RabbitMQ, installed from the distribution's packages if need be. Whatever the demo starts, it stops.

Exit status: 0 if everything in the story came out as told.
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
    say "broker: the one that AMQP_URL names"
elif command -v docker >/dev/null && docker info >/dev/null 2>&1 &&
    free_port && CONTAINER=$(docker run -d -p "127.0.0.1:$PORT:5672" rabbitmq:4 2>"$WORK/docker.log"); then
    say "broker: a container"
    wait_for RabbitMQ 120 amqp_answers "$PORT"
    export AMQP_URL="amqp://guest:guest@127.0.0.1:$PORT/%2f"
else
    need_rabbitmq
    start_rabbitmq "$WORK/rabbitmq"
    say "broker: a private RabbitMQ on port $RABBITMQ_PORT"
    export AMQP_URL="amqp://guest:guest@127.0.0.1:$RABBITMQ_PORT/%2f"
fi

# --- The system -------------------------------------------------------------------------------

say "building (some minutes the first time) ..."
cargo build --quiet --workspace --bins
BIN=${CARGO_TARGET_DIR:-target}/debug

# port PREFERRED: that one, or another if it is taken.
port() {
    PORT=$1
    if (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; then free_port; fi
}
port 8080; export HTTP_ADDR="127.0.0.1:$PORT"
port 8081; export WORKER_HTTP_ADDR="127.0.0.1:$PORT"
export DATABASE_URL="sqlite://$WORK/orders.db"
SECRET=$(head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
[ ${#SECRET} = 48 ] || die "no secret could be made: head, od or /dev/urandom is missing"
SHIPPER_WEBHOOK_SECRET="whsec_$(printf '%s' "$SECRET" | sed 's/../\\x&/g' | xargs -0 printf '%b' | base64 -w0)"
export SHIPPER_WEBHOOK_SECRET CARRIER=manual
API="http://$HTTP_ADDR"

# A log of its own for each, so that a restart goes on in the same one.
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

# --- Telling the story ------------------------------------------------------------------------

unhappy() {
    printf 'The logs end with:\n' >&2
    tail -n 15 "$WORK/gateway.log" "$WORK/worker.log" >&2
}
KEY=
. scripts/story.sh
tell_story ""

chapter "kill -9 of the worker in the middle of a payment"
call POST /v1/orders "$(order TSHIRT 1 pm_slow)"
expect "POST /v1/orders" "$STATUS" 201
ID=$(get .id)
sleep 1
kill -9 "$WORKER"; wait "$WORKER" 2>/dev/null || true
say "   the worker is dead; the order is $(printf '%s' "$ID" | cut -c1-13)..."
start_worker
say "   and another one takes over"
PATIENCE=60 until_order "$ID" '.status + " " + (.shipments[0].status // "")' "processing label_created"
expect "it was finished anyway" "$(get '.status + ", " + .payment.status')" "processing, authorized"

chapter "The books"
"$BIN/order-worker" verify >"$WORK/verify.log" && verified=0 || verified=$?
expect "order-worker verify: exit status" "$verified" 0
say "   $(tail -n 1 "$WORK/verify.log")"

printf '\n'
if [ -n "$EXIT_AFTER" ]; then
    say "That was the story; everything stops now."
else
    say "That was the story. Look at it at $API in a browser (or: curl $API/v1/orders); it goes on until Ctrl-C."
    say "Logs: $WORK/gateway.log and $WORK/worker.log"
    wait "$WORKER"
fi

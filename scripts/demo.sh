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
SECRET=$(openssl rand -hex 24)
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

chapter() { printf '\n== %s\n' "$*"; }
# expect WHAT ACTUAL EXPECTED
expect() {
    if [ "$2" = "$3" ]; then
        printf '   %-58s %s\n' "$1" "$2"
    else
        printf '   %-58s %s, not %s\n' "$1" "$2" "$3"
        printf '\nThis is not how the story goes. The logs end with:\n' >&2
        tail -n 15 "$WORK/gateway.log" "$WORK/worker.log" >&2
        exit 1
    fi
}
# call METHOD PATH [JSON] [CURL OPTIONS...]: sets STATUS and BODY.
call() {
    local method=$1 path=$2 json=${3:-}
    shift 2; [ $# -eq 0 ] || shift
    local options=(-s -X "$method" -w '\n%{http_code}' "$@")
    [ -z "$json" ] || options+=(-H 'Content-Type: application/json' -d "$json")
    local response
    response=$(curl "${options[@]}" "$API$path") || true
    STATUS=${response##*$'\n'}
    BODY=${response%$'\n'*}
}
get() { jq -r "$1" <<<"$BODY"; }
# until_order ID FILTER VALUE: reads the order until FILTER gives VALUE.
until_order() {
    local end=$((SECONDS + ${PATIENCE:-20}))
    while call GET "/v1/orders/$1"; [ "$(get "$2")" != "$3" ] && [ "$SECONDS" -lt "$end" ]; do sleep 0.2; done
}
# webhook ID TYPE ORDER [KEY]: what the shipper would send, signed as Standard Webhooks has it.
webhook() {
    local timestamp body signature
    timestamp=$(date +%s)
    body=$(jq -nc --arg type "$2" --arg order "$3" \
        '{type: $type, timestamp: (now | todate), data: {order_id: $order, carrier: "DHL"}}')
    signature=$(printf '%s.%s.%s' "$1" "$timestamp" "$body" |
        openssl dgst -sha256 -mac HMAC -macopt "hexkey:${4:-$SECRET}" -binary | base64 -w0)
    call POST /webhooks/shipper "$body" -H "webhook-id: $1" -H "webhook-timestamp: $timestamp" -H "webhook-signature: v1,$signature"
}
stock_of() { call GET "/v1/products/$1"; get '.stock[0] | "\(.on_hand) on hand, \(.reserved) reserved"'; }

chapter "A catalogue and a customer"
call POST /v1/products '{"sku":"TSHIRT","name":"T-shirt","price":1999,"currency":"EUR"}'
expect "POST /v1/products" "$STATUS" 201
call PUT /v1/products/TSHIRT/stock/berlin '{"on_hand":100}'
expect "PUT /v1/products/TSHIRT/stock/berlin" "$STATUS" 200
call POST /v1/products '{"sku":"LASTONE","name":"A signed print","price":50000,"currency":"EUR"}'
call PUT /v1/products/LASTONE/stock/berlin '{"on_hand":1}'
call POST /v1/customers '{"name":"Ada","email":"ada@example.com"}'
expect "POST /v1/customers" "$STATUS" 201
CUSTOMER=$(get .id)
order() { printf '{"customer_id":"%s","items":[{"sku":"%s","quantity":%s}],"payment_method":"%s"}' "$CUSTOMER" "$1" "$2" "$3"; }

chapter "An order, from the click to the door"
call POST /v1/orders "$(order TSHIRT 2 pm_ok)"
expect "POST /v1/orders: accepted, stock reserved" "$STATUS $(get .status)" "201 pending"
ID=$(get .id)
until_order "$ID" '.status + " " + (.shipments[0].status // "")' "processing label_created"
expect "payment authorized, parcel announced" "$(get '.status + " " + .payment.status + " " + .shipments[0].status')" "processing authorized label_created"
webhook msg-1 shipment.shipped "$ID" "$(printf '00%.0s' $(seq 24))"
expect "a forged webhook is refused" "$STATUS" 401
webhook msg-2 shipment.shipped "$ID"
expect "the shipper's webhook: shipped" "$STATUS" 200
webhook msg-2 shipment.shipped "$ID"
expect "the same webhook again does no harm" "$STATUS" 200
until_order "$ID" .payment.status captured
expect "what has left is paid for" "$(get '.status + " " + .payment.status')" "shipped captured"
webhook msg-3 shipment.delivered "$ID"
until_order "$ID" .status delivered
expect "the shipper's webhook: delivered" "$(get .status)" delivered
expect "stock of T-shirts" "$(stock_of TSHIRT)" "98 on hand, 0 reserved"
say "   its history:"
call GET "/v1/orders/$ID/history"
get '.data[] | "      \(.sequence | tostring | if length < 2 then " " + . else . end)  \(.time)  \(.type)  (\(.actor): \(.intent))"'

chapter "The last unit, wanted by twenty at once"
for i in $(seq 20); do
    curl -s -o /dev/null -w '%{http_code}\n' -X POST "$API/v1/orders" -H 'Content-Type: application/json' -d "$(order LASTONE 1 pm_ok)" >"$WORK/buyer-$i" &
    buyers="${buyers:-} $!"
done
wait $buyers
expect "201 Created" "$(cat "$WORK"/buyer-* | grep -c 201)" 1
expect "409 OUT_OF_STOCK" "$(cat "$WORK"/buyer-* | grep -c 409)" 19

chapter "A declined card"
call POST /v1/orders "$(order TSHIRT 1 pm_declined)"
ID=$(get .id)
until_order "$ID" .status cancelled
expect "cancelled by itself" "$(get '.status + ", " + .cancel_reason')" "cancelled, payment_declined"
expect "and its stock is back" "$(stock_of TSHIRT)" "98 on hand, 0 reserved"

chapter "Cancelled while the payment is under way"
call POST /v1/orders "$(order TSHIRT 1 pm_slow)"
ID=$(get .id)
sleep 1
call POST "/v1/orders/$ID/cancel" '{"reason":"changed my mind"}'
expect "POST /v1/orders/ID/cancel" "$STATUS $(get .status)" "200 cancelled"
sleep 3
until_order "$ID" .payment.status voided
expect "the payment landed and was given back; still cancelled" "$(get '.status + ", " + .payment.status')" "cancelled, voided"

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

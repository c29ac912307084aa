# shellcheck shell=bash
# The demo scenarios: a few orders placed through the API, with every result checked. Sourced by scripts/demo.sh
# and by the demo of docker-compose.yml.
#
# Requires curl, jq and openssl, and:
#   API         base URL of the gateway
#   SECRET      signing key of the shipper's webhooks, in hex digits
#   KEY         an operator's API key; empty if the gateway needs none
#   WORK        a folder for temporary files
#   on_failure  a function that is called before the script exits because of an unexpected result

section() { printf '\n== %s\n' "$*"; }
# expect DESCRIPTION ACTUAL EXPECTED: prints the result; exits if it differs from the expected one.
expect() {
    if [ "$2" = "$3" ]; then
        printf '   %-58s %s\n' "$1" "$2"
    else
        printf '   %-58s %s (expected: %s)\n' "$1" "$2" "$3"
        printf '\nThe demo failed: unexpected result above.\n' >&2
        on_failure
        exit 1
    fi
}
AUTH=()
[ -z "${KEY:-}" ] || AUTH=(-H "Authorization: Bearer $KEY")
# call METHOD PATH [JSON] [CURL OPTIONS...]: sets STATUS and BODY.
call() {
    local method=$1 path=$2 json=${3:-}
    shift 2; [ $# -eq 0 ] || shift
    local options=(-s -X "$method" -w '\n%{http_code}' "${AUTH[@]}" "$@")
    [ -z "$json" ] || options+=(-H 'Content-Type: application/json' -d "$json")
    local response
    response=$(curl "${options[@]}" "$API$path") || true
    STATUS=${response##*$'\n'}
    BODY=${response%$'\n'*}
}
get() { jq -r "$1" <<<"$BODY"; }
# wait_for_order ID FILTER VALUE: polls the order until the jq FILTER returns VALUE, for at most WAIT_SECONDS.
wait_for_order() {
    local end=$((SECONDS + ${WAIT_SECONDS:-20}))
    while call GET "/v1/orders/$1"; [ "$(get "$2")" != "$3" ] && [ "$SECONDS" -lt "$end" ]; do sleep 0.2; done
}
# send_webhook ID TYPE ORDER [KEY]: sends a webhook of the shipper, signed according to Standard Webhooks.
send_webhook() {
    local timestamp body signature
    timestamp=$(date +%s)
    body=$(jq -nc --arg type "$2" --arg order "$3" \
        '{type: $type, timestamp: (now | todate), data: {order_id: $order, carrier: "DHL"}}')
    signature=$(printf '%s.%s.%s' "$1" "$timestamp" "$body" |
        openssl dgst -sha256 -mac HMAC -macopt "hexkey:${4:-$SECRET}" -binary | base64 -w0)
    call POST /webhooks/shipper "$body" -H "webhook-id: $1" -H "webhook-timestamp: $timestamp" -H "webhook-signature: v1,$signature"
}
stock_of() { call GET "/v1/products/$1"; get '.stock[0] | "\(.on_hand) on hand, \(.reserved) reserved"'; }

# order SKU QUANTITY PAYMENT_METHOD: the request body of an order of CUSTOMER.
order() { printf '{"customer_id":"%s","items":[{"sku":"%s","quantity":%s}],"payment_method":"%s"}' "$CUSTOMER" "$1" "$2" "$3"; }

# run_scenarios RUN: the common scenarios. RUN is a suffix that makes SKUs and webhook ids unique for each run.
run_scenarios() {
    RUN=$1
    local TSHIRT=TSHIRT$RUN LASTONE=LASTONE$RUN ID i buyers=
    section "A catalogue and a customer"
    call POST /v1/products '{"sku":"'$TSHIRT'","name":"T-shirt","price":1999,"currency":"EUR"}'
    expect "POST /v1/products" "$STATUS" 201
    call PUT "/v1/products/$TSHIRT/stock/berlin" '{"on_hand":100}'
    expect "PUT /v1/products/$TSHIRT/stock/berlin" "$STATUS" 200
    call POST /v1/products '{"sku":"'$LASTONE'","name":"A signed print","price":50000,"currency":"EUR"}'
    call PUT "/v1/products/$LASTONE/stock/berlin" '{"on_hand":1}'
    call POST /v1/customers '{"name":"Ada","email":"ada@example.com"}'
    expect "POST /v1/customers" "$STATUS" 201
    CUSTOMER=$(get .id)

    section "An order, from checkout to delivery"
    call POST /v1/orders "$(order "$TSHIRT" 2 pm_ok)"
    expect "POST /v1/orders: accepted, stock reserved" "$STATUS $(get .status)" "201 pending"
    ID=$(get .id)
    wait_for_order "$ID" '.status + " " + (.shipments[0].status // "")' "processing label_created"
    expect "payment authorized, shipping label created" "$(get '.status + " " + .payment.status + " " + .shipments[0].status')" "processing authorized label_created"
    send_webhook "msg-$RUN-1" shipment.shipped "$ID" "$(printf '00%.0s' $(seq 24))"
    expect "a forged webhook is refused" "$STATUS" 401
    send_webhook "msg-$RUN-2" shipment.shipped "$ID"
    expect "the shipper's webhook: shipped" "$STATUS" 200
    send_webhook "msg-$RUN-2" shipment.shipped "$ID"
    expect "the same webhook again is accepted without effect" "$STATUS" 200
    wait_for_order "$ID" .payment.status captured
    expect "shipped items are charged" "$(get '.status + " " + .payment.status')" "shipped captured"
    send_webhook "msg-$RUN-3" shipment.delivered "$ID"
    wait_for_order "$ID" .status delivered
    expect "the shipper's webhook: delivered" "$(get .status)" delivered
    expect "stock of T-shirts" "$(stock_of "$TSHIRT")" "98 on hand, 0 reserved"
    say "   its history:"
    call GET "/v1/orders/$ID/history"
    get '.data[] | "      \(.sequence | tostring | if length < 2 then " " + . else . end)  \(.time)  \(.type)  (\(.actor): \(.intent))"'

    section "The last unit, ordered by twenty customers at once"
    for i in $(seq 20); do
        curl -s "${AUTH[@]}" -o /dev/null -w '%{http_code}\n' -X POST "$API/v1/orders" -H 'Content-Type: application/json' -d "$(order "$LASTONE" 1 pm_ok)" >"$WORK/buyer-$i" &
        buyers="${buyers:-} $!"
    done
    # shellcheck disable=SC2086
    wait $buyers
    expect "201 Created" "$(cat "$WORK"/buyer-* | grep -c 201)" 1
    expect "409 OUT_OF_STOCK" "$(cat "$WORK"/buyer-* | grep -c 409)" 19

    section "A declined card"
    call POST /v1/orders "$(order "$TSHIRT" 1 pm_declined)"
    ID=$(get .id)
    wait_for_order "$ID" .status cancelled
    expect "the order is cancelled" "$(get '.status + ", " + .cancel_reason')" "cancelled, payment_declined"
    expect "its stock is released" "$(stock_of "$TSHIRT")" "98 on hand, 0 reserved"

    section "Cancelled while the payment is in progress"
    call POST /v1/orders "$(order "$TSHIRT" 1 pm_slow)"
    ID=$(get .id)
    sleep 1
    call POST "/v1/orders/$ID/cancel" '{"reason":"changed my mind"}'
    expect "POST /v1/orders/ID/cancel" "$STATUS $(get .status)" "200 cancelled"
    sleep 3
    wait_for_order "$ID" .payment.status voided
    expect "the late authorization is voided" "$(get '.status + ", " + .payment.status')" "cancelled, voided"
}

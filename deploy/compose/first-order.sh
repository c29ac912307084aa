#!/usr/bin/env bash
# Places one order and prints its progress. Idempotency keys make it the same order on every start.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh
AUTH=(-H "Authorization: Bearer $(key_of operator)")

say "placing the first order: a mug"
call POST /v1/products '{"sku":"MUG","name":"A mug","price":1250,"currency":"EUR"}'
[ "$STATUS" = 201 ] && call PUT /v1/products/MUG/stock/berlin '{"on_hand":1000}'
call POST /v1/customers '{"name":"Ada","email":"ada@example.com"}' -H "Idempotency-Key: first-customer"
CUSTOMER=$(get .id)
call POST /v1/orders "$(order MUG 1 pm_ok)" -H "Idempotency-Key: first-order"
[ "$STATUS" = 201 ] || { say "$BODY"; exit 1; }
ID=$(get .id)
last=
for _ in $(seq 300); do
    call GET "/v1/orders/$ID"
    now="order #$(get .number): $(get '.status + ", payment " + .payment.status + (if .shipments[0] then ", shipment " + .shipments[0].status else "" end)')"
    [ "$now" = "$last" ] || say "$now"
    last=$now
    [ "$(get .status)" != delivered ] || break
    sleep 0.3
done
say "its history: curl -H 'Authorization: Bearer KEY' http://127.0.0.1:8080/v1/orders/$ID/history"
say "the console: http://127.0.0.1:8080, with a key of deploy/compose/secrets/api_keys"

#!/usr/bin/env bash
# Runs the demo scenarios, then places orders until it is stopped.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh
AUTH=(-H "Authorization: Bearer $(key_of operator)")
SECRET=$(sed 's/^whsec_//' "$SHIPPER_WEBHOOK_SECRET_FILE" | base64 -d | od -An -v -tx1 | tr -d ' \n')

run_scenarios "-$(date +%s)"

say ""
say "Placing an order every ${TRICKLE_SECONDS:=3} seconds."
call POST /v1/products '{"sku":"TRICKLE","name":"Something small","price":499,"currency":"EUR"}'
METHODS=(pm_ok pm_ok pm_ok pm_slow pm_flaky pm_declined pm_timeout_after_charge)
placed=0
while :; do
    [ $((placed % 100)) != 0 ] || call PUT /v1/products/TRICKLE/stock/berlin '{"on_hand":100000}'
    method=${METHODS[RANDOM % ${#METHODS[@]}]}
    call POST /v1/orders "$(order TRICKLE $((RANDOM % 3 + 1)) "$method")"
    say "POST /v1/orders, $method: $STATUS $(get '.number // .code // empty' 2>/dev/null || true)"
    placed=$((placed + 1))
    sleep "$TRICKLE_SECONDS"
done

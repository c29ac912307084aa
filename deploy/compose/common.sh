# shellcheck shell=bash
# Sourced by the scripts beside it.
say() { printf '%s\n' "$*"; }
API=http://api-gateway:8080
# The key of a role.
key_of() { tr ';' '\n' <"$API_KEYS_FILE" | sed -n "s/^$1=//p"; }
WORK=$(mktemp -d)
unhappy() { say "The other services' logs tell more."; }
. /opt/orders/story.sh

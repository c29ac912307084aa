# shellcheck shell=bash
# Sourced by the other scripts in this folder.
say() { printf '%s\n' "$*"; }
API=http://api-gateway:8080
# key_of ROLE: its API key.
key_of() { tr ';' '\n' <"$API_KEYS_FILE" | sed -n "s/^$1=//p"; }
WORK=$(mktemp -d)
on_failure() { say "See the logs of the other services for the cause."; }
. /opt/orders/story.sh

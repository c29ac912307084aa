#!/usr/bin/env bash
# Runs all tests on private servers.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: scripts/test.sh [FILTER]

Runs every test (or those whose name contains FILTER) against a private RabbitMQ and a private
PostgreSQL on free ports, with all data in a temporary folder. The end-to-end tests run once on SQLite
and once on PostgreSQL (STORES="sqlite postgres"; the console in a browser with the first only), and the
flows with payments once more with localstripe as the payment provider (PROVIDER=none skips this).
Running servers are neither needed nor affected.

Installs missing tools: RabbitMQ, PostgreSQL, PgBouncer, Chromium, Python and pip from the distribution's
packages, and the Python packages of scripts/test-requirements.txt into a folder under target/.
Uses cargo nextest if it is installed, else cargo test.

Runs from a clone, a shallow clone or an unpacked source archive. Without the history of the repository
the tests of two versions on one database are skipped; a message says so at the beginning and at the end.
EOF
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."
. scripts/lib.sh
make_work_folder

need_rust
need_rabbitmq
need_postgres
need_pgbouncer
command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || apt_install python3 python3-pip

# The console is tested in a browser.
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
if [ -z "$CHROMIUM" ]; then
    apt_install chromium
    CHROMIUM=$(command -v chromium)
fi
export CHROMIUM

# Independent clients in Python: AMQP, webhooks, OpenAPI, browser automation.
export TEST_PYTHONPATH="$PWD/target/test-python"
if ! cmp -s scripts/test-requirements.txt "$TEST_PYTHONPATH/installed.txt"; then
    say "installing Python packages ..."
    rm -rf "$TEST_PYTHONPATH"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --target "$TEST_PYTHONPATH" -r scripts/test-requirements.txt
    cp scripts/test-requirements.txt "$TEST_PYTHONPATH/installed.txt"
fi

# The tests of two versions on one database need the previous version, which is built from its commit. A source
# archive and a shallow clone do not contain it; then these tests are skipped with a message.
if need_previous_worker; then
    export TEST_PREVIOUS_WORKER="$PREVIOUS_WORKER"
else
    SKIPPED="the tests of two versions on one database: the previous version, $(cat scripts/previous-version), is not available
    (in a clone: git fetch --unshallow --tags)"
    say "SKIPPED: $SKIPPED" >&2
    export TEST_PREVIOUS_WORKER=none
fi

say "building ..."
cargo build --quiet --workspace --tests --bins

start_rabbitmq "$WORK/rabbitmq"

# Each test uses its own vhost. The broker creates them in the background, twenty more than are in use: a vhost takes
# it a quarter of a second. The file vhost-ready-N says that vhost tN exists, the folder vhost-N that a test uses it.
(. "$WORK/rabbitmq/env"
exec rabbitmqctl --quiet eval "
    File = fun(Name, N) -> \"$WORK/\" ++ Name ++ integer_to_list(N) end,
    Create = fun Create(N) ->
        case N =< 20 orelse filelib:is_dir(File(\"vhost-\", N - 20)) of
            true ->
                Name = list_to_binary(\"t\" ++ integer_to_list(N)),
                ok = rabbit_vhost:add(Name, <<\"test\">>),
                ok = rabbit_auth_backend_internal:set_permissions(
                    <<\"guest\">>, Name, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"test\">>),
                ok = file:write_file(File(\"vhost-ready-\", N), <<>>),
                Create(N + 1);
            false ->
                timer:sleep(50),
                Create(N)
        end
    end,
    Create(1).") >"$WORK/vhosts.log" 2>&1 &
STARTED="$STARTED $!"

start_postgres "$WORK/postgres"

export TEST_AMQP_PORT=$RABBITMQ_PORT TEST_FOLDER="$WORK" TEST_LIB="$PWD/scripts/lib.sh"
export TEST_POSTGRES_PORT=$POSTGRES_PORT TEST_POSTGRES_BIN="$POSTGRES_BIN"

# run CARGO-OPTIONS -- FILTER...
run() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --no-fail-fast "$@"
    else
        cargo test --no-fail-fast "$@"
    fi
}
failed=
tests=--workspace
skip=
for store in ${STORES:-sqlite postgres}; do
    say "testing with $store ..."
    # shellcheck disable=SC2086
    TEST_STORE=$store run $tests "$@" $skip || failed="$failed $store"
    # The first run has covered the tests that use no store, and the console in a browser.
    tests='--workspace --test e2e'
    [ $# != 0 ] || skip='-- --skip console'
done
# The order flows with Stripe as the payment provider, simulated by localstripe.
if [ $# = 0 ] && [ "${PROVIDER:-stripe}" = stripe ]; then
    say "testing with stripe ..."
    # Outages of the broker have nothing to do with the provider; one of them is enough here.
    flows="approval:: broker::broker_restart_and_kill idempotency:: import:: kills:: order_sequences:: orders::
        races:: refunds:: shipments:: webhooks::"
    # A filter matches within names: orders:: would add upgrade_orders::, whose amounts are those of the sandbox, and
    # the orders in the console.
    # shellcheck disable=SC2086
    TEST_PROVIDER=stripe TEST_STORE=sqlite run --workspace --test e2e -- $flows --skip order_races:: \
        --skip upgrade_orders:: --skip console || failed="$failed stripe"
fi
[ -z "${SKIPPED:-}" ] || say "SKIPPED: $SKIPPED" >&2
[ -z "$failed" ] || die "tests failed with:$failed"

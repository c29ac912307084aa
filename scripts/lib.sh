# Sourced by the other scripts and by the tests: private servers on free ports, with data in a temporary folder.
# `stop_all` stops everything that was started here; other processes are not affected.

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# make_work_folder: sets WORK to a temporary folder. At exit, it is deleted and all servers are stopped.
make_work_folder() {
    WORK=$(mktemp -d)
    # PostgreSQL runs as another user, which must reach its subfolder.
    chmod 711 "$WORK"
    trap 'stop_all; rm -rf "$WORK"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# as_root COMMAND...: runs the command as root, with sudo if necessary.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "need root (or sudo) to run: $*"; fi
}

# apt_install PACKAGE...: installs packages of the distribution without starting their services.
apt_install() {
    command -v apt-get >/dev/null || die "please install: $*"
    say "installing $* ..."
    # Keeps packages from starting a server on a standard port.
    local policy=/usr/sbin/policy-rc.d made_policy=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod +x "$policy"
        made_policy=1
    fi
    local log="${WORK:-/tmp}/apt.log" failed=
    { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } \
        >"$log" 2>&1 || failed=1
    [ -z "$made_policy" ] || as_root rm -f "$policy"
    [ -z "$failed" ] || { tail -5 "$log" >&2; die "could not install $*"; }
}

# need_rust: requires the Rust toolchain, and a C toolchain for SQLite and the allocator.
need_rust() {
    command -v cargo >/dev/null || die "a Rust toolchain (cargo) is required"
    command -v cc >/dev/null && command -v make >/dev/null || apt_install build-essential
}

# need_previous_worker: builds the worker of the previous version (scripts/previous-version) in a debug build, and sets
# PREVIOUS_WORKER. Fails in a source archive and a shallow clone, which do not contain its commit. Needs WORK.
need_previous_worker() {
    local version
    version=$(cat scripts/previous-version)
    PREVIOUS_WORKER="$PWD/target/previous/order-worker"
    [ "$(cat target/previous/version 2>/dev/null)" != "$version" ] || return 0
    mkdir -p "$WORK/previous" target/previous
    # An unpacked archive has no .git here: do not use a repository in a parent folder.
    [ -e .git ] && git archive "$version" 2>/dev/null | tar -x -C "$WORK/previous" 2>/dev/null || return 1
    say "building the previous version ($version) ..."
    (cd "$WORK/previous" && env -u RUSTC_WORKSPACE_WRAPPER CARGO_TARGET_DIR="$OLDPWD/target" \
        cargo build --quiet --locked --workspace --bin order-worker) || die "can't build the previous version"
    mv target/debug/order-worker "$PREVIOUS_WORKER"
    printf '%s\n' "$version" >target/previous/version
}

need_rabbitmq() {
    # The wrappers in /usr/sbin require the user rabbitmq; the scripts in this folder run as the current user.
    PATH="/usr/lib/rabbitmq/bin:$PATH:/usr/sbin"
    command -v rabbitmq-server >/dev/null || apt_install rabbitmq-server
}

# free_port: sets PORT to a free TCP port and reserves it against other callers of this function.
free_port() {
    local port
    while :; do
        # Below the kernel's range of ports for outgoing connections.
        port=$((10240 + RANDOM % 20000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null &&
            mkdir "${TMPDIR:-/tmp}/orders-port-$port" 2>/dev/null; then
            RESERVED_PORTS="${RESERVED_PORTS:-} $port"
            PORT=$port
            return
        fi
    done
}

# prepare_rabbitmq FOLDER: configures a private broker without starting it; sets RABBITMQ_PORT. Source FOLDER/env
# to use tools such as rabbitmqctl with it.
prepare_rabbitmq() {
    local folder=$1 ports
    mkdir -p "$folder"
    free_port; RABBITMQ_PORT=$PORT; ports=$PORT
    free_port; local dist_port=$PORT; ports="$ports $PORT"
    free_port; local epmd_port=$PORT; ports="$ports $PORT"
    printf '%s\n' "$ports" >"$folder/ports"
    cat >"$folder/rabbitmq.conf" <<EOF
listeners.tcp.1 = 127.0.0.1:$RABBITMQ_PORT
log.console = false
log.file.level = warning
disk_free_limit.absolute = 100MB
# The default of RabbitMQ 4; that of 3.10 is eight times as large.
max_message_size = 16777216
EOF
    cat >"$folder/env" <<EOF
export HOME='$folder'
export ERL_EPMD_PORT=$epmd_port ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_NODENAME=orders-$RABBITMQ_PORT@localhost
export RABBITMQ_DIST_PORT=$dist_port
export ERL_CRASH_DUMP='$folder/erl_crash.dump'
export RABBITMQ_CONFIG_FILE='$folder/rabbitmq.conf'
export RABBITMQ_CONF_ENV_FILE='$folder/none'
export RABBITMQ_MNESIA_BASE='$folder/data'
export RABBITMQ_LOG_BASE='$folder/log'
export RABBITMQ_ENABLED_PLUGINS_FILE='$folder/none'
# Idle schedulers sleep instead of busy-waiting on cores that the tests need.
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+sbwt none +sbwtdcpu none +sbwtdio none'
EOF
}

# run_rabbitmq FOLDER: replaces the current process by the broker. NOTIFY_SOCKET makes the start script exec the
# server, so that signals reach the server itself.
run_rabbitmq() {
    . "$1/env"
    need_rabbitmq
    NOTIFY_SOCKET=/dev/null exec rabbitmq-server
}

# forget_rabbitmq FOLDER: after the broker has stopped, stops its epmd and releases its ports.
forget_rabbitmq() {
    [ -e "$1/ports" ] || return 0
    local ports port
    read -r ports <"$1/ports"
    (. "$1/env"; epmd -kill >/dev/null 2>&1) || true
    for port in $ports; do rmdir "${TMPDIR:-/tmp}/orders-port-$port" 2>/dev/null || true; done
}

# start_rabbitmq FOLDER: starts a private broker; sets RABBITMQ_PORT.
start_rabbitmq() {
    prepare_rabbitmq "$1"
    (run_rabbitmq "$1") >"$1/out.log" 2>&1 &
    STARTED="${STARTED:-} $!"
    RABBITMQ_FOLDERS="${RABBITMQ_FOLDERS:-} $1"
    wait_for "the private RabbitMQ" 90 amqp_answers "$RABBITMQ_PORT" || { tail -20 "$1/out.log" >&2; die "RabbitMQ did not start"; }
}

# amqp_answers PORT: succeeds if a broker answers there. A broker answers an invalid protocol header with its own.
amqp_answers() {
    local greeting
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'AMQP\0\0\0\0' >&3
    IFS= read -r -t 5 -N 4 greeting <&3
    exec 3>&-
    [ "$greeting" = AMQP ]
} 2>/dev/null

# need_postgres: sets POSTGRES_BIN to the programs of the newest installed PostgreSQL.
need_postgres() {
    find_postgres || { apt_install postgresql; find_postgres; } || die "please install PostgreSQL"
}

find_postgres() {
    local bin
    POSTGRES_BIN=
    for bin in "$(dirname "$(readlink -f "$(command -v initdb || echo .)")")" \
        $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V); do
        if [ -x "$bin/initdb" ] && [ -x "$bin/pg_isready" ]; then POSTGRES_BIN=$bin; fi
    done
    [ -n "$POSTGRES_BIN" ]
}

# as_postgres COMMAND...: replaces the current process by the command; as the user postgres if it is root, which
# PostgreSQL refuses.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        exec setpriv --reuid=postgres --regid=postgres --clear-groups env HOME=/tmp "$@"
    fi
    exec "$@"
}

# prepare_postgres FOLDER: configures a private server without starting it, with the superuser "orders" and no
# password, on loopback only; sets POSTGRES_PORT.
prepare_postgres() {
    local folder=$1
    mkdir -p "$folder"
    if [ "$(id -u)" = 0 ]; then chown postgres:postgres "$folder"; fi
    free_port; POSTGRES_PORT=$PORT
    printf '%s\n' "$PORT" >"$folder/port"
    (as_postgres "$POSTGRES_BIN/initdb" --pgdata="$folder/data" --username=orders --auth=trust \
        --encoding=UTF8 --locale=C.UTF-8 --no-sync) >"$folder/initdb.log" 2>&1 ||
        { tail -5 "$folder/initdb.log" >&2; die "cannot create a PostgreSQL database"; }
    cat >>"$folder/data/postgresql.conf" <<EOF
listen_addresses = '127.0.0.1'
port = $POSTGRES_PORT
unix_socket_directories = '$folder'
max_connections = 300
EOF
}

# run_postgres FOLDER: replaces the current process by the server.
run_postgres() {
    as_postgres "$POSTGRES_BIN/postgres" -D "$1/data"
}

# forget_postgres FOLDER: releases its port.
forget_postgres() {
    [ -e "$1/port" ] || return 0
    rmdir "${TMPDIR:-/tmp}/orders-port-$(cat "$1/port")" 2>/dev/null || true
}

# start_postgres FOLDER: starts a private server; sets POSTGRES_PORT.
start_postgres() {
    prepare_postgres "$1"
    (run_postgres "$1") >"$1/out.log" 2>&1 &
    STARTED="${STARTED:-} $!"
    wait_for "the private PostgreSQL" 60 postgres_answers "$POSTGRES_PORT" ||
        { tail -20 "$1/out.log" >&2; die "PostgreSQL did not start"; }
}

postgres_answers() {
    "$POSTGRES_BIN/pg_isready" --quiet --host=127.0.0.1 --port="$1"
}

need_pgbouncer() {
    PATH="$PATH:/usr/sbin"
    command -v pgbouncer >/dev/null || apt_install pgbouncer
}

# prepare_pgbouncer FOLDER POSTGRES_PORT MODE: configures a private connection pooler for that server, in this
# pool mode, without starting it; sets PGBOUNCER_PORT.
prepare_pgbouncer() {
    local folder=$1
    mkdir -p "$folder"
    if [ "$(id -u)" = 0 ]; then chown postgres:postgres "$folder"; fi
    free_port; PGBOUNCER_PORT=$PORT
    printf '%s\n' "$PORT" >"$folder/port"
    cat >"$folder/pgbouncer.ini" <<EOF
[databases]
* = host=127.0.0.1 port=$2 user=orders
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $PGBOUNCER_PORT
unix_socket_dir =
auth_type = any
pool_mode = $3
max_client_conn = 300
default_pool_size = 60
EOF
}

# run_pgbouncer FOLDER: replaces the current process by the pooler. PgBouncer refuses root, like PostgreSQL.
run_pgbouncer() {
    need_pgbouncer
    as_postgres "$(command -v pgbouncer)" --quiet "$1/pgbouncer.ini"
}

# forget_pgbouncer FOLDER: releases its port.
forget_pgbouncer() { forget_postgres "$1"; }

# wait_for NAME SECONDS COMMAND...: repeats the command until it succeeds; fails after SECONDS.
wait_for() {
    local name=$1 seconds=$2; shift 2
    local end=$((SECONDS + seconds))
    until ("$@") 2>/dev/null; do
        [ "$SECONDS" -lt "$end" ] || { say "$name did not start within $seconds s" >&2; return 1; }
        sleep 0.2
    done
}

# stop PID...: sends SIGTERM, waits up to 15 s, then sends SIGKILL.
stop() {
    local pid
    for pid in "$@"; do kill "$pid" 2>/dev/null || true; done
    for pid in "$@"; do
        for _ in $(seq 1 150); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}

stop_all() {
    local pid pids='' folder port
    # In reverse order of their start.
    for pid in ${STARTED:-}; do pids="$pid $pids"; done
    [ -z "$pids" ] || stop $pids
    for folder in ${RABBITMQ_FOLDERS:-}; do forget_rabbitmq "$folder"; done
    for port in ${RESERVED_PORTS:-}; do rmdir "${TMPDIR:-/tmp}/orders-port-$port" 2>/dev/null || true; done
    STARTED='' RABBITMQ_FOLDERS='' RESERVED_PORTS=''
}

# Sourced by the scripts beside it: private servers on free ports, data in a temporary folder.
# Everything that is started here is stopped by `stop_all`, and nothing else is touched.

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# as_root COMMAND...: for installing packages.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "need root (or sudo) to run: $*"; fi
}

# apt_install PACKAGE...: from the distribution's packages, without starting any service.
apt_install() {
    command -v apt-get >/dev/null || die "please install: $*"
    say "installing $* ..."
    # A package must not start a server on a standard port: ours are private.
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

need_rabbitmq() {
    # The scripts in /usr/sbin insist on the user rabbitmq; these run as whoever calls them.
    PATH="/usr/lib/rabbitmq/bin:$PATH:/usr/sbin"
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null || apt_install rabbitmq-server
}

# free_port: a TCP port nobody listens on, and that no other caller of this function was given.
free_port() {
    local port
    while :; do
        # Below the range that the kernel gives to outgoing connections.
        port=$((10240 + RANDOM % 20000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null &&
            mkdir "${TMPDIR:-/tmp}/orders-port-$port" 2>/dev/null; then
            RESERVED_PORTS="${RESERVED_PORTS:-} $port"
            PORT=$port
            return
        fi
    done
}

# start_rabbitmq FOLDER: a broker of our own; sets RABBITMQ_PORT, RABBITMQ_PID and RABBITMQ_ENV_FILE,
# which tools such as rabbitmqctl can source to reach it.
start_rabbitmq() {
    local folder=$1 server=/usr/lib/rabbitmq/bin/rabbitmq-server
    [ -x "$server" ] || server=rabbitmq-server
    mkdir -p "$folder"
    free_port; RABBITMQ_PORT=$PORT
    free_port; local dist_port=$PORT
    free_port; local epmd_port=$PORT
    RABBITMQ_ENV_FILE="$folder/env"
    printf 'listeners.tcp.1 = 127.0.0.1:%s\nloopback_users.guest = true\nlog.console = false\nlog.file.level = warning\ndisk_free_limit.absolute = 100MB\n' \
        "$RABBITMQ_PORT" >"$folder/rabbitmq.conf"
    cat >"$RABBITMQ_ENV_FILE" <<EOF
export HOME='$folder'
export ERL_EPMD_PORT=$epmd_port
export ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_NODENAME=orders-$RABBITMQ_PORT@localhost
export RABBITMQ_DIST_PORT=$dist_port
export RABBITMQ_CONFIG_FILE='$folder/rabbitmq.conf'
export RABBITMQ_CONF_ENV_FILE='$folder/none'
export RABBITMQ_MNESIA_BASE='$folder/data'
export RABBITMQ_LOG_BASE='$folder/log'
export RABBITMQ_ENABLED_PLUGINS_FILE='$folder/none'
export RABBITMQ_PID_FILE='$folder/pid'
EOF
    ( . "$RABBITMQ_ENV_FILE"; exec "$server" ) >"$folder/out.log" 2>&1 &
    RABBITMQ_PID=$!
    STARTED="${STARTED:-} $RABBITMQ_PID"
    EPMD_PORTS="${EPMD_PORTS:-} $epmd_port"
    wait_for "the private RabbitMQ" 90 amqp_answers "$RABBITMQ_PORT" || { tail -20 "$folder/out.log" >&2; die "RabbitMQ did not start"; }
}

# amqp_answers PORT: whether a broker greets there. A wrong greeting is answered with the right one.
amqp_answers() {
    local greeting
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'AMQP\0\0\0\0' >&3
    IFS= read -r -t 5 -N 4 greeting <&3
    exec 3>&-
    [ "$greeting" = AMQP ]
} 2>/dev/null

# wait_for WHAT SECONDS COMMAND...
wait_for() {
    local what=$1 seconds=$2; shift 2
    local end=$((SECONDS + seconds))
    until ("$@") 2>/dev/null; do
        [ "$SECONDS" -lt "$end" ] || { say "$what did not come up within $seconds s" >&2; return 1; }
        sleep 0.2
    done
}

# stop PID...: asks, waits, insists.
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
    local port
    # The last started first.
    local pids=
    for pid in ${STARTED:-}; do pids="$pid $pids"; done
    [ -z "$pids" ] || stop $pids
    STARTED=
    for port in ${EPMD_PORTS:-}; do
        ERL_EPMD_PORT=$port ERL_EPMD_ADDRESS=127.0.0.1 epmd -kill >/dev/null 2>&1 || true
    done
    EPMD_PORTS=
    for port in ${RESERVED_PORTS:-}; do rmdir "${TMPDIR:-/tmp}/orders-port-$port" 2>/dev/null || true; done
    RESERVED_PORTS=
}

#!/usr/bin/env bash
# What is in deploy/ is what those say who defined it.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: scripts/deploy-check.sh

Checks deploy/ and docker-compose.yml:
- every Kubernetes object against the schemas of Kubernetes, KEDA and CloudNativePG; the RabbitMQ
  operator's object is only read, because its schema is in no package,
- the kustomizations, if kubectl is installed: they are built, and what comes out is checked,
- Prometheus' configuration, the alert rules, and that each fires when it is to, by promtool,
- the dashboard's queries by promtool, and that they and the alerts name metrics that docs/OPERATIONS.md
  lists, and that each alert has its paragraph there,
- docker-compose.yml, if docker compose (or docker-compose) is installed.

Installs what is missing: promtool (Debian's prometheus, which is not started), Node.js, Python
packages and npm packages into folders under target/.
EOF
}

case ${1:-} in
    "") ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."
. scripts/lib.sh
make_work_folder

command -v promtool >/dev/null || apt_install prometheus
command -v npm >/dev/null || apt_install nodejs npm
command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || apt_install python3 python3-pip

TOOLS="$PWD/target/deploy-check"
PYTHON_PACKAGES="kubernetes-validate==1.37.0 PyYAML==6.0.3"
NPM_PACKAGES="@kubernetes-models/keda@2.0.0 @kubernetes-models/cloudnative-pg@2.0.0"
if [ "$(cat "$TOOLS/installed.txt" 2>/dev/null)" != "$PYTHON_PACKAGES $NPM_PACKAGES" ]; then
    say "installing schemas ..."
    rm -rf "$TOOLS"
    mkdir -p "$TOOLS"
    # shellcheck disable=SC2086
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --target "$TOOLS/python" $PYTHON_PACKAGES
    # shellcheck disable=SC2086
    (cd "$TOOLS" && echo '{"private": true}' >package.json && npm install --silent --no-audit --no-fund $NPM_PACKAGES)
    printf '%s' "$PYTHON_PACKAGES $NPM_PACKAGES" >"$TOOLS/installed.txt"
fi

export PYTHONPATH="$TOOLS/python" TOOLS
python3 scripts/deploy_check.py objects deploy/kubernetes/base/*.yaml deploy/kubernetes/autoscaling/*.yaml \
    deploy/kubernetes/example/*.yaml
if command -v kubectl >/dev/null; then
    for folder in base example; do
        kubectl kustomize "deploy/kubernetes/$folder" >"$WORK/$folder.yaml"
        python3 scripts/deploy_check.py objects "$WORK/$folder.yaml"
    done
else
    say "kubectl is not installed: the kustomizations were not built"
fi

promtool check config --syntax-only deploy/observability/prometheus.yml
promtool check rules deploy/observability/alerts.yml
promtool test rules deploy/observability/alerts.test.yml
python3 scripts/deploy_check.py queries "$WORK/queries.yml"
promtool check rules "$WORK/queries.yml"

if docker compose version >/dev/null 2>&1; then
    docker compose --profile demo --profile observability config --quiet
    say "docker-compose.yml: read by docker compose"
elif command -v docker-compose >/dev/null; then
    docker-compose --profile demo --profile observability config --quiet
    say "docker-compose.yml: read by docker-compose"
else
    say "docker compose is not installed: docker-compose.yml was not read"
fi
say "deploy/ is as it should be"

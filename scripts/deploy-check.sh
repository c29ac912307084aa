#!/usr/bin/env bash
# Validates deploy/ and docker-compose.yml.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: scripts/deploy-check.sh

Validates deploy/ and docker-compose.yml:
- each Kubernetes object against the schemas of Kubernetes, KEDA and CloudNativePG; the object of the
  RabbitMQ operator is only parsed, because no package contains its schema,
- the kustomizations, if kubectl is installed: builds them and validates the result,
- the Prometheus configuration and the alert rules, including when each alert fires, with promtool,
- the dashboard's queries with promtool; every metric in queries and alerts must be listed in
  docs/OPERATIONS.md, and every alert must have a section there,
- docker-compose.yml, if docker compose (or docker-compose) is installed.

Installs missing tools: promtool (from the prometheus package, without starting its service), Node.js,
and Python and npm packages into folders under target/.
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
    say "SKIPPED: kubectl is not installed; the kustomizations were not built"
fi

promtool check config --syntax-only deploy/observability/prometheus.yml
promtool check rules deploy/observability/alerts.yml
promtool test rules deploy/observability/alerts.test.yml
python3 scripts/deploy_check.py queries "$WORK/queries.yml"
promtool check rules "$WORK/queries.yml"

if docker compose version >/dev/null 2>&1; then
    docker compose --profile demo --profile observability config --quiet
    say "docker-compose.yml: valid (docker compose)"
elif command -v docker-compose >/dev/null; then
    docker-compose --profile demo --profile observability config --quiet
    say "docker-compose.yml: valid (docker-compose)"
else
    say "SKIPPED: docker compose is not installed; docker-compose.yml was not validated"
fi
say "deploy/ is valid"

"""The parts of scripts/deploy-check.sh that parse YAML and JSON.

objects FILE...  validates each Kubernetes object in the files against its schema
queries FILE     writes the dashboard's queries to FILE as recording rules; checks that docs/OPERATIONS.md lists
                 every metric and has a section for every alert
"""

import json
import os
import re
import subprocess
import sys

import yaml

KUBERNETES = "1.34"
# Custom resources: the npm module with their schemas. None: no package contains the schema.
CUSTOM = {
    "keda.sh/v1alpha1": "@kubernetes-models/keda/keda.sh/v1alpha1",
    "postgresql.cnpg.io/v1": "@kubernetes-models/cloudnative-pg/postgresql.cnpg.io/v1",
    "rabbitmq.com/v1beta1": None,
}
VALIDATE = """
import {readFileSync} from "node:fs";
const {module, kind, object} = JSON.parse(readFileSync(0));
const Model = (await import(module))[kind];
if (!Model) throw new Error(`${module} has no ${kind}`);
new Model(object).validate();
"""


def objects(files):
    import kubernetes_validate

    checked, without_schema = 0, 0
    for file in files:
        with open(file) as text:
            documents = [document for document in yaml.safe_load_all(text) if document]
        for document in documents:
            version, kind = document["apiVersion"], document["kind"]
            name = f"{file}: {kind} {document.get('metadata', {}).get('name')}"
            if version.startswith("kustomize.config.k8s.io/"):
                continue
            if version in CUSTOM:
                module = CUSTOM[version]
                if module is None:
                    without_schema += 1
                    continue
                request = json.dumps({"module": module, "kind": kind, "object": document})
                result = subprocess.run(
                    ["node", "--input-type=module", "-e", VALIDATE],
                    input=request,
                    text=True,
                    capture_output=True,
                    cwd=os.environ["TOOLS"],
                )
                if result.returncode != 0:
                    sys.exit(f"{name}: {result.stderr}")
            else:
                try:
                    kubernetes_validate.validate(document, KUBERNETES, strict=True)
                except kubernetes_validate.ValidationError as error:
                    sys.exit(f"{name}: {error}")
            checked += 1
    if checked == 0:
        sys.exit("no Kubernetes object was validated")
    print(f"{checked} Kubernetes objects are valid; {without_schema} have no schema")


def queries(file):
    with open("docs/OPERATIONS.md") as text:
        documentation = text.read()
    with open("deploy/observability/dashboard.json") as text:
        dashboard = json.load(text)
    with open("deploy/observability/alerts.yml") as text:
        alerts = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = [{"record": f"query:{index}", "expr": query} for index, query in enumerate(shown)]
    with open(file, "w") as text:
        yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}, text)

    # Metric names are followed by a selector, or stand alone.
    known = set(re.findall(r"`([a-z_]+)`", documentation)) | {"up"}
    for query in shown + [rule["expr"] for rule in alerts]:
        selectors = re.sub(r"\{[^}]*\}|by \([^)]*\)", "", query)
        for name in re.findall(r"[a-z]+(?:_[a-z]+)+|\bup\b|\borders\b", selectors):
            name = re.sub(r"_bucket$", "", name)
            if name not in known | {"histogram_quantile"}:
                sys.exit(f"{query}: docs/OPERATIONS.md does not list the metric {name}")
    for rule in alerts:
        name = rule["alert"]
        if f"### {name}\n" not in documentation:
            sys.exit(f"docs/OPERATIONS.md has no section '### {name}' for the alert {name}")
        if rule["annotations"]["runbook"] != f"docs/OPERATIONS.md#{name.lower()}":
            sys.exit(f"{name}: the runbook annotation must be docs/OPERATIONS.md#{name.lower()}")
    print(f"{len(shown)} queries and {len(alerts)} alerts use documented metrics")


if __name__ == "__main__":
    {"objects": lambda: objects(sys.argv[2:]), "queries": lambda: queries(sys.argv[2])}[sys.argv[1]]()

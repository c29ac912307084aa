"""Parses metrics with the Prometheus client library: metrics.py < TEXT prints one sample per line."""

import sys

from prometheus_client.parser import text_string_to_metric_families

for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
        print(sample.name, labels or "-", float(sample.value))

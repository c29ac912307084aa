"""rotel_collector.py URL LOG: runs Rotel, a third-party OpenTelemetry collector, which forwards traces to the OTLP
receiver at URL and writes its log to LOG.

Prints the port on which it receives OTLP over HTTP."""

import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import python_program

PR_SET_PDEATHSIG = 1
url, log = sys.argv[1:]
agent = Path(importlib.util.find_spec("rotel").origin).parent / "rotel-agent"
command = [
    agent, "start", "--otlp-http-endpoint", "127.0.0.1:0",
    # Rotel tells its listeners apart by their configured addresses.
    "--otlp-grpc-endpoint", "127.0.0.2:0",
    "--exporter", "otlp", "--otlp-exporter-endpoint", url, "--otlp-exporter-protocol", "http", "--batch-timeout", "50ms",
]  # fmt: skip


def end_with_this_process():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def link_target(file):
    """The target of a symbolic link; None if the file was closed meanwhile."""
    try:
        return os.readlink(file)
    except FileNotFoundError:
        return None


def listening_port(pid):
    """The port on 127.0.0.1 that the process listens on; None if it does not listen yet."""
    sockets = {link_target(file) for file in Path(f"/proc/{pid}/fd").iterdir()}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_, inode = line.split()[:10]
        address, port = local.split(":")
        if address == "0100007F" and state == "0A" and f"socket:[{inode}]" in sockets:
            return int(port, 16)
    return None


python_program.end_with_parent()
with open(log, "wb") as output:
    process = subprocess.Popen(command, stdout=output, stderr=output, preexec_fn=end_with_this_process)
while not (port := listening_port(process.pid)):
    if process.poll() is not None:
        sys.exit(Path(log).read_text())
    time.sleep(0.02)
print(port, flush=True)
process.wait()

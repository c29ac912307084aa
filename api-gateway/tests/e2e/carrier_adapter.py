"""Runs the example adapter of docs/CARRIER.md as it stands there, on a port chosen by the system. Prints the port,
then each request."""

import os
import sys
from http.server import HTTPServer

import python_program

python_program.end_with_parent()
document, os.environ["CARRIER_SECRET"], os.environ["LABELS"] = sys.argv[1:]
os.environ["PORT"] = "0"
serve_forever = HTTPServer.serve_forever


def announce_port(server):
    print(server.server_port, flush=True)
    serve_forever(server)


HTTPServer.serve_forever = announce_port
with open(document, encoding="utf-8") as file:
    example = file.read().split("```python\n")[1].split("```")[0]
exec(compile(example, document, "exec"), {"__name__": "__main__"})

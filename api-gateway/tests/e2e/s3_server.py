"""An S3-compatible server with one bucket: https://docs.getmoto.org. Listens on the given port, or on one chosen by
the system, and prints it."""

import logging
import sys
import threading
import urllib.request

import peer
from moto.server import ThreadedMotoServer

peer.end_with_parent()
logging.getLogger("werkzeug").setLevel(logging.ERROR)
port, bucket = sys.argv[1:]
server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(port), verbose=False)
server.start()
port = server.get_host_and_port()[1]
request = urllib.request.Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT")
urllib.request.urlopen(request).close()
print(port, flush=True)
threading.Event().wait()

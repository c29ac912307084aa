"""An S3-compatible server with one bucket: https://docs.getmoto.org. Listens on the given port, or on one chosen by
the system, and prints it. After SIGUSR1 all stored objects look two hours older than they are."""

import datetime
import logging
import signal
import sys
import threading
import urllib.request

import python_program
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer



def age_objects(_signal, _frame):
    """Makes all stored objects look two hours older than they are."""
    for account in s3_backends.values():
        for backend in account.values():
            for bucket in backend.buckets.values():
                for key in bucket.keys.values():
                    key.last_modified -= datetime.timedelta(hours=2)


python_program.end_with_parent()
signal.signal(signal.SIGUSR1, age_objects)
logging.getLogger("werkzeug").setLevel(logging.ERROR)
port, bucket = sys.argv[1:]
server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(port), verbose=False)
server.start()
port = server.get_host_and_port()[1]
request = urllib.request.Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT")
urllib.request.urlopen(request).close()
print(port, flush=True)
threading.Event().wait()

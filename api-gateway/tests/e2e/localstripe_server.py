"""localstripe_server.py PORT: Stripe as localstripe knows it, without the file that it keeps in /tmp."""

import sys

import peer
from localstripe import resources

peer.end_with_parent()
resources.Store.dump_to_disk = lambda self: None
sys.argv = ["localstripe", "--from-scratch", "--port", sys.argv[1]]

from localstripe.server import start  # noqa: E402

start()

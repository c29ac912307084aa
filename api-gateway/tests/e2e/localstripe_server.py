"""Runs localstripe, a simulation of Stripe, without its file in /tmp. Prints the port that it listens on."""

import logging
import socket

import python_program
from aiohttp import web
from localstripe import resources
from localstripe.server import app

python_program.end_with_parent()
resources.Store.dump_to_disk = lambda self: None

# Stripe reports the captured amount of a payment, which localstripe leaves out:
# https://docs.stripe.com/api/payment_intents/object#payment_intent_object-amount_received
capture = resources.Charge._capture


def capture_and_count(charge, amount=None, on_success=None):
    def succeeded():
        charge.amount_captured = charge.amount if amount is None else int(amount)
        if on_success:
            on_success()

    capture(charge, amount, succeeded)


resources.Charge._capture = capture_and_count
resources.PaymentIntent.amount_received = property(lambda intent: getattr(intent.latest_charge, "amount_captured", 0))

# Like localstripe.server.start, but on a port chosen by the system: a free port that was looked up before could be
# in use by now.
listening = socket.create_server(("127.0.0.1", 0))
access = logging.getLogger("aiohttp.access")
access.setLevel(logging.DEBUG)
access.addHandler(logging.StreamHandler())
print(listening.getsockname()[1], flush=True)
web.run_app(app, sock=listening, access_log=access, print=None)

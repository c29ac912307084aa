"""Verifies a signed request with the standardwebhooks package: reads {secret, headers, body} from standard input."""

import json
import sys

from standardwebhooks.webhooks import Webhook

request = json.load(sys.stdin)
Webhook(request["secret"]).verify(request["body"], request["headers"])
print("verified")

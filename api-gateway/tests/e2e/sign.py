"""Signs a webhook with the standardwebhooks package: prints timestamp and signature."""

import sys
from datetime import datetime, timezone

from standardwebhooks.webhooks import Webhook

secret, message_id, body = sys.argv[1:]
now = datetime.now(tz=timezone.utc)
print(int(now.timestamp()), Webhook(secret).sign(message_id, now, body))

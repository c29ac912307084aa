"""A mail server for tests. The local part of the recipient selects its behaviour:

- `refused…`: 550 at RCPT. `spam…`: 554 after DATA.
- `greylisted…`: 451 for the first two attempts, then it accepts.
- `silent…`: no response to RCPT for the first attempt, then it accepts.
- `dropped…`: takes the first message and closes the connection without a response, then it accepts.

Prints its port, then each message that it has taken as a JSON line.

Usage: smtp_server.py FOLDER MODE [PORT], where MODE is `plain`, `starttls`, `implicit` or `auth` (STARTTLS, and
user `shop` with password `s3cret/ü`). The certificate is FOLDER/cert.pem.
"""

import asyncio
import datetime
import email
import email.policy
import json
import os
import ssl
import sys
import threading
from collections import Counter

from aiosmtpd.smtp import SMTP, AuthResult


def certificate(folder):
    """Makes a certificate for `localhost`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - day).not_valid_after(now + day)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    cert = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    cert_file, key_file = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    with open(key_file, "wb") as file:
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        file.write(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    with open(cert_file, "wb") as file:
        file.write(cert.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)
    return context


class Handler:
    """Takes messages, or behaves as the recipient's address says."""

    def __init__(self):
        self.attempts = Counter()

    async def handle_RCPT(self, server, session, envelope, address, options):
        self.attempts[address] += 1
        attempt = self.attempts[address]
        if address.startswith("refused"):
            return f"550 5.1.1 <{address}>: user unknown"
        if address.startswith("greylisted") and attempt <= 2:
            return "451 4.7.1 try again later"
        if address.startswith("silent") and attempt == 1:
            await asyncio.sleep(3600)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        [address] = envelope.rcpt_tos
        if address.startswith("spam"):
            return "554 5.7.1 message refused"
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        taken = {
            "sender": envelope.mail_from,
            "recipient": address,
            "headers": [[name, str(value)] for name, value in message.items()],
            "subject": message["subject"],
            "id": message["message-id"],
            "text": message.get_body(["plain"]).get_content(),
            "html": message.get_body(["html"]).get_content(),
            "tls": session.ssl is not None or MODE == "implicit",
            "user": session.auth_data.login.decode() if session.auth_data else None,
        }
        print(json.dumps(taken), flush=True)
        if address.startswith("dropped") and self.attempts[address] == 1:
            server.transport.abort()
            await asyncio.sleep(3600)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, auth_data):
    expected = (b"shop", "s3cret/ü".encode())
    is_valid = (auth_data.login, auth_data.password) == expected
    return AuthResult(success=is_valid, auth_data=auth_data, handled=is_valid)


async def main(folder, port):
    handler, loop = Handler(), asyncio.get_running_loop()
    context = certificate(folder) if MODE != "plain" else None
    options = {"enable_SMTPUTF8": True}
    if MODE in ("starttls", "auth"):
        options.update(tls_context=context, require_starttls=True)
    if MODE == "auth":
        options.update(authenticator=authenticate, auth_required=True)
    server = await loop.create_server(
        lambda: SMTP(handler, loop=loop, **options),
        "127.0.0.1",
        port,
        ssl=context if MODE == "implicit" else None,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


MODE = sys.argv[2]
# Ends with the test, which holds standard input open.
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
asyncio.run(main(sys.argv[1], int(sys.argv[3]) if len(sys.argv) > 3 else 0))

"""Generates valid and invalid JSON Web Tokens with PyJWT, a third-party library.

tokens.py secret SECRET | tokens.py keys
Prints {"keys": JWKS, "later_keys": JWKS, "good": {name: token}, "later": token, "bad": {name: token}}.
"""

import base64
import hashlib
import hmac
import json
import sys
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

now = int(time.time())
CLAIMS = {"role": "storefront", "storefront": "eu", "sub": "shop-1", "exp": now + 600}


def without(name):
    return {key: value for key, value in CLAIMS.items() if key != name}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header, claims, sign=lambda message: b""):
    message = b64(json.dumps(header).encode()) + "." + b64(json.dumps(claims).encode())
    return message + "." + b64(sign(message.encode()))


def bad_claims(sign):
    return {
        "expired": sign({**CLAIMS, "exp": now - 3600}),
        "without an expiry": sign(without("exp")),
        "with an expiry that is not a number": sign({**CLAIMS, "exp": str(now + 600)}),
        "not yet valid": sign({**CLAIMS, "nbf": now + 3600}),
        "without a role": sign(without("role")),
        "with an unknown role": sign({**CLAIMS, "role": "root"}),
        "without a storefront": sign(without("storefront")),
        "with an invalid storefront": sign({**CLAIMS, "storefront": "../us"}),
    }


def none_tokens():
    return {
        f"with algorithm {algorithm}": by_hand({"alg": algorithm, "typ": "JWT"}, CLAIMS)
        for algorithm in ("none", "None", "nOnE", "")
    }


def with_secret(secret):
    def sign(claims):
        # PyJWT refuses to generate invalid tokens.
        return by_hand(
            {"alg": "HS256", "typ": "JWT"},
            claims,
            lambda message: hmac.new(secret.encode(), message, hashlib.sha256).digest(),
        )

    good = jwt.encode(CLAIMS, secret, "HS256")
    head, body, signature = good.split(".")
    other = b64(json.dumps({**CLAIMS, "role": "admin"}).encode())
    return {
        "good": {
            "HS256": good,
            "with a fractional expiry": jwt.encode({**CLAIMS, "exp": now + 600.5}, secret, "HS256"),
            "operator": jwt.encode({"role": "operator", "exp": now + 600}, secret, "HS256"),
        },
        "bad": {
            **bad_claims(sign),
            **none_tokens(),
            "with an unknown critical header": by_hand(
                {"alg": "HS256", "typ": "JWT", "crit": ["exp"], "exp": 1},
                CLAIMS,
                lambda message: hmac.new(secret.encode(), message, hashlib.sha256).digest(),
            ),
            "with another algorithm": jwt.encode(CLAIMS, secret, "HS512"),
            "with another secret": jwt.encode(CLAIMS, secret + "x", "HS256"),
            "with other claims": f"{head}.{other}.{signature}",
            "without a signature": f"{head}.{body}.",
            "with half a signature": f"{head}.{body}.{signature[:20]}",
            "garbage": "a.b.c",
        },
    }


def public(algorithm, key, name, alg):
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": name, "use": "sig", "alg": alg}


def with_keys():
    by_rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    by_ec = ec.generate_private_key(ec.SECP256R1())
    by_ed = ed25519.Ed25519PrivateKey.generate()
    later = ec.generate_private_key(ec.SECP384R1())
    keys = [
        public(RSAAlgorithm, by_rsa, "rsa", "RS256"),
        public(ECAlgorithm, by_ec, "ec", "ES256"),
        public(OKPAlgorithm, by_ed, "ed", "EdDSA"),
        {"kty": "oct", "kid": "shared", "k": b64(b"k" * 32), "alg": "HS256"},
        {"kty": "XYZ", "kid": "odd"},
    ]
    pem = by_rsa.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    def confused(message):
        return hmac.new(pem, message, hashlib.sha256).digest()

    def sign(claims):
        return jwt.encode(claims, by_ed, "EdDSA", {"kid": "ed"}) if "exp" not in claims or isinstance(
            claims["exp"], int
        ) else by_hand({"alg": "EdDSA", "kid": "ed"}, claims, by_ed.sign)

    head = {"typ": "JWT", "kid": "rsa"}
    return {
        "keys": {"keys": keys},
        "later_keys": {"keys": keys[1:] + [public(ECAlgorithm, later, "later", "ES384")]},
        "good": {
            "RS256": jwt.encode(CLAIMS, by_rsa, "RS256", head),
            "ES256": jwt.encode(CLAIMS, by_ec, "ES256", {"kid": "ec"}),
            "EdDSA": jwt.encode(CLAIMS, by_ed, "EdDSA", {"kid": "ed"}),
            "without a key id": jwt.encode(CLAIMS, by_rsa, "RS256"),
        },
        "replaced_keys": {"keys": [public(ECAlgorithm, later, "ec", "ES384"), *keys[2:]]},
        "replaced": jwt.encode(CLAIMS, later, "ES384", {"kid": "ec"}),
        "nameless": jwt.encode(CLAIMS, ec.generate_private_key(ec.SECP256R1()), "ES256"),
        "later": jwt.encode(CLAIMS, later, "ES384", {"kid": "later"}),
        "bad": {
            **bad_claims(sign),
            **none_tokens(),
            "algorithm none with a key id": by_hand({"alg": "none", "kid": "rsa"}, CLAIMS),
            "the public key as a secret": by_hand({"alg": "HS256", **head}, CLAIMS, confused),
            "a published secret": jwt.encode(CLAIMS, b"k" * 32, "HS256", {"kid": "shared"}),
            "with another algorithm of the same key": jwt.encode(CLAIMS, by_rsa, "RS512", head),
            "with an unknown key id": jwt.encode(CLAIMS, by_rsa, "RS256", {"kid": "nobody"}),
            "signed with an unknown key": jwt.encode(CLAIMS, ec.generate_private_key(ec.SECP256R1()), "ES256"),
            "with an unknown critical header": by_hand({"alg": "EdDSA", "kid": "ed", "crit": ["x"], "x": 1}, CLAIMS, by_ed.sign),
            "signed with another key": jwt.encode(CLAIMS, by_ec, "ES256", {"kid": "rsa"}),
            "with a path as the key id": jwt.encode(CLAIMS, by_rsa, "RS256", {"kid": "../rsa"}),
        },
    }


made = with_secret(sys.argv[2]) if sys.argv[1] == "secret" else with_keys()
print(json.dumps(made))

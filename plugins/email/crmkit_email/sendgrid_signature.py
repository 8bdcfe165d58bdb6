"""How SendGrid signs its event webhook: ECDSA on P-256 with SHA-256, over a timestamp and the raw body.

Vendor documentation: https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features

The body ends in a line break that is signed too. Unlike other secrets the key is public: SendGrid keeps its half.
"""

import base64
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from crmkit import Call, is_fresh

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"
#: SendGrid tries to deliver for a day, and does not say whether it signs anew each time; what repeats within it is
#: known by its content.
WITHIN = timedelta(days=1) - timedelta(seconds=1)


@lru_cache(maxsize=16)
def read_key(written: str) -> "EllipticCurvePublicKey":
    """A public key as SendGrid shows it: DER in base64.

    Raises:
        ValueError: it is none.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        found = load_der_public_key(base64.b64decode(written.strip(), validate=True))
    except (ValueError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, EllipticCurvePublicKey) or not isinstance(found.curve, SECP256R1):
        raise ValueError("should be the verification key SendGrid shows beside its signed event webhook, all of it")
    return found


def holds(call: Call, keys: Iterable[str]) -> bool:
    """Whether a call is SendGrid's, and not from another day."""
    at = call.headers.get(TIMESTAMP, "")
    given = call.headers.get(SIGNATURE, "")
    if not given or not at.isascii() or not is_fresh(at, call, WITHIN):
        return False
    try:
        signature = base64.b64decode(given, validate=True)
    except ValueError:
        return False
    found = [_signed(signature, at.encode() + call.body, key) for key in keys]
    return any(found)


def _signed(signature: bytes, data: bytes, key: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        read_key(key).verify(signature, data, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True

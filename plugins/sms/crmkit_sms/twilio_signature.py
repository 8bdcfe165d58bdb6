"""How Twilio signs its webhooks: the address it called and the form's fields, never a time.

Vendor documentation: https://www.twilio.com/docs/usage/webhooks/webhooks-security. Twilio is not of one mind whether
the port belongs to the address, so both ways are taken. A body that is no form is covered by its hash in the address.
With a shared key (`X-Twilio-Webhooks-Signature-Settings`) the hash is SHA-256 and the key is not the auth token.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qs, parse_qsl, urlsplit, urlunsplit

from crmkit import Call, same

HEADER = "x-twilio-signature"
SETTINGS_HEADER = "x-twilio-webhooks-signature-settings"
_DIGESTS = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}
_PORTS = {"https": 443, "http": 80}

Fields = Iterable[tuple[str, str]]


def is_form(call: Call) -> bool:
    """Whether the body is a form."""
    return call.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"


def fields_of(body: bytes) -> list[tuple[str, str]]:
    """The fields of a form.

    Raises:
        ValueError: it is none.
    """
    return parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=1000, errors="strict")


def signature(secret: str, url: str, fields: Fields = (), digest: str = "sha1") -> str:
    """What Twilio writes for a call.

    Args:
        secret: the auth token, or a shared key.
        url: the whole address with its query.
        fields: the form's fields; distinct ones count once.
        digest: `sha1` or `sha256`.
    """
    signed = url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.new(secret.encode(), signed.encode(), digest).digest()).decode()


def holds(call: Call, tokens: Iterable[str], shared_keys: Mapping[str, str]) -> bool:
    """Whether a call is Twilio's.

    Args:
        call: as it came in.
        tokens: the account's auth tokens.
        shared_keys: {a shared key's id: the key}.
    """
    given = call.headers.get(HEADER, "")
    digest, secrets = "sha1", list(tokens)
    settings = call.headers.get(SETTINGS_HEADER)
    if settings is not None:
        chosen = dict(part.strip().partition("=")[::2] for part in settings.split(","))
        digest = _DIGESTS.get(chosen.get("algorithm", "").upper(), "")
        if digest == "sha256":
            key = shared_keys.get(chosen.get("key", ""))
            secrets = [key] if key else []
    if not given or not digest:
        return False
    fields: list[tuple[str, str]] = []
    if is_form(call):
        try:
            fields = fields_of(call.body)
        except ValueError:
            return False
    elif call.body and not _covers(call):
        return False
    urls = {call.url, *_ways(call.url)}
    found = [same(given, signature(secret, url, fields, digest)) for secret in secrets if secret for url in urls]
    return any(found)


def _covers(call: Call) -> bool:
    """Whether the address holds the body's hash."""
    claimed = parse_qs(urlsplit(call.url).query).get("bodySHA256", [""])[0]
    return same(claimed, hashlib.sha256(call.body).hexdigest())


def _ways(url: str) -> list[str]:
    """The address with its port, and without."""
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS[parts.scheme]
    except (KeyError, ValueError):
        return []
    user, at, host = parts.netloc.rpartition("@")
    bare = host[: host.rindex("]") + 1] if "]" in host else host.partition(":")[0]
    return [urlunsplit(parts._replace(netloc=f"{user}{at}{one}")) for one in (bare, f"{bare}:{port}")]

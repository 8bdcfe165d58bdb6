"""Signatures of webhooks, against what Twilio's own SDK tests with and what was computed by hand from its rules."""

import hashlib
from urllib.parse import urlencode

import pytest

from crmkit_sms.twilio_signature import holds, signature

URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
URL_80 = "http://mycompany.com:80/myapp.php?foo=1&bar=2"
FORM = {
    "CallSid": "CA1234567890ABCDE",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
    "Caller": "+14158675309",
}
TWICE = [("Sid", "CA123"), ("SidAccount", "AC123"), ("Digits", "5678"), ("Digits", "1234"), ("Digits", "1234")]
OWN_TOKEN = "test_auth_token_0123456789abcdef"
OWN_URL = "https://crm.example.com/hooks/twilio/sms-status"
OWN = {
    "MessageSid": "SM00000000000000000000000000000001",
    "MessageStatus": "delivered",
    "To": "+8613800138000",
    "From": "+15005550006",
    "AccountSid": "AC00000000000000000000000000000001",
}
SHARED = "key=WK1,algorithm=HMAC_SHA256"


@pytest.mark.parametrize(
    ("token", "url", "fields", "digest", "written"),
    [
        ("12345", URL, FORM.items(), "sha1", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("12345", URL, TWICE, "sha1", "IK+Dwps556ElfBT0I3Rgjkr1wJU="),
        ("12345", URL.replace(".com", ".com:443"), FORM.items(), "sha1", "kvajT1Ptam85bY51eRf/AJRuM3w="),
        ("12345", URL_80, FORM.items(), "sha1", "0ZXoZLH/DfblKGATFgpif+LLRf4="),
        (OWN_TOKEN, OWN_URL, OWN.items(), "sha1", "KjYJH2Gy5Nf0aXaRJOyBZM8KZJE="),
        (OWN_TOKEN, OWN_URL, OWN.items(), "sha256", "PPiyM++oxKB9blK1rVSg2qxiITJU8Xw4AIm9aDcFReQ="),
    ],
)  # fmt: skip
def test_it_is_what_twilio_writes(token, url, fields, digest, written) -> None:
    assert signature(token, url, fields, digest) == written


@pytest.mark.parametrize("called", [URL, URL.replace(".com", ".com:443")])
@pytest.mark.parametrize("signed", ["RSOYDt4T1cUTdK1PDd93/VVr8B8=", "kvajT1Ptam85bY51eRf/AJRuM3w="])
def test_the_port_may_be_signed_or_not(call, called, signed) -> None:
    assert holds(call(urlencode(FORM).encode(), called, x_twilio_signature=signed), ["12345"], {})


def test_another_port_is_another_address(call) -> None:
    other = URL.replace(".com", ".com:8443")
    signed = signature("12345", other, FORM.items())
    assert holds(call(urlencode(FORM).encode(), other, x_twilio_signature=signed), ["12345"], {})
    assert not holds(call(urlencode(FORM).encode(), URL, x_twilio_signature=signed), ["12345"], {})


def test_a_body_that_is_no_form_is_covered_by_its_hash(call) -> None:
    body = b'{"property": "value", "boolean": true}'
    url = f"{URL}&bodySHA256={hashlib.sha256(body).hexdigest()}"
    signed = "a9nBmqA0ju/hNViExpshrM61xv4="
    assert holds(call(body, url, "application/json", x_twilio_signature=signed), ["12345"], {})
    assert not holds(call(body + b" ", url, "application/json", x_twilio_signature=signed), ["12345"], {})
    uncovered = signature("12345", URL)
    assert not holds(call(body, URL, "application/json", x_twilio_signature=uncovered), ["12345"], {})


def test_a_shared_key_signs_instead_of_the_token(call) -> None:
    signed = "PPiyM++oxKB9blK1rVSg2qxiITJU8Xw4AIm9aDcFReQ="
    headers = {"x_twilio_signature": signed, "x_twilio_webhooks_signature_settings": SHARED}
    given = call(urlencode(OWN).encode(), OWN_URL, **headers)
    assert holds(given, [], {"WK1": OWN_TOKEN})
    assert not holds(given, [OWN_TOKEN], {})
    assert not holds(given, [], {"WK2": OWN_TOKEN})


@pytest.mark.parametrize("settings", ["key=WK1,algorithm=HMAC_MD5", "key=WK1", "", "nonsense"])
def test_an_unknown_algorithm_is_refused(call, settings) -> None:
    signed = signature(OWN_TOKEN, OWN_URL, OWN.items())
    headers = {"x_twilio_signature": signed, "x_twilio_webhooks_signature_settings": settings}
    assert not holds(call(urlencode(OWN).encode(), OWN_URL, **headers), [OWN_TOKEN], {"WK1": OWN_TOKEN})


def test_without_a_secret_nothing_is_verified(call) -> None:
    given = call(urlencode(OWN).encode(), OWN_URL, x_twilio_signature=signature("", OWN_URL, OWN.items()))
    assert not holds(given, [], {})
    assert not holds(given, [""], {})


@pytest.mark.parametrize("body", [b"%ff=%fe", b"\xff\xfe", b"a=1&" * 2000])
def test_what_is_no_form_is_refused_without_an_error(call, body) -> None:
    assert not holds(call(body, OWN_URL, x_twilio_signature="x"), [OWN_TOKEN], {})

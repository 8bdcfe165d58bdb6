"""Signatures as adapters declare them."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from crmkit import Call, Hmac, PathSecret, PluginError, StandardWebhooks, secrets_of

#: Published with the standard itself.
SECRET, AT = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", datetime.fromtimestamp(1614265330, UTC)
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def call(signature: str = SIGNED, at: datetime = AT, prefix: str = "webhook-") -> Call:
    headers = {"id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "timestamp": "1614265330", "signature": signature}
    named = {f"{prefix}{name}": value for name, value in headers.items()}
    return Call(b'{"test": 2432232314}', named, received_at=at)


@pytest.mark.parametrize("secrets", [SECRET, ["whsec_b3RoZXI=", SECRET], [SECRET, "no base64!"]], ids=str)
def test_a_standard_webhook_is_taken_with_any_of_the_secrets(secrets: object) -> None:
    assert StandardWebhooks("secret").holds(call(), SimpleNamespace(secret=secrets))


@pytest.mark.parametrize("secrets", ["whsec_b3RoZXI=", "whsec_", "", None, [], "no base64!"], ids=str)
def test_a_standard_webhook_is_refused_without_its_secret(secrets: object) -> None:
    assert not StandardWebhooks("secret").holds(call(), SimpleNamespace(secret=secrets))


def test_one_of_several_signatures_is_enough_and_other_versions_count_for_nothing() -> None:
    settings = SimpleNamespace(secret=SECRET)
    assert StandardWebhooks("secret").holds(call(f"v1,b3RoZXI= {SIGNED}"), settings)
    assert StandardWebhooks("secret", prefix="svix-").holds(call(prefix="svix-"), settings)
    for other in ("", "v1,", SIGNED.removeprefix("v1,"), SIGNED.replace("v1", "v2"), SIGNED.replace("v1", "v1a")):
        assert not StandardWebhooks("secret").holds(call(other), settings)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_standard_webhook_is_refused_when_it_is_repeated_later(minutes: int) -> None:
    settings = SimpleNamespace(secret=SECRET)
    assert not StandardWebhooks("secret").holds(call(at=AT + timedelta(minutes=minutes)), settings)


def test_a_moment_that_is_not_signed_is_no_guard() -> None:
    with pytest.raises(PluginError, match="a timestamp that is not signed"):
        Hmac("x-signature", secret="secret", timestamp="x-timestamp")


class Secret(BaseModel):
    secret: PathSecret


@given(st.text(max_size=40) | st.from_regex(r"[A-Za-z0-9._~-]{10,40}", fullmatch=True))
def test_a_secret_that_stands_in_an_address_is_the_same_wherever_it_stands(written: str) -> None:
    try:
        [found] = secrets_of(Secret.model_validate({"secret": [written]}), "secret")
        assert secrets_of(Secret.model_validate({"secret": written}), "secret") == [found]
    except ValidationError as error:
        assert "`openssl rand -hex 24` makes one" in str(error)
        return
    assert len(found) >= 16
    assert quote(found, safe="") == unquote(found) == found

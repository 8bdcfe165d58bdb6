"""Parsers led by coverage, where atheris is installed: `python -m tests.fuzz.guided TARGET RUNS SECONDS`.

It learns which bytes lead further into a parser, where hypothesis draws them blindly. Each target may refuse what it is
given by the errors it promises, and by no other.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import atheris

with atheris.instrument_imports(
    include=[
        "crmkit.core.link",
        "crmkit.core.optout",
        "crmkit.web.form",
        "crmkit.web.limit",
        "crmkit.adapters.door",
        "crmkit_sms",
        "crmkit_marketplace.woocommerce",
        "urllib.parse",
        "json",
    ]
):
    from crmkit import Call, Hmac, PayloadError, StandardWebhooks
    from crmkit.core.link import LinkError, Links, key_of
    from crmkit.core.optout import opt_out
    from crmkit.web.form import _parts
    from crmkit.web.limit import Callers
    from tests.fuzz.shipped import FORMS, NOW, SAMPLES, adapter, twilio_call

LINKS = Links("https://x", (key_of("a key that is long enough"),))
SETTINGS = SimpleNamespace(secret="whsec_b3RoZXI=")
WOO, HTTP, TWILIO = (adapter(name) for name in ("marketplace.woocommerce", "sms.http", "sms.twilio"))
CALLERS = Callers(["127.0.0.1"])
FORM_TYPE = {"content-type": "application/x-www-form-urlencoded"}


def link(data: bytes) -> None:
    try:
        LINKS.read("p", data.decode("latin-1"), NOW)
    except LinkError:
        return
    assert data == SEEDS["link"], "a link that was never made was read"


def form(data: bytes) -> None:
    try:
        list(_parts(data, "multipart/form-data; boundary=b"))
    except ValueError:
        pass


def door(data: bytes) -> None:
    text = data.decode("latin-1")
    headers = {"x-signature": text, "webhook-id": text, "webhook-timestamp": text, "webhook-signature": text}
    call = Call(data, headers, query=text, received_at=NOW)
    for signature in (Hmac("x-signature", secret="secret"), StandardWebhooks("secret")):
        assert not signature.holds(call, SETTINGS)


def caller(data: bytes) -> None:
    CALLERS.of("127.0.0.1", data.decode("latin-1"))
    opt_out(data.decode("utf-8", "replace"))


def parser(it: Any, headers: dict[str, str]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        try:
            list(it.records(Call(data, headers, received_at=NOW)))
        except PayloadError:
            pass

    return run


TARGETS: dict[str, Callable[[bytes], None]] = {
    "link": link,
    "form": form,
    "door": door,
    "caller": caller,
    "woocommerce": parser(WOO, {"x-wc-webhook-topic": "order.updated"}),
    "http": parser(HTTP, {}),
    "twilio": parser(TWILIO, FORM_TYPE),
}

#: What each begins with.
SEEDS: dict[str, bytes] = {
    "link": LINKS.make("preferences", 7, NOW).rpartition("/")[2].encode(),
    "form": b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b--\r\n',
    "door": b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    "caller": b"192.0.2.1, 2001:db8::1, 127.0.0.1",
    "woocommerce": SAMPLES[0][2],
    "http": SAMPLES[-1][2],
    "twilio": twilio_call(FORMS[0]).body,
}

if __name__ == "__main__":
    target, runs, seconds = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "seed").write_bytes(SEEDS[target])
        bounds = [f"-runs={runs}", f"-max_total_time={seconds}", "-max_len=8192"]
        atheris.Setup([sys.argv[0], *bounds, folder], TARGETS[target])
        atheris.Fuzz()

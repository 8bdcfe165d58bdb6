"""What webhooks are held to: they are the vendor's, they are read the same again, and each has a key of its own."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import pytest

from crmkit.adapters.adapter import Adapter
from crmkit.adapters.door import Call, Hmac, Reply, SecretPath, StandardWebhooks, Verified, fingerprint, secrets_of
from crmkit.adapters.stream import Refused
from crmkit.core.errors import AdapterError, PayloadError
from crmkit.testing.contract import NOW, AdapterContract, written_all
from crmkit.testing.exchange import ANY, Fixture, Sent

#: A secret that is nobody's.
ANOTHER = "another-Secret-0123456789-abcdef"
#: So many places of a body or signature are changed, one at a time.
PLACES = 120
#: Signatures of which it is known whether they cover a time.
OURS = (Hmac, StandardWebhooks, SecretPath)


class WebhookContract(AdapterContract):
    """What is the vendor's is taken in, and nothing else.

    Class attributes:
        webhook_secret: the setting that holds what webhooks are signed with, where `verifies` does not say it.
        signs_time: whether the signature of its webhooks covers a time. Needed where the adapter verifies in a way of
            its own; else as `verifies` says.
    """

    webhook_secret: ClassVar[str | None] = None
    signs_time: ClassVar[bool | None] = None

    # --- what a test file may say otherwise -------------------------------------------------------------------------

    def sign(self, call: Call, settings: Any) -> Call:
        """A webhook as the vendor signs it. Knows what `verifies` declares; an adapter with a `verify` of its own says.

        Args:
            call: it, unsigned.
            settings: the adapter's; sign with the first of several secrets.
        """
        signature = self.adapter.verifies
        if isinstance(signature, Hmac):
            headers = dict(call.headers)
            if signature.timestamp is not None:
                headers[signature.timestamp.lower()] = str(int(call.received_at.timestamp()))
            timed = replace(call, headers=headers)
            signed = call.body if signature.signs is None else signature.signs(timed)
            made = signature.written(secrets_of(settings, signature.secret)[0], signed)
            return replace(timed, headers={**headers, signature.header.lower(): signature.prefix + made})
        if isinstance(signature, StandardWebhooks):
            name, at = fingerprint(call.body)[:20], str(int(call.received_at.timestamp()))
            signed = f"{name}.{at}.".encode() + call.body
            made_with = signature.written(secrets_of(settings, signature.secret)[0], signed)
            told_as = {"id": name, "timestamp": at, "signature": str(made_with)}
            return replace(call, headers={**call.headers, **{signature.prefix + k: v for k, v in told_as.items()}})
        if isinstance(signature, SecretPath):
            return replace(call, path_secret=secrets_of(settings, signature.secret)[0])
        raise NotImplementedError(
            f"say how {self.adapter.name} signs its webhooks: def sign(self, call, settings) in {type(self).__name__}"
        )

    def with_webhook_secret(self, secret: Any) -> dict[str, Any]:
        """Changes to the settings that make `secret`, or a list of several, what webhooks are verified with."""
        named = self.webhook_secret or getattr(self.adapter.verifies, "secret", None)
        if named is None:
            pytest.fail(f"say which setting holds the secret of webhooks: webhook_secret in {type(self).__name__}")
        return {str(named): secret}

    def another_secret(self, number: int = 1) -> Any:
        """A value for the setting of the webhook secret that is not the vendor's; of several, another each."""
        return f"{ANOTHER}-{number}"

    # --- making and running -----------------------------------------------------------------------------------------

    async def given(self, adapter: Any, sample: Fixture) -> dict[str, Any]:
        """What came of a fixture; raises what the adapter raises."""
        if sample.given != "webhook":
            return await super().given(adapter, sample)
        call = self.verified_call(adapter, sample)
        known = adapter.verify(call)
        if isinstance(known, Reply):
            return {"reply": {"status": known.status, "body": known.body.decode()}}
        if adapter.keeps_headers is not None:
            call = replace(call, headers={n: v for n, v in call.headers.items() if n in adapter.keeps_headers})
        return written_all(adapter.records(call))

    def call_of(self, sample: Fixture) -> Call:
        """A fixture's webhook as it comes to the door."""
        told_of = sample.document.get("webhook") or {}
        request = sample.exchanges[0].request if sample.exchanges else Sent("POST", "/")
        query = urlsplit(request.target).query
        url = f"https://crm.example.com/webhooks/{self.adapter.name}"
        at = told_of.get("received_at")
        return Call(
            request.body,
            {name.lower(): value for name, value in request.headers if value != ANY},
            url + (f"?{query}" if query else ""),
            query,
            told_of.get("path_secret", ""),
            NOW if at is None else datetime.fromisoformat(at),
            request.method,
        )

    def verified_call(self, adapter: Any, sample: Fixture) -> Call:
        """A fixture's webhook, signed where it does not show that it is the vendor's as it stands there."""
        call = self.call_of(sample)
        return call if isinstance(adapter.verify(call), Verified) else self.sign(call, adapter.settings)

    # --- webhooks ---------------------------------------------------------------------------------------------------

    @property
    def takes_webhooks(self) -> bool:
        """Whether the adapter reads webhooks."""
        return self.adapter.records is not Adapter.records

    def test_webhooks_are_shown_by_fixtures(self) -> None:
        if not self.takes_webhooks:
            assert self.samples("webhook") == [], f"{self.adapter.name} has fixtures of webhooks and reads none"
            pytest.skip(f"{self.adapter.name} takes no webhooks")
        self.needs("webhooks", bool(self.samples("webhook")), "it takes webhooks, and no fixture shows one")

    def test_a_webhook_is_the_vendors_only_with_its_signature(self, webhook: Fixture) -> None:
        """Any place of body or signature changed, no signature, another secret: 401, and nothing is kept."""
        adapter = self.make(sample=webhook)
        bare = self.call_of(webhook)
        call = self.verified_call(adapter, webhook)
        known = adapter.verify(call)
        if isinstance(known, Reply) and "reply" in webhook.document:
            pytest.skip("it is a handshake, which keeps nothing")
        assert isinstance(known, Verified), f"{webhook.path}: a call with the vendor's signature is refused: {known}"
        for changed, what in self._forgeries(bare, call):
            answer = adapter.verify(changed)
            assert isinstance(answer, Reply), f"{webhook.path}: taken in with {what}"
            assert answer.status == 401, f"{webhook.path}: answered {answer.status} instead of 401 with {what}"
        stranger = self.make(sample=webhook, settings=self.with_webhook_secret(self.another_secret()))
        assert isinstance(stranger.verify(call), Reply), f"{webhook.path}: taken in though signed with another secret"

    def _forgeries(self, bare: Call, call: Call) -> Iterable[tuple[Call, str]]:
        if not isinstance(self.adapter.verifies, SecretPath) and not call.path_secret:
            for at in _spread(len(call.body)):
                body = call.body[:at] + bytes([call.body[at] ^ 1]) + call.body[at + 1 :]
                yield replace(call, body=body), f"byte {at} of its body changed"
            yield replace(call, body=call.body + b" "), "a blank more"
            yield replace(call, body=b""), "no body"
        signing = [name for name, value in call.headers.items() if bare.headers.get(name) != value]
        signing = signing or [name for name in call.headers if "sign" in name]
        for name in signing:
            value = call.headers[name]
            less = {key: one for key, one in call.headers.items() if key != name}
            yield replace(call, headers=less), f"no {name}"
            yield replace(call, headers={**less, name: ""}), f"an empty {name}"
            for at in _spread(max(0, len(value) - 3)):
                changed = value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :]
                if changed.lower() != value.lower():
                    yield replace(call, headers={**less, name: changed}), f"place {at} of {name} changed"
        is_in_query = call.query != bare.query or (not signing and "sign" in call.query.lower())
        if is_in_query:
            yield self._asked(call, bare.query if call.query != bare.query else ""), "no signature in its query"
            for at in _spread(len(call.query)):
                changed = call.query[:at] + chr(ord(call.query[at]) ^ 1) + call.query[at + 1 :]
                if parse_qsl(changed) != parse_qsl(call.query):
                    yield self._asked(call, changed), f"place {at} of its query changed"
        if call.path_secret:
            yield replace(call, path_secret=""), "no secret in its path"
            for at in _spread(len(call.path_secret)):
                changed = call.path_secret[:at] + chr(ord(call.path_secret[at]) ^ 1) + call.path_secret[at + 1 :]
                yield replace(call, path_secret=changed), f"place {at} of the secret in its path changed"
        if not signing and not call.path_secret and not is_in_query:
            pytest.fail(f"{self.adapter.name}: its webhooks have no signature that could be changed")

    @staticmethod
    def _asked(call: Call, query: str) -> Call:
        """A call with another query."""
        return replace(call, query=query, url=f"{call.url.partition('?')[0]}?{query}")

    def test_a_webhook_of_another_day_is_refused(self, webhook: Fixture) -> None:
        """Where what is signed has a time: a call that somebody kept and sends again is not the vendor's."""
        has_time = self._signs_time()
        adapter = self.make(sample=webhook)
        call = self.verified_call(adapter, webhook)
        for days in (1, -1):
            later = replace(call, received_at=call.received_at + timedelta(days=days))
            is_taken = isinstance(adapter.verify(later), Verified)
            assert not (has_time and is_taken), f"{webhook.path}: taken in {days} day(s) later"
            why = f"{webhook.path}: refused {days} day(s) later, so a time is looked at; write signs_time = True"
            is_known = isinstance(adapter.verify(call), Verified)  # no handshake
            assert has_time or is_taken or not is_known, why

    def _signs_time(self) -> bool:
        """Whether what is signed has a time, as the contract or a signature of ours says."""
        if self.signs_time is not None:
            return self.signs_time
        signature = self.adapter.verifies
        if type(signature) not in OURS:
            how = "verify" if signature is None else type(signature).__name__
            what = f"{self.adapter.name}: whether its vendor signs a time is not known, as it verifies in its own way"
            pytest.fail(f"{what} ({how}); write signs_time = True or False in {type(self).__name__}")
        return isinstance(signature, StandardWebhooks) or getattr(signature, "timestamp", None) is not None

    def test_two_secrets_hold_while_the_vendor_changes_over(self, webhook: Fixture) -> None:
        if "reply" in webhook.document:
            pytest.skip("it is a handshake, which keeps nothing")
        if "rotation" in self.lacks:
            pytest.skip(f"{self.adapter.name}: {self.lacks['rotation']}")
        one, other = self.another_secret(1), self.another_secret(2)
        signing = self.make(sample=webhook, settings=self.with_webhook_secret(one))
        call = self.sign(self.call_of(webhook), signing.settings)
        for both in ([one, other], [other, one]):
            rotating = self.make(sample=webhook, settings=self.with_webhook_secret(both))
            told_by = f"{webhook.path}: of two secrets one signed it, and it is refused"
            assert isinstance(rotating.verify(call), Verified), told_by
        neither = self.make(sample=webhook, settings=self.with_webhook_secret([other, self.another_secret(3)]))
        assert isinstance(neither.verify(call), Reply), f"{webhook.path}: of two secrets neither signed it"

    def test_a_webhook_says_the_same_when_it_is_read_again(self, webhook: Fixture) -> None:
        """Its parser runs in ingest, and again on replay: same records, same key, without the network."""
        if "reply" in webhook.document:
            pytest.skip("it is a handshake, which keeps nothing")
        one, other = self.make(sample=webhook), self.make(sample=webhook)
        call = self.verified_call(one, webhook)
        assert _read(one, call) == _read(one, call) == _read(other, call)
        assert one.verify(call) == other.verify(call), "two keys for one call"

    def test_webhooks_that_differ_have_keys_that_differ(self) -> None:
        """One that has the key of another is taken for a repeat, and lost."""
        found: dict[str, str] = {}
        for sample in self.samples("webhook"):
            adapter = self.make(sample=sample)
            call = self.verified_call(adapter, sample)
            known = adapter.verify(call)
            if isinstance(known, Verified):
                twin = found.setdefault(known.dedupe_key, sample.name)
                same = twin == sample.name or self.call_of(sample).body == self._body(twin)
                assert same, f"{sample.name} and {twin} have one key"
        if not found:
            pytest.skip(f"{self.adapter.name} has no fixtures of webhooks")

    def _body(self, name: str) -> bytes:
        return next(self.call_of(one).body for one in self.samples("webhook") if one.name == name)

    @pytest.mark.parametrize(
        "body", [b"", b"{}", b"[]", b"null", b'{"nonsense": [1]}', b"\xff\xfe\x00", b"a=b", b"<a/>"]
    )
    def test_a_webhook_that_says_nothing_we_know_is_told_as_that(self, body: bytes) -> None:
        """`PayloadError`, a refused record, or nothing: never another exception, never a receipt of something."""
        if not self.takes_webhooks:
            pytest.skip(f"{self.adapter.name} takes no webhooks")
        adapter = self.make()
        for content_type in ("application/json", "application/x-www-form-urlencoded", "text/xml"):
            call = Call(body, {"content-type": content_type}, received_at=NOW)
            try:
                found = list(adapter.records(call))
            except PayloadError as error:
                self.names_its_place(error)
                continue
            assert all(isinstance(one, Refused) for one in found), f"{body!r} is read as {found}"


def _read(adapter: Any, call: Call) -> Any:
    try:
        return written_all(adapter.records(call))
    except AdapterError as error:
        return str(error)


def _spread(length: int) -> list[int]:
    """Places all over something of a length, the first and the last among them."""
    if length <= PLACES:
        return list(range(length))
    return sorted({*range(0, length, -(-length // PLACES)), length - 1})


__all__ = ["WebhookContract"]

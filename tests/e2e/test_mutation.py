"""An adapter that is broken on purpose does not keep its contract: for every way to break one, the test that tells.

Each way is tried in a process of its own: `CRMKIT_MUTATION` names it to this module, which is loaded there as a plugin
of pytest and breaks the adapter before its contract runs.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parent.parent.parent
TWILIO, SMTP, HTTP, WOO = (
    "plugins/sms/tests/test_twilio_contract.py",
    "plugins/email/tests/test_smtp_contract.py",
    "plugins/sms/tests/test_http_contract.py",
    "plugins/marketplace/tests/test_woocommerce_contract.py",
)
ALIYUN, ROOK, TAOBAO, VENDURE = (
    "plugins/sms/tests/test_aliyun_contract.py",
    "tests/testing/test_rook_contract.py",
    "plugins/marketplace/tests/test_taobao_contract.py",
    "plugins/marketplace/tests/test_vendure_contract.py",
)


@dataclass(frozen=True)
class Mutation:
    """A way to break an adapter.

    Attributes:
        contract: the file of the contract it does not keep then.
        caught: the test that must tell.
        breaks: breaks it, in place.
    """

    contract: str
    caught: str
    breaks: Callable[[], None]


MUTATIONS: dict[str, Mutation] = {}


def mutation(contract: str, caught: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def keep(breaks: Callable[[], None]) -> Callable[[], None]:
        MUTATIONS[breaks.__name__] = Mutation(contract, caught, breaks)
        return breaks

    return keep


# gateways


@mutation(TWILIO, "test_a_fixture_gives_its_requests_and_what_is_expected")
def statuses_are_swapped() -> None:
    from crmkit_sms import twilio

    twilio.STATES |= {"delivered": "failed", "undelivered": "delivered"}


@mutation(TWILIO, "test_a_status_nobody_knows_moves_no_message")
def an_unknown_status_is_guessed() -> None:
    from crmkit_sms import twilio

    twilio.STATES["levitating"] = "delivered"


@mutation(TWILIO, "test_a_refusal_that_is_known_has_its_reason")
def reasons_are_emptied() -> None:
    from crmkit_sms import twilio_code

    twilio_code.REASONS.clear()


@mutation(TWILIO, "test_a_refusal_for_a_reason_nobody_knows_is_other_and_shows_its_code")
def an_unknown_code_is_guessed() -> None:
    from crmkit import Reason
    from crmkit_sms import twilio_code

    twilio_code.REASONS[29999] = Reason.BAD_ADDRESS


@mutation(TWILIO, "test_a_webhook_is_the_vendors_only_with_its_signature")
def every_signature_holds() -> None:
    from crmkit_sms import twilio_signature

    twilio_signature.holds = lambda *_: True


@mutation(TWILIO, "test_two_secrets_hold_while_the_vendor_changes_over")
def only_the_first_secret_holds() -> None:
    from crmkit_sms import twilio_signature

    holds = twilio_signature.holds
    twilio_signature.holds = lambda call, tokens, keys: holds(call, list(tokens)[:1], keys)


@mutation(TWILIO, "test_webhooks_that_differ_have_keys_that_differ")
def every_webhook_has_one_key() -> None:
    from crmkit import Reply, Verified
    from crmkit_sms.twilio import TwilioGateway

    verify = TwilioGateway.verify

    def same(self: Any, call: Any) -> Any:
        found = verify(self, call)
        return found if isinstance(found, Reply) else Verified("one")

    TwilioGateway.verify = same  # type: ignore[method-assign]


@mutation(TWILIO, "test_nothing_personal_and_no_secret_is_told")
def a_secret_is_logged() -> None:
    from crmkit_sms.twilio import TwilioGateway

    deliver = TwilioGateway.deliver

    async def telling(self: Any, message: Any) -> Any:
        logging.getLogger("acme").info("signing in with %s", self.settings.auth_token.get_secret_value())
        return await deliver(self, message)

    TwilioGateway.deliver = telling  # type: ignore[method-assign]


@mutation(TWILIO, "test_settings_hide_their_secrets")
def a_secret_is_shown() -> None:
    from crmkit_sms.twilio import TwilioGateway

    TwilioGateway.Settings.__repr__ = lambda self: f"<{self.auth_token.get_secret_value()}>"  # type: ignore


@mutation(TWILIO, "test_what_a_vendor_repeats_of_a_message_is_not_told")
def what_a_vendor_repeats_is_told() -> None:
    from crmkit_sms import twilio

    twilio.shown = lambda words, **_: words


@mutation(TWILIO, "test_what_it_can_do_is_shown")
def it_says_that_it_deduplicates() -> None:
    from crmkit_sms.twilio import TwilioGateway

    TwilioGateway.deduplicates = True


@mutation(TWILIO, "test_what_it_reaches_is_shown")
def it_says_that_it_reaches_more() -> None:
    from crmkit_sms.twilio import TwilioGateway

    TwilioGateway.reaches = ("phone", "order_token")


@mutation(TWILIO, "test_a_fault_comes_to_what_is_true")
def doubt_is_taken_for_not_sent() -> None:
    from crmkit_sms.twilio import TwilioGateway

    TwilioGateway.sends = False


@mutation(TWILIO, "test_a_fault_comes_to_what_is_true")
def doubt_is_tried_again() -> None:
    from crmkit import DoubtError
    from crmkit_sms.twilio import TwilioGateway

    deliver = TwilioGateway.deliver

    async def insisting(self: Any, message: Any) -> Any:
        try:
            return await deliver(self, message)
        except DoubtError:
            return await deliver(self, message)

    TwilioGateway.deliver = insisting  # type: ignore[method-assign]


@mutation(TWILIO, "test_messages_at_the_same_time_are_not_mixed_up")
def a_message_is_kept_on_the_gateway() -> None:
    import asyncio
    from dataclasses import replace

    from crmkit_sms.twilio import TwilioGateway

    deliver = TwilioGateway.deliver

    async def forgetful(self: Any, message: Any) -> Any:
        self._now = message
        await asyncio.sleep(0)
        return replace(await deliver(self, self._now), message=message)

    TwilioGateway.deliver = forgetful  # type: ignore[method-assign]


@mutation(TWILIO, "test_a_look_up_that_fails_never_says_that_it_is_not_there")
def what_cannot_be_read_is_not_there() -> None:
    from crmkit import PayloadError
    from crmkit_sms.twilio import TwilioGateway

    look_up = TwilioGateway.look_up

    async def careless(self: Any, message: Any) -> Any:
        try:
            return await look_up(self, message)
        except PayloadError:
            return None

    TwilioGateway.look_up = careless  # type: ignore[method-assign]


@mutation(TWILIO, "test_a_look_up_that_is_refused_never_says_that_it_is_not_there")
def what_is_refused_is_not_there() -> None:
    from crmkit import RefusedError
    from crmkit_sms.twilio import TwilioGateway

    look_up = TwilioGateway.look_up

    async def careless(self: Any, message: Any) -> Any:
        try:
            return await look_up(self, message)
        except RefusedError:
            return None

    TwilioGateway.look_up = careless  # type: ignore[method-assign]


@mutation(TWILIO, "test_a_log_that_lags_is_not_believed_at_once")
def a_log_is_believed_at_once() -> None:
    from crmkit_sms.twilio_log import TwilioLog

    find = TwilioLog.find

    async def believing(self: Any, *told: Any, too_soon: bool) -> Any:
        return await find(self, *told, too_soon=False)

    TwilioLog.find = believing  # type: ignore[method-assign]


@mutation(TWILIO, "test_receipts_come_to_the_same_however_they_come")
def a_second_status_has_the_id_of_the_first() -> None:
    from crmkit import ReceiptRecord
    from crmkit_sms.twilio import TwilioGateway

    receipt = TwilioGateway._receipt

    def same(self: Any, *told: Any) -> Any:
        for one in receipt(self, *told):
            yield one.model_copy(update={"external_id": one.vendor_id}) if isinstance(one, ReceiptRecord) else one

    TwilioGateway._receipt = same  # type: ignore[method-assign]


@mutation(HTTP, "test_what_is_written_arrives_as_it_is")
def texts_lose_what_is_not_latin() -> None:
    from crmkit_sms.http import HttpGateway

    values = HttpGateway._values

    def poor(self: Any, message: Any) -> Any:
        found = values(self, message)
        return found | {"text": found["text"].encode("latin-1", "replace").decode("latin-1")}

    HttpGateway._values = poor  # type: ignore[method-assign]


@mutation(SMTP, "test_a_closed_gateway_holds_no_connection")
def connections_stay_open() -> None:
    from crmkit_email.pool import Pool

    async def close(self: Any) -> None:
        pass

    Pool.close = close  # type: ignore[method-assign]


# batches


def batches(change: Callable[[list[Any]], list[Any]]) -> None:
    """Have the receipts of every batch of Alibaba Cloud changed before they are given."""
    from crmkit_sms import bundle

    handed_over = bundle.handed_over

    async def changed(messages: Any, hand: Any) -> Any:
        for receipt in change([one async for one in handed_over(messages, hand)]):
            yield receipt

    bundle.handed_over = changed


@mutation(ALIYUN, "test_a_batch_gives_one_receipt_for_each_message")
def a_batch_gives_one_receipt_too_few() -> None:
    batches(lambda receipts: receipts[: len(receipts) - 1] if len(receipts) > 1 else receipts)


@mutation(ALIYUN, "test_a_batch_gives_one_receipt_for_each_message")
def a_batch_gives_one_receipt_twice() -> None:
    batches(lambda receipts: [*receipts, *receipts[:1]] if len(receipts) > 1 else receipts)


@mutation(ALIYUN, "test_a_fixture_gives_its_requests_and_what_is_expected")
def a_batch_gives_its_receipts_to_other_messages() -> None:
    from dataclasses import replace

    def turned(receipts: list[Any]) -> list[Any]:
        others = [*receipts[1:], *receipts[:1]]
        return [replace(one, message=other.message) for one, other in zip(receipts, others, strict=True)]

    batches(turned)


# XML


@mutation(ROOK, "test_a_refusal_that_is_known_has_its_reason")
def an_error_in_xml_is_overlooked() -> None:
    from tests.testing import rook

    rook.error_of = lambda said: None


@mutation(ROOK, "test_a_look_up_that_is_refused_never_says_that_it_is_not_there")
def an_error_in_an_xml_log_is_overlooked() -> None:
    from tests.testing.rook import RookGateway, number_of, to_xml

    async def careless(self: Any, message: Any) -> Any:
        said = to_xml(await self.call("look up", "GET", "https://rook.example/log", sends=False))
        number = number_of(said)
        return None if number is None else message.accepted(vendor_id=number)

    RookGateway.look_up = careless  # type: ignore[method-assign]


# what is declared


@mutation(TAOBAO, "test_what_it_says_that_it_remembers_it_keeps")
def it_does_not_say_that_it_remembers() -> None:
    from crmkit_marketplace.taobao import TaobaoSource

    TaobaoSource.remembers = property(lambda self: False, lambda self, value: None)  # type: ignore


@mutation(ALIYUN, "test_what_it_says_that_it_remembers_it_keeps")
def it_says_that_it_remembers() -> None:
    from crmkit_sms.aliyun import AliyunGateway

    AliyunGateway.remembers = True


@mutation(ALIYUN, "test_what_it_says_of_templates_is_shown")
def every_template_is_fine() -> None:
    from crmkit.testing import exchange
    from crmkit_sms.aliyun import AliyunGateway

    AliyunGateway.check_template = lambda self, wording: ()  # type: ignore
    fixtures = exchange.fixtures

    def as_it_would_write(folder: Path) -> Any:
        every = fixtures(folder)
        for one in every:
            one.document |= {"problems": []} if "template" in one.document else {}
        return every

    from crmkit.testing import contract

    contract.fixtures = as_it_would_write  # type: ignore[attr-defined]


# sources


@mutation(WOO, "test_a_fixture_gives_its_requests_and_what_is_expected")
def order_statuses_are_swapped() -> None:
    from crmkit import OrderStatus
    from crmkit_marketplace.woocommerce import mapping

    mapping._MEANING |= {"cancelled": "completed", "completed": "cancelled"}
    assert OrderStatus.COMPLETED


@mutation(WOO, "test_what_did_not_change_writes_nothing")
def the_last_page_is_dropped() -> None:
    from crmkit_marketplace.woocommerce.api import Api

    listing = Api.listing

    async def short(self: Any, *told: Any, **more: Any) -> Any:
        waiting = None
        async for answer in listing(self, *told, **more):
            if waiting is not None:
                yield waiting
            waiting = answer

    Api.listing = short  # type: ignore[method-assign]


@mutation(WOO, "test_nothing_is_missed_while_a_list_shifts")
def pages_do_not_overlap() -> None:
    from crmkit_marketplace.woocommerce.api import Answer, Api

    async def plain(self: Any, operation: str, path: str, **more: Any) -> Any:
        offset, size = 0, self._settings.per_page
        while True:
            found = await self.get(
                operation, path, **more, orderby="id", order="asc", per_page=size, offset=offset or None
            )
            offset += size
            yield Answer(found.rows, found.total, found.at, offset, 0, found.rows)
            if len(found.rows) < size:
                return

    Api.listing = plain  # type: ignore[method-assign]


@mutation(WOO, "test_a_read_that_breaks_off_is_made_up_for")
def an_error_is_taken_for_the_end() -> None:
    from crmkit import RetryableError
    from crmkit_marketplace.woocommerce.api import Api

    listing = Api.listing

    async def quiet(self: Any, *told: Any, **more: Any) -> Any:
        try:
            async for answer in listing(self, *told, **more):
                yield answer
        except RetryableError:
            return

    Api.listing = quiet  # type: ignore[method-assign]


@mutation(WOO, "test_it_reports_what_its_fixtures_show")
def it_reports_what_never_comes() -> None:
    from crmkit_marketplace.woocommerce import source

    reports = source._reports
    source._reports = lambda settings: [*reports(settings), "returns"]  # type: ignore


@mutation(WOO, "test_a_change_that_moves_no_time_is_found")
def open_orders_are_not_read_again() -> None:
    from crmkit_marketplace.woocommerce import WooCommerceSource

    async def nothing(self: Any, refs: Any) -> Any:
        for page in ():
            yield page

    WooCommerceSource.read = nothing  # type: ignore


@mutation(TAOBAO, "test_a_vendors_clock_that_is_wrong_loses_nothing")
def spans_do_not_overlap() -> None:
    from dataclasses import replace
    from datetime import timedelta

    from crmkit_marketplace.taobao import TaobaoSource

    orders: Any = TaobaoSource.orders
    orders.__crmkit_stream__ = replace(orders.__crmkit_stream__, overlap=timedelta(0))


@mutation(TAOBAO, "test_a_fixture_gives_its_requests_and_what_is_expected")
def a_cursor_stands_still() -> None:
    from crmkit.adapters.stream import Page
    from crmkit_marketplace.taobao import source

    source.Page = lambda *told, cursor=None, **more: Page(  # type: ignore
        *told, cursor=cursor and {**cursor, "next": "2026-08-01T00:00:00+00:00"}, **more
    )


@mutation(VENDURE, "test_times_have_their_zone")
def times_have_no_zone() -> None:
    from crmkit_marketplace.vendure import source

    to_records = source.to_records

    def naive(*told: Any) -> Any:
        found = to_records(*told)
        return [
            one.model_copy(update={"placed_at": one.placed_at.replace(tzinfo=None)})
            if getattr(one, "placed_at", None)
            else one
            for one in found
        ]

    source.to_records = naive


@mutation(VENDURE, "test_as_many_as_there_are_are_read_by_id")
def the_last_ids_are_not_asked_for() -> None:
    from crmkit_marketplace.vendure import VendureSource

    read = VendureSource.read

    async def less(self: Any, refs: Any) -> Any:
        async for page in read(self, refs[:100]):
            yield page

    VendureSource.read = less  # type: ignore


# running


def pytest_configure(config: pytest.Config) -> None:
    """Break what is to be broken in this process."""
    name = os.environ.get("CRMKIT_MUTATION")
    if name is not None and not config.pluginmanager.has_plugin("mutated"):
        config.pluginmanager.register(object(), "mutated")
        MUTATIONS[name].breaks()


def held(name: str) -> subprocess.CompletedProcess[str]:
    """A contract run with a mutation: only the test that must tell."""
    chosen = MUTATIONS[name]
    options = ["-q", "-n", "0", "-x", "-p", "tests.e2e.test_mutation", "-rf", "--tb=line", "-k", chosen.caught]
    return subprocess.run(
        [sys.executable, "-m", "pytest", chosen.contract, *options],
        cwd=ROOT,
        env=os.environ | {"CRMKIT_MUTATION": name},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_adapter_does_not_keep_its_contract(name: str) -> None:
    ended = held(name)
    assert ended.returncode == 1, f"{name} is not noticed:\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
    assert f"::{MUTATIONS[name].caught}" in ended.stdout, ended.stdout[-2000:]

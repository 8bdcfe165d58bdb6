"""Texts the receiver of an order by its token (OAID): nobody here sees a number. `taobao.jst.sms.oaid.message.send`.

Vendor documentation: https://open.taobao.com/api.htm?docId=54973&docType=2. Only texts that were approved before are
sent, for the order the token came with. Nothing tells repeats, and nothing tells what became of a message: one that
was lost on its way stays in doubt, and one that was taken stays `sent`.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

import httpx
from pydantic import BaseModel

from crmkit import (
    Account,
    AdapterError,
    Ask,
    AuthError,
    Gateway,
    Message,
    Receipt,
    RefusedError,
    RetryableError,
    UnsupportedError,
    Wording,
    hookimpl,
)

from .api import Top
from .fault import is_missing, says_missing, sub_code, sub_words, word
from .reason import DAY_LIMIT, MONTH_LIMIT, OURS, RECIPIENT_LIMIT, lasts, name_of, reason_of, wait_of
from .settings import SIGN, SIGN_WORDS, TaobaoSmsSettings

SEND = "taobao.jst.sms.oaid.message.send"
#: The states of a text or a signature, and the type of a text for advertising.
PENDING, APPROVED, ADVERTISING = 0, 1, 2
_PLACE = re.compile(r"\$\{\s*(\w+)\s*\}")


class _Accepted(BaseModel):
    module: str


class _Sent(BaseModel):
    jst_sms_oaid_message_send_response: _Accepted


class TaobaoGateway(Gateway):
    """Texts the receivers of a shop's orders by their tokens."""

    name = "taobao"
    channel = "sms"
    reaches = ("order_token",)
    deduplicates = False
    needs_form = True
    Settings = TaobaoSmsSettings
    settings: TaobaoSmsSettings

    def __init__(self, settings: TaobaoSmsSettings, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        self.top = Top(self, settings)
        self.remembers = settings.session is None

    # the token

    async def connect(self, ask: Ask) -> None:
        """Have a person sign in as the seller."""
        await self.top.connect(ask)

    async def renew(self) -> bool:
        """Exchange the token for a fresh one, where the application may."""
        return await self.top.renew()

    def credentials_end(self) -> datetime | None:
        """When a token ends that cannot be renewed."""
        return self.top.credentials_end()

    def fault(self, operation: str, response: httpx.Response) -> AdapterError | None:
        """The error in an answer's body."""
        return self.top.fault(operation, response, sends=operation == "deliver")

    # out

    async def deliver(self, message: Message) -> Receipt:
        """Hand one message over.

        Raises:
            UnsupportedError: it is about no order, or has no approved text.
            RetryableError: as `call` says, or a limit of the account is reached.
            DoubtError: as `call` says; a service that failed may have taken it.
            AuthError: the seller's authorization ended, the account may not send, or its money is used up.
        """
        form = message.form
        sign = (form.sign_name if form else None) or self.settings.sign_name
        if message.order is None or form is None or form.template_id is None or sign is None:
            raise UnsupportedError(
                "a message without an order, an approved text, or a signature",
                who=self.account.name,
                operation="deliver",
                do=f"give the template a template_id and a sign_name for {self.account.name}",
            )
        try:
            answer = await self.top.send(
                "deliver",
                SEND,
                _Sent,
                param_send_message_by_o_a_i_d_request={
                    "order_id": message.order,
                    "oaid": message.address,
                    "sms_free_sign_name": sign,
                    "template_code": form.template_id,
                    "params": json.dumps(dict(form.params), ensure_ascii=False),
                    "extend": message.key,
                },
            )
        except RefusedError as error:
            return self._refusal(message, error)
        return message.accepted(vendor_id=answer.jst_sms_oaid_message_send_response.module)

    def _refusal(self, message: Message, error: RefusedError) -> Receipt:
        """What a refusal comes to. Its words may quote what was sent, so its code is what is told."""
        said = sub_code(error)
        detail = said or error.what
        name = name_of(said)
        if name == RECIPIENT_LIMIT:
            return message.deferred(detail, wait_of(sub_words(error)))
        if name in {DAY_LIMIT, MONTH_LIMIT}:
            what = f"the limit of this {'day' if name == DAY_LIMIT else 'month'} is reached ({detail})"
            do = "it is set in the console of Ju Shi Ta"
            wait = lasts(name, message.leaves_at or self.now())
            raise self.error(RetryableError, "deliver", what, do, retry_after=wait) from error
        if name in OURS:
            do = f"{OURS[name]} in the console of Ju Shi Ta, then `crmkit resume gateway {self.account.name}`"
            raise self.error(AuthError, "deliver", f"refused ({detail})", do) from error
        return message.rejected(reason_of(said), detail)

    # what to look after

    def check_template(self, wording: Wording) -> Iterable[str]:
        """What keeps a template from being sent by order token."""
        form = wording.form
        if form is None or not form.template_id:
            yield "no template_id of a text that Taobao approved"
        elif not re.fullmatch(r"SMS_\d{1,20}", form.template_id):
            yield f"template_id is {form.template_id!r}; those of Taobao look like SMS_123456789"
        if (form is None or not form.sign_name) and self.settings.sign_name is None:
            yield "no sign_name, neither in the template nor in the gateway's entry"
        elif form is not None and form.sign_name and not re.fullmatch(SIGN, form.sign_name):
            yield f"sign_name should be {SIGN_WORDS}"
        if wording.purpose == "marketing":
            yield "order tokens are for news of the order, not for marketing"

    async def check(self) -> Iterable[str]:
        """The token, and whether texts and signatures are approved."""
        try:
            found = dict.fromkeys(self.top.problems(await self.top.now()))
        except AdapterError as error:
            return [str(error)]
        signs = {form.sign_name for one in self.wordings if (form := one.form) and form.sign_name}
        signs |= {self.settings.sign_name} if self.settings.sign_name else set()
        asked: list[Callable[[], Awaitable[list[str]]]] = [partial(self._sign_problems, sign) for sign in sorted(signs)]
        for wording in self.wordings:
            if wording.form is not None and wording.form.template_id:
                asked.append(partial(self._text_problems, wording, wording.form.template_id))
        for one in asked:
            try:
                found |= dict.fromkeys(await one())
            except AdapterError as error:
                found[str(error)] = None  # once, though it is so of all
        return list(found)

    async def _sign_problems(self, sign: str) -> list[str]:
        found = await self._state("signname", "query_sms_sign_request", {"sign_name": sign})
        what = f"{self.account.name} check: the signature {sign!r}"
        return list(_state_problems(what, found, "sign_status"))

    async def _text_problems(self, wording: Wording, template_id: str) -> list[str]:
        found = await self._state("template", "query_sms_template_request", {"template_code": template_id})
        what = f"{self.account.name} check: the text {template_id} of {wording.file}"
        problems = list(_state_problems(what, found, "template_status"))
        if found.get("template_type") == ADVERTISING and wording.purpose != "marketing":
            problems.append(f"{what} is approved for advertising, not for news of an order")
        if (content := found.get("template_content")) and wording.form is not None:
            wanted, given = set(_PLACE.findall(str(content))), set(wording.form.params)
            if wanted - given:
                problems.append(f"{what} has places nothing fills: {', '.join(sorted(wanted - given))}")
            if given - wanted:
                problems.append(f"{what} has no places for {', '.join(sorted(given - wanted))}")
        return problems

    async def _state(self, what: str, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        """What the platform says of a text or a signature; {} if it does not know it.

        Raises:
            AdapterError: it does not say.
        """
        operation = f"check {what}s"
        params: dict[str, Any] = {name: asked}
        try:
            answer = await self.top.ask(operation, f"taobao.jst.sms.{what}.query", **params)
        except RefusedError as error:
            if not is_missing(error):
                raise
            return {}
        found, code = answer.get("module"), word(answer.get("r_code"))
        if not found and code and not says_missing(code):
            raise self.error(RefusedError, operation, f"refused ({code})")
        return found if isinstance(found, dict) else {}


def _state_problems(what: str, found: dict[str, Any], name: str) -> Iterator[str]:
    state = found.get(name)
    if not found:
        yield f"{what} is not known to Taobao; have it approved in the console of Ju Shi Ta"
    elif state == PENDING:
        yield f"{what} waits to be approved"
    elif state != APPROVED:
        yield f"{what} was refused: {found.get('reason') or 'no reason is told'}"


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    """This module's gateway."""
    yield TaobaoGateway

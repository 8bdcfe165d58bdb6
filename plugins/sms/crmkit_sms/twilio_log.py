"""Twilio's log of messages: whether one that is in doubt is in it, and when it is certain that it is not.

Vendor documentation: https://www.twilio.com/docs/messaging/api/message-resource
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import httpx

from crmkit import DoubtError, Message, PayloadError, answered_at
from crmkit_sms.twilio_likeness import NUMBER, is_masked, likeness
from crmkit_sms.twilio_shape import TwilioListed, TwilioMessages

#: A recipient with more pages of messages is not looked up; it also ends a list that never does.
PAGES, PAGE_SIZE = 20, 1_000
#: Our clock and Twilio's may differ by this much.
SKEW = timedelta(minutes=5)
#: What was decided longer ago may have been taken out of Twilio's log.
KEPT = timedelta(days=30)
#: So many of the account's newest messages tell whether its log shows numbers and texts as they are.
NEWEST = 200


class TwilioLog:
    """The log of one account.

    Args:
        call: makes a call, as `Adapter.call` does.
        who: the account's name, for errors.
        base: Twilio's address; whatever a list says, nothing else is called.
        url: where messages are listed.
        auth: how to sign in.
        rewrites: whether Twilio may replace characters of a text.
        channels: what a number may be listed with in front.
    """

    def __init__(
        self,
        call: Callable[..., Awaitable[httpx.Response]],
        who: str,
        base: str,
        url: str,
        auth: httpx.BasicAuth,
        *,
        rewrites: bool,
        channels: Sequence[str],
    ) -> None:
        self._call, self._who, self._base, self._url, self._auth = call, who, base, url, auth
        self._rewrites, self._channels = rewrites, channels

    async def find(self, message: Message, *, too_soon: bool) -> TwilioListed | None:
        """The message in the log; None only where it is certain that it is not there.

        Neither the sender (a service chooses it) nor the day sent (a message that still queues has none) narrows the
        list: what it leaves out would be sent twice. When it was made only tells it from others that read alike: our
        clock may have been wrong, or simulated.

        Args:
            message: in doubt.
            too_soon: whether the log may not have it yet.

        Raises:
            DoubtError: several could be it, or it is not certain that Twilio does not have it.
            AdapterError: Twilio could not be asked.
        """
        if not NUMBER.fullmatch(message.address or "") or not message.text:
            raise self._doubt("what is to be looked for is not known any more")
        since = message.decided_at - SKEW if message.decided_at is not None else None
        same, unclear, older = [], 0, 0
        async for found in self._sent_to(message.address):
            alike = likeness(found, message, rewrites=self._rewrites)
            if alike == "other":
                continue
            if since is not None and found.created_at is not None and found.created_at < since:
                older += 1
            elif alike == "same":
                same.append(found)
            else:
                unclear += 1
        if unclear or len(same) > 1:
            raise self._doubt(f"{unclear + len(same)} messages to this number could be it")
        if same:
            return same[0]
        if older:
            raise self._doubt("an older message to this number could be it, if a clock was wrong")
        await self._make_certain(message, too_soon)
        return None

    async def _make_certain(self, message: Message, too_soon: bool) -> None:
        """That a message is not in the list means that Twilio does not have it.

        Raises:
            DoubtError: it may not mean that.
        """
        if too_soon:  # the run's clock may be ahead of the one by which Twilio's list fills up
            raise self._doubt("not in Twilio's list, which may be behind", "look again some minutes after the try")
        page, theirs = await self.page({"PageSize": NEWEST}, operation="look up")
        ours = message.leaves_at
        if ours is None or theirs is None or abs(ours - theirs) > SKEW:
            raise self._doubt(
                "not in Twilio's list, and by Twilio's clock it is another time", "set the clock of this machine"
            )
        if message.decided_at is None or not -SKEW <= ours - message.decided_at <= KEPT:
            raise self._doubt(f"not in Twilio's list, and not decided within the last {KEPT.days} days")
        # a list that is asked for a number leaves out what is kept under the same number written otherwise
        for found in page.messages:
            if found.direction == "inbound":
                continue
            if is_masked(found.to) or likeness(found, message, rewrites=self._rewrites) != "other":
                raise self._doubt("Twilio's log shows numbers or texts otherwise than they were sent")

    def _doubt(self, what: str, do: str = "see in Twilio's message log, and decide") -> DoubtError:
        return DoubtError(what, who=self._who, operation="look up", do=do)

    async def _sent_to(self, address: str) -> AsyncIterator[TwilioListed]:
        """Everything Twilio has that was sent to a number, each message once."""
        known = set[str]()
        for channel in self._channels:
            async for found in self._listed({"To": f"{channel}{address}", "PageSize": PAGE_SIZE}):
                if found.sid is None or found.sid not in known:
                    yield found
                known.add(found.sid or "")

    async def _listed(self, params: dict[str, Any]) -> AsyncIterator[TwilioListed]:
        """All pages of a list.

        Raises:
            DoubtError: it does not end, or does not say that it does.
        """
        url, seen = "", set[str]()
        while True:
            page, _ = await self.page(params, url, operation="look up")
            for found in page.messages:
                yield found
            onward = page.next_page_uri
            if not onward:
                if not page.is_last or len(page.messages) >= PAGE_SIZE:
                    raise self._doubt("the list of messages to this number is cut short")
                return
            if onward in seen or len(seen) >= PAGES - 1 or not onward.startswith("/"):
                raise self._doubt("the list of messages to this number does not end")
            seen.add(onward)
            url, params = f"{self._base}{onward}", {}

    async def page(
        self, params: dict[str, Any], url: str = "", *, operation: str
    ) -> tuple[TwilioMessages, datetime | None]:
        """A page, and when Twilio wrote it by its own clock.

        Raises:
            AdapterError: as `Adapter.call` says of what only reads.
        """
        # httpx drops the query of an address that is also given params
        options: dict[str, Any] = {"params": params} if params else {}
        response = await self._call(operation, "GET", url or self._url, auth=self._auth, sends=False, **options)
        try:
            return TwilioMessages.model_validate_json(response.content), answered_at(response)
        except ValueError:
            what, do = "an answer that is no list of messages", "look at base_url, and at what stands between"
            raise PayloadError(what, who=self._who, operation=operation, do=do) from None

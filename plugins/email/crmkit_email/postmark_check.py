"""What `crmkit doctor` says of a server at Postmark: its token, its message streams, its webhooks.

Vendor documentation: https://postmarkapp.com/developer/api/server-api,
https://postmarkapp.com/developer/api/message-streams-api, https://postmarkapp.com/developer/api/webhooks-api

Whether the sender's domain is confirmed, only an account's token may ask; the first mail tells.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx

from crmkit import Account, AdapterError
from crmkit_email.postmark_settings import PostmarkSettings

#: Without these, messages stay "sent", or unsubscribed customers are written to.
WANTED = ("Delivery", "Bounce", "SpamComplaint", "SubscriptionChange")


class PostmarkCheck:
    """Asks a server what a shop would want to know.

    Args:
        ask: makes a call that only reads.
        account, settings: the gateway's.
    """

    def __init__(
        self, ask: Callable[..., Awaitable[httpx.Response]], account: Account, settings: PostmarkSettings
    ) -> None:
        self._ask, self._account, self._settings = ask, account, settings
        self._who = f"{account.name} check"

    async def problems(self) -> list[str]:
        """One line for each thing that should be mended."""
        found = list(self._of_settings())
        try:
            async for problem in self._of_server():
                found.append(f"{self._who}: {problem}")
        except AdapterError as error:
            found.append(str(error))
        except (ValueError, TypeError, AttributeError):
            found.append(f"{self._who}: an answer that is not Postmark's; look at base_url")
        return found

    def _of_settings(self) -> Iterator[str]:
        if self._account.webhook_url is None:
            yield f"{self._who}: no receipts come in without a web address; set [web] url"
        elif self._settings.webhook_secret is None:
            yield f"{self._who}: webhooks cannot be verified; set webhook_secret"

    async def _of_server(self) -> AsyncIterator[str]:
        server = await self._json("/server")
        if str(server.get("DeliveryType", "Live")).lower() == "sandbox":
            yield "the server is a sandbox: it takes mails and sends none"
        for purpose in ("transactional", "marketing"):
            async for problem in self._of_stream(purpose):
                yield problem

    async def _of_stream(self, purpose: str) -> AsyncIterator[str]:
        name = self._settings.stream(purpose)
        response = await self._ask("check", f"/message-streams/{name}", answers={404, 422})
        if response.status_code != 200:
            yield f"there is no message stream {name}; correct {purpose}_stream"
            return
        stream = json.loads(response.content)
        if stream.get("ArchivedAt"):
            yield f"the message stream {name} is archived; correct {purpose}_stream"
        kind = stream.get("MessageStreamType")
        if purpose == "marketing" and kind not in (None, "Broadcasts"):
            yield f"the message stream {name} is not for broadcasts, where marketing belongs; correct marketing_stream"
        if purpose == "marketing":
            handling = (stream.get("SubscriptionManagementConfiguration") or {}).get("UnsubscribeHandlingType")
            theirs = self._settings.unsubscribe_by == "postmark"
            if handling is not None and (handling == "Postmark") != theirs:
                yield (
                    f'unsubscribe_by = "{self._settings.unsubscribe_by}", and the message stream {name} says otherwise '
                    f"({handling}); change one of the two"
                )
        if self._account.webhook_url is not None:
            async for problem in self._of_webhooks(name):
                yield problem

    async def _of_webhooks(self, stream: str) -> AsyncIterator[str]:
        url = self._account.webhook_url
        said = await self._json("/webhooks", params={"MessageStream": stream})
        hooks = [one for one in said.get("Webhooks", []) if str(one.get("Url", "")).startswith(f"{url}/")]
        if not hooks:
            yield f"no webhook of the message stream {stream} leads to {url}/SECRET; add one at Postmark"
            return
        told = {name for hook in hooks for name in WANTED if hook.get("Triggers", {}).get(name, {}).get("Enabled")}
        lacking = [name for name in WANTED if name not in told]
        if lacking:
            yield f"the webhook of the message stream {stream} does not tell of {', '.join(lacking)}"

    async def _json(self, path: str, **options: Any) -> dict[str, Any]:
        found = json.loads((await self._ask("check", path, **options)).content)
        if not isinstance(found, dict):
            raise TypeError(path)
        return found

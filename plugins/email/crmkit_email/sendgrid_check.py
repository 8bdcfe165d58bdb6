"""What `crmkit doctor` says of an account at SendGrid: its key, its sender, its credits, its groups and its webhook.

Vendor documentation: https://www.twilio.com/docs/sendgrid/api-reference

What a key may not read is not asked: a key that may only send is a good one.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
from pydantic import BaseModel

from crmkit import Account, AdapterError
from crmkit_email.address import parse_mailbox
from crmkit_email.sendgrid_settings import SendgridSettings

#: Events without which messages stay "sent", or unsubscribed customers are written to.
WANTED = (
    *("processed", "delivered", "bounce", "dropped"),
    *("spam_report", "unsubscribe", "group_unsubscribe", "group_resubscribe"),
)
ALL_WEBHOOKS = "/v3/user/webhooks/event/settings/all"


class Scopes(BaseModel):
    """What a key may do."""

    scopes: list[str]


class SendgridCheck:
    """Asks an account what a shop would want to know.

    Args:
        ask: makes a call.
        account, settings: the gateway's.
    """

    def __init__(
        self, ask: Callable[..., Awaitable[httpx.Response]], account: Account, settings: SendgridSettings
    ) -> None:
        self._ask, self._account, self._settings = ask, account, settings
        self._who = f"{account.name} check"

    async def problems(self) -> list[str]:
        """One line for each thing that should be mended."""
        found = list(self._of_settings())
        try:
            response = await self._ask("check", "GET", "/v3/scopes", sends=False)
            scopes = set(Scopes.model_validate_json(response.content).scopes)
            found += [problem async for problem in self._of_account(scopes)]
        except AdapterError as error:
            found.append(str(error))
        except ValueError:
            found.append(f"{self._who}: an answer that is not SendGrid's; look at base_url")
        return found

    def _of_settings(self) -> Iterator[str]:
        if self._account.webhook_url is None:
            yield f"{self._who}: no events come in without a web address; set [web] url"
        elif self._settings.webhook_public_key is None:
            yield f"{self._who}: events cannot be verified; set webhook_public_key"
        if self._settings.sandbox:
            yield f"{self._who}: SendGrid only checks mails and sends none; leave sandbox out"

    async def _of_account(self, scopes: set[str]) -> Any:
        if "mail.send" not in scopes:
            yield f'{self._who}: the API key may not send; give it "Mail Send: Full Access" at SendGrid'
        if self._settings.suppressions and "suppression.read" not in scopes:
            yield (
                f"{self._who}: the API key may not read suppressions; "
                'give it "Suppressions: Read Access" at SendGrid, or set suppressions = false'
            )
        asked = {
            "whitelabel.read": self._of_sender,
            "user.credits.read": self._of_credits,
            "asm.groups.read": self._of_groups,
            "user.webhooks.event.settings.read": self._of_webhooks,
        }
        for scope, ask in asked.items():
            if scope in scopes:
                for problem in await ask():
                    yield f"{self._who}: {problem}"

    async def _of_sender(self) -> list[str]:
        domain = parse_mailbox(self._settings.sender).address.domain
        rows = await self._rows("/v3/whitelabel/domains", {"domain": domain})
        if any(str(row.get("domain", "")).lower() == domain.lower() and row.get("valid") for row in rows):
            return []
        return [f"the domain {domain} is not authenticated; Settings > Sender Authentication at SendGrid"]

    async def _of_credits(self) -> list[str]:
        response = await self._ask("check", "GET", "/v3/user/credits", sends=False, answers={404})
        found = response.json() if response.status_code == 200 else {}
        remain = found.get("remain") if isinstance(found, dict) else None
        return [f"no credits are left (of {found.get('total')})"] if isinstance(remain, int) and remain <= 0 else []

    async def _of_groups(self) -> list[str]:
        settings = {name: getattr(self._settings, name) for name in ("transactional_group", "marketing_group")}
        if not any(settings.values()):
            return []
        known = {row.get("id") for row in await self._rows("/v3/asm/groups", {})}
        return [
            f"there is no unsubscribe group {group}; correct {name}"
            for name, group in settings.items()
            if group is not None and group not in known
        ]

    async def _of_webhooks(self) -> list[str]:
        url = self._account.webhook_url
        if url is None:
            return []
        response = await self._ask("check", "GET", ALL_WEBHOOKS, sends=False)
        said = response.json()
        hooks = said.get("webhooks", []) if isinstance(said, dict) else []
        hooks = [one for one in hooks if isinstance(one, dict)]
        hook = next((one for one in hooks if one.get("url") == url and one.get("enabled")), None)
        if hook is None:
            return [f"no event webhook leads to {url}; Settings > Mail Settings > Event Webhooks at SendGrid"]
        lacking = [name for name in WANTED if hook.get(name) is False]
        found = [f"the event webhook does not tell of {', '.join(lacking)}"] if lacking else []
        keys = self._settings.webhook_public_key
        several = keys if isinstance(keys, list) else [keys]
        if not hook.get("public_key"):
            found.append("the event webhook is not signed; switch on its signature verification at SendGrid")
        elif hook["public_key"] not in several:
            found.append("the event webhook is signed with another key; correct webhook_public_key")
        return found

    async def _rows(self, path: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        response = await self._ask("check", "GET", path, sends=False, **({"params": params} if params else {}))
        rows = response.json()
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

"""A gateway to a vendor that answers in XML, always with HTTP 200: what went wrong is an element of the answer."""

from xml.etree import ElementTree

import httpx
from pydantic import SecretStr

from crmkit import (
    AdapterError,
    AuthError,
    DoubtError,
    Gateway,
    GatewaySettings,
    Message,
    PayloadError,
    Reason,
    Receipt,
    RetryableError,
)

URL = "https://rook.example"
REASONS = {"21": Reason.BAD_ADDRESS, "22": Reason.CONTENT}


class RookGateway(Gateway):
    """Sends text messages through Rook."""

    name = "rook"
    channel = "sms"
    reaches = ("phone",)

    class Settings(GatewaySettings):
        token: SecretStr

    def fault(self, operation: str, response: httpx.Response) -> AdapterError | None:
        code = error_of(to_xml(response))
        if code == "401":
            return self.error(AuthError, operation, "credentials refused (401)", "check its token in crmkit.toml")
        return self.error(RetryableError, operation, "too busy (7)") if code == "7" else None

    async def deliver(self, message: Message) -> Receipt:
        token = self.settings.token.get_secret_value()
        form = {"token": token, "to": message.address, "text": message.text, "reference": message.key}
        said = to_xml(await self.call("deliver", "POST", f"{URL}/send", data=form))
        code, number = error_of(said), number_of(said)
        if code is not None:
            return message.rejected(REASONS.get(code, Reason.OTHER), f"code {code}")
        if number is None:
            raise self.error(DoubtError, "deliver", "an answer that says nothing")
        return message.accepted(vendor_id=number)

    async def look_up(self, message: Message) -> Receipt | None:
        query = {"token": self.settings.token.get_secret_value(), "reference": message.key}
        said = to_xml(await self.call("look up", "GET", f"{URL}/log", params=query, sends=False))
        code, number = error_of(said), number_of(said)
        if said is None or code is not None:
            raise self.error(PayloadError, "look up", f"no log (code {code})")
        return None if number is None else message.accepted(vendor_id=number)


def to_xml(response: httpx.Response) -> ElementTree.Element | None:
    """What it says; None where it is no answer of this vendor."""
    try:
        said = ElementTree.fromstring(response.content)
    except ElementTree.ParseError:
        return None
    return said if said.tag == "answer" else None


def error_of(said: ElementTree.Element | None) -> str | None:
    """The code of what went wrong; None where nothing did."""
    found = None if said is None else said.find("error")
    return None if found is None else found.get("code", "none")


def number_of(said: ElementTree.Element | None) -> str | None:
    """The vendor's number of a message; None where there is none."""
    found = None if said is None else said.find("message")
    return None if found is None else found.get("id")

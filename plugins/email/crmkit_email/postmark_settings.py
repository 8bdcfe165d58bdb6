"""As whom mail is sent through Postmark, and by which of its message streams."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, SecretStr, StringConstraints, model_validator

from crmkit import PathSecret
from crmkit_email.api import ApiSettings

StreamId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,29}$")]


class PostmarkSettings(ApiSettings):
    """As whom, and from where."""

    model_config = ConfigDict(hide_input_in_errors=True)

    #: a server's API token
    server_token: SecretStr
    #: what the address ends in that webhooks are sent to; a list while it is changed over
    webhook_secret: PathSecret | None = None
    #: the message stream of transactional mail
    transactional_stream: StreamId = "outbound"
    #: the message stream of marketing mail, a broadcast stream
    marketing_stream: StreamId = "broadcast"
    #: who writes the unsubscribe header of marketing mail; Postmark lets others do so on request
    unsubscribe_by: Literal["postmark", "crmkit"] = "postmark"
    #: whether addresses that Postmark suppresses are read
    suppressions: bool = True
    #: whether links lead through Postmark, so that it can tell who followed them
    click_tracking: bool = False
    #: whether mails hold a picture that tells Postmark when they are opened
    open_tracking: bool = False
    #: another address than Postmark's own
    base_url: str = "https://api.postmarkapp.com"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.transactional_stream == self.marketing_stream:
            raise ValueError("transactional_stream and marketing_stream are one: marketing needs a broadcast stream")
        return self

    def stream(self, purpose: str) -> str:
        """The message stream of mail for a purpose."""
        return self.marketing_stream if purpose == "marketing" else self.transactional_stream

    def purpose(self, stream: str | None) -> Literal["transactional", "marketing"] | None:
        """What the mail of a message stream is for; None where it is none of ours."""
        if stream == self.marketing_stream:
            return "marketing"
        return "transactional" if stream == self.transactional_stream else None

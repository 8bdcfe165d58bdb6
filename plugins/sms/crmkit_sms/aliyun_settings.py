"""As whom messages are sent through Alibaba Cloud, and how it is known who calls."""

from typing import Annotated

from pydantic import ConfigDict, SecretStr, StringConstraints

from crmkit import GatewaySettings, PathSecret
from crmkit_sms.endpoint import Endpoint


class AliyunSettings(GatewaySettings):
    """As whom, and from where."""

    model_config = ConfigDict(hide_input_in_errors=True)

    #: of the RAM user that sends
    access_key_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{6,128}$")]
    #: goes with it, and signs every request
    access_key_secret: SecretStr
    #: what the address ends in that receipts and replies are sent to; a list while it is changed over
    webhook_secret: PathSecret | None = None
    #: digits after the sender's number, by which replies are told apart
    extend_code: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,8}$")] | None = None
    #: languages whose opt-out words count; all where unset
    opt_out_locales: list[str] | None = None
    #: another region's address
    base_url: Endpoint = "https://dysmsapi.aliyuncs.com"

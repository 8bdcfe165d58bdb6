"""As whom messages are sent through Tencent Cloud, and how it is known who calls."""

from typing import Annotated

from pydantic import ConfigDict, SecretStr, StringConstraints

from crmkit import GatewaySettings, PathSecret
from crmkit_sms.endpoint import Endpoint


class TencentSettings(GatewaySettings):
    """As whom, and from where."""

    model_config = ConfigDict(hide_input_in_errors=True)

    #: of the CAM user that sends
    secret_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{6,128}$")]
    #: goes with it, and signs every request
    secret_key: SecretStr
    #: the application in the text message console, `1400000001`
    app_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{6,16}$")]
    #: the region whose service is asked
    region: Annotated[str, StringConstraints(pattern=r"^[a-z]+-[a-z0-9-]+$")] = "ap-guangzhou"
    #: what the address ends in that receipts and replies are sent to; a list while it is changed over
    webhook_secret: PathSecret | None = None
    #: digits after the sender's number, by which replies are told apart
    extend_code: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,8}$")] | None = None
    #: from whom messages to other countries come, where that has to be registered
    sender_id: str | None = None
    #: the account takes values of more than six characters: those that are older than 2024-01-25, and in use since
    long_values: bool = False
    #: languages whose opt-out words count; all where unset
    opt_out_locales: list[str] | None = None
    #: another region's address
    base_url: Endpoint = "https://sms.tencentcloudapi.com"

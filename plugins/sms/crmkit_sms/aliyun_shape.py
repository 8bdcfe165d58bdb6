"""What Alibaba Cloud writes, as far as it is read here.

Vendor documentation: https://help.aliyun.com/zh/sms/developer-reference/api-dysmsapi-2017-05-25-overview
"""

import json
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_pascal


def _word(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


#: Numbers are written as text at times, and the other way round.
Word = Annotated[str, BeforeValidator(_word)]


class _Shape(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal)


class AliyunAnswer(_Shape):
    """What every answer begins with; `BizId` where something was sent."""

    code: Word = ""
    message: str = ""
    biz_id: str | None = None

    @classmethod
    def of(cls, response: httpx.Response) -> "AliyunAnswer | None":
        """An answer; None if it is none."""
        try:
            found = json.loads(response.content)
            answer = cls.model_validate({**found, "Message": str(found.get("Message") or "")})
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None
        return answer if answer.code else None


class AliyunDetail(_Shape):
    """One message in the log of a number."""

    out_id: Word | None = None
    template_code: str | None = None
    content: str | None = None
    #: 1 waiting for its receipt, 2 failed, 3 delivered
    send_status: int | None = None
    err_code: Word | None = None


class _Details(BaseModel):
    found: list[AliyunDetail] = Field(default_factory=list, alias="SmsSendDetailDTO")


class AliyunDetails(_Shape):
    """A page of the log of a number on a day."""

    details: _Details = Field(alias="SmsSendDetailDTOs")
    total_count: int


class _Review(_Shape):
    reject_info: str | None = None


class AliyunTemplate(_Shape):
    """How a template stands: 0 in review, 1 approved, 2 refused, 10 withdrawn; of type 2, marketing, or 3, abroad."""

    template_status: Word
    template_type: Word | None = None
    template_content: str | None = None
    audit_info: _Review | None = None


class _Filing(_Shape):
    operator_code: str | None = None
    register_status: int | None = None


class AliyunSign(_Shape):
    """How a sign stands; and with each carrier, where 1 and 3 say that it was filed."""

    sign_status: Word
    audit_info: _Review | None = None
    filings: list[_Filing] | None = Field(None, alias="SignIspRegisterDetailList")

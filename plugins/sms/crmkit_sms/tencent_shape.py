"""What Tencent Cloud writes, as far as it is read here: everything stands below `Response`, its errors too.

Vendor documentation: https://cloud.tencent.com/document/api/382/52078
"""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Generic, TypeVar

import httpx
from pydantic import BaseModel, BeforeValidator, Field

T = TypeVar("T")


def _word(value: Any) -> Any:
    if value is None:
        return ""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _words(value: Any) -> str:
    return value if isinstance(value, str) else ""


#: Numbers are written as text at times, and what is missing as null.
Word = Annotated[str, BeforeValidator(_word)]
Words = Annotated[str, BeforeValidator(_words)]


class TencentError(BaseModel):
    """What was refused, and why."""

    code: str = Field(alias="Code", min_length=1)
    message: Words = Field("", alias="Message")

    @classmethod
    def of(cls, response: httpx.Response) -> "TencentError | None":
        """The error an answer tells of; None if it tells of none."""
        try:
            return cls.model_validate(json.loads(response.content)["Response"]["Error"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return None


class Answer(BaseModel, Generic[T]):
    """Any answer."""

    response: T = Field(alias="Response")


class TencentStatus(BaseModel):
    """What became of the message to one number."""

    code: str = Field(alias="Code", min_length=1)
    message: Words = Field("", alias="Message")
    serial_no: Word = Field("", alias="SerialNo")
    number: Word = Field("", alias="PhoneNumber")


class TencentSent(BaseModel):
    """What became of a call: a status for each number."""

    said: list[Any] = Field(alias="SendStatusSet")

    def statuses(self) -> Iterator[TencentStatus]:
        """Those that can be read; one that cannot takes nothing from the others."""
        for one in self.said:
            try:
                yield TencentStatus.model_validate(one)
            except ValueError:
                continue


class TencentReport(BaseModel):
    """What a carrier said of a message."""

    serial_no: Word = Field("", alias="SerialNo")
    status: str | None = Field(None, alias="ReportStatus")
    description: Words = Field("", alias="Description")
    #: what the call was given; only where the vendor has switched it on
    session: Words = Field("", alias="SessionContext")


class TencentReports(BaseModel):
    """What carriers said of the messages to a number."""

    reports: list[TencentReport] = Field(alias="PullSmsSendStatusSet")


class TencentTemplate(BaseModel):
    """How a template stands: 0 approved, 1 in review, 2 approved and not yet in force, -1 refused."""

    template_id: Word = Field(alias="TemplateId")
    status: int = Field(alias="StatusCode")
    reply: Words = Field("", alias="ReviewReply")
    content: str | None = Field(None, alias="TemplateContent")


class TencentTemplates(BaseModel):
    """Templates that were asked for."""

    templates: list[TencentTemplate] = Field(alias="DescribeTemplateStatusSet")


class TencentSign(BaseModel):
    """How a sign stands, as a template does."""

    sign_id: Word = Field(alias="SignId")
    name: Words = Field("", alias="SignName")
    status: int = Field(alias="StatusCode")
    reply: Words = Field("", alias="ReviewReply")


class TencentSigns(BaseModel):
    """Signs that were asked for."""

    signs: list[TencentSign] = Field(alias="DescribeSignListStatusSet")


class TencentPackage(BaseModel):
    """A package of messages that was paid for."""

    amount: int = Field(alias="PackageAmount")
    used: int = Field(alias="CurrentUsage")
    #: seconds since 1970
    expires: int = Field(alias="PackageExpiredTime")


class TencentPackages(BaseModel):
    """The packages of an application."""

    packages: list[TencentPackage] = Field(alias="SmsPackagesStatisticsSet")

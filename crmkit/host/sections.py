"""The core's own sections of crmkit.toml, and the core's keys in the sections that adapters share with it.

An adapter's section holds both: what is not a key of the core's goes to the adapter's `Settings`.
"""

import re
from datetime import UTC, date, datetime, time, timedelta
from ipaddress import ip_network
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from crmkit.core.balance import Balance, read_balance
from crmkit.core.customer import normal_email, normal_phone
from crmkit.core.duration import Duration, parse_duration
from crmkit.core.money import Money
from crmkit.core.quota import Budget, read_price, read_rate
from crmkit.core.reputation import Thresholds, read_share
from crmkit.flow.cap import Cap, parse_cap

_LOCALE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_CLOCK = r"([01][0-9]|2[0-3]):([0-5][0-9])"
_HOURS = re.compile(f"{_CLOCK}-{_CLOCK}")


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError('should be a zone of the tz database, like "Asia/Shanghai"') from None
    return name


def _locale(written: str) -> str:
    if not _LOCALE.fullmatch(written):
        raise ValueError('should be a locale like "en" or "zh-CN"')
    return written


def _hours(written: Any) -> tuple[time, time]:
    if isinstance(written, tuple):
        return written
    found = _HOURS.fullmatch(written) if isinstance(written, str) else None
    if found is None:
        raise ValueError('should be local hours like "21:00-09:00"')
    begin, end = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    if begin == end:
        raise ValueError("begins when it ends; leave it out for no quiet hours")
    return begin, end


def _moment(written: Any) -> datetime | None:
    """A time as TOML or text writes it; a date is its first moment, and without a zone it is local."""
    if written is None or isinstance(written, datetime):
        return written
    if isinstance(written, date):
        return datetime(written.year, written.month, written.day)
    try:
        return datetime.fromisoformat(written)
    except (TypeError, ValueError):
        raise ValueError("should be a time like 2026-05-07T00:00:00+08:00, or without the zone a local one") from None


def _network(written: str) -> str:
    try:
        return str(ip_network(written, strict=False))
    except ValueError:
        raise ValueError('should be an address or a network like "10.0.0.0/8"') from None


def _kept(written: Any) -> timedelta | None:
    """How long something is kept; None: for ever."""
    if written is None or written == "ever":
        return None
    try:
        found = parse_duration(written)
    except ValueError as error:
        raise ValueError(f'{error}, or "ever"') from None
    if found < timedelta(days=1):
        raise ValueError('should be a day at least, like "400d", or "ever"')
    return found


def local(moment: datetime, zone: str) -> datetime:
    """`moment` in UTC; one without a zone is read in `zone`."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


Zone = Annotated[str, AfterValidator(_zone)]
Locale = Annotated[str, AfterValidator(_locale)]
Hours = Annotated[
    tuple[time, time],
    BeforeValidator(_hours),
    WithJsonSchema({"type": "string", "pattern": f"^{_CLOCK}-{_CLOCK}$", "examples": ["21:00-09:00"]}),
]
LocalTime = Annotated[
    datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "examples": ["2026-05-07T00:00:00+08:00"]})
]
MarketingCap = Annotated[
    Cap,
    BeforeValidator(parse_cap),
    WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,2}/(day|week|month)$", "examples": ["2/week"]}),
]
Rate = Annotated[
    float,
    BeforeValidator(read_rate),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,9} ?/ ?[smh]$", "examples": ["50/s"]}),
]
Calls = Annotated[
    float,
    BeforeValidator(lambda written: read_rate(written, "calls")),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,9} ?/ ?[smh]$", "examples": ["200/s"]}),
]
SpendingLimit = Annotated[
    Budget,
    BeforeValidator(Budget.read),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^[0-9]{1,12}(\.[0-9]{1,6})? ?[A-Z]{3} ?/ ?(day|month)$",
            "examples": ["20 EUR/day"],
        }
    ),
]
Price = Annotated[
    Money,
    BeforeValidator(read_price),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,9})? ?[A-Z]{3}$", "examples": ["0.05 EUR"]}),
]
Low = Annotated[
    Balance,
    BeforeValidator(read_balance),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,9})? ?[A-Z]{3}$"},
                {"type": "integer", "minimum": 0},
            ],
            "examples": ["20 USD", 500],
        }
    ),
]
Threshold = Annotated[
    float | None,
    BeforeValidator(read_share),
    WithJsonSchema(
        {"type": "string", "pattern": r"^([0-9]{1,3}(\.[0-9]{1,3})? ?%|never)$", "examples": ["10%", "never"]}
    ),
]
Network = Annotated[str, AfterValidator(_network)]
Kept = Annotated[
    timedelta | None,
    BeforeValidator(_kept),
    WithJsonSchema({"type": "string", "pattern": "^([0-9]+ ?[smhdw]|ever)$", "examples": ["400d", "ever"]}),
]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["CNY"])]
Region = Annotated[str, Field(pattern=r"^[A-Z]{2}$", examples=["CN"])]


class Section(BaseModel):
    """Base of the core's sections: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


class CrmSection(Section):
    """`[crm]`: the installation as a whole. `key` encrypts what adapters remember and hides whom it forgot.

    `instance` is the name of the database that is sent for.
    """

    database: str = "sqlite:///crm.db"
    key: str | None = None
    instance: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", examples=["tea-house"])] | None = None
    locale: Locale = "en"
    timezone: Zone = "UTC"
    title: str | None = None


class PluginsSection(Section):
    """`[plugins]`: the playbooks that are switched on; adapters are loaded by being used."""

    use: list[str] = []


class AccountSection(Section):
    """The core's keys of `[shops.NAME]` and `[sources.NAME]`."""

    use: str
    enabled: bool = True
    title: str | None = None
    announce_from: LocalTime | None = None
    locale: Locale | None = None
    timezone: Zone | None = None
    currency: Currency | None = None
    region: Region | None = None


class WebSection(Section):
    """`[web]`: where vendors and customers reach this installation from outside.

    `link_keys` sign the links customers are given: the first signs, all of them open. `privacy` and `contact` are where
    customers' pages lead for what becomes of data, and to write to the shop. Of `proxies` it is believed for
    whom they call. `keep_bodies` is how long raw bodies are kept once they were taken in. `webhooks` is how many of one
    account are heard, `connections` how many stand at once.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$", examples=["https://crm.example.com"])] | None = None
    link_keys: list[str] = []
    privacy: Annotated[str, Field(pattern=r"^https://\S+$", examples=["https://shop.example.com/privacy"])] | None = (
        None
    )
    contact: Annotated[str, Field(pattern=r"^(https://|mailto:)\S+$", examples=["mailto:shop@example.com"])] | None = (
        None
    )
    proxies: list[Network] = ["127.0.0.0/8", "::1/128"]
    keep_bodies: Duration = timedelta(days=30)
    webhooks: Calls = 200.0
    connections: Annotated[int, Field(ge=8, le=100_000)] = 1_000


class EntrySection(Section):
    """The core's keys of `[[channels.CHANNEL]]`."""

    use: str
    enabled: bool = True
    name: Annotated[str, Field(min_length=1)] | None = None
    shops: list[str] = []
    connection: str | None = None
    rate: Rate | None = None
    daily: Annotated[int, Field(ge=1, lt=10**9)] | None = None
    budget: SpendingLimit | None = None
    price: Price | None = None
    balance_low: Low | None = None


class PauseSection(Section):
    """`[policy.pause]`: how much of what a gateway sends may go wrong before it is paused."""

    errors: Threshold = 0.2
    bounces: Threshold = 0.1
    complaints: Threshold = 0.005
    window: Duration = timedelta(hours=24)
    sample: Annotated[int, Field(ge=1, lt=10**9)] = 100

    def thresholds(self) -> Thresholds:
        """As it is kept to."""
        return Thresholds(self.errors, self.bounces, self.complaints, self.window, self.sample)


class PolicySection(Section):
    """`[policy]`: what may be sent when."""

    quiet_hours: Hours | None = None
    marketing_default: Literal["deny", "allow"] = "deny"
    marketing_cap: MarketingCap | None = None
    pause: PauseSection = PauseSection()


def _reachable(written: str) -> str:
    try:
        return normal_email(written) if "@" in written else normal_phone(written, None)
    except ValueError:
        raise ValueError('should be an e-mail address, or a number like "+4915112345678"') from None


class StagingSection(Section):
    """`[staging]`: whom an installation for trying out may reach; it is on where this section is there.

    `allow` are addresses that are written to as they are, `*` standing for anything. Whatever is for another goes to
    the address that `redirect` has for its channel, and waits where there is none.
    """

    allow: Annotated[list[str], Field(examples=[["*@shop.example", "+4915*"]])] = []
    redirect: Annotated[
        dict[str, Annotated[str, AfterValidator(_reachable)]], Field(examples=[{"email": "me@shop.example"}])
    ] = {}


class RetentionSection(Section):
    """`[retention]`: how long what nobody needs any more is kept: `"400d"`, or `"ever"`.

    Raw bodies of webhooks have their own: `[web] keep_bodies`.
    """

    texts: Kept = timedelta(days=400)
    attempts: Kept = timedelta(days=400)
    receipts: Kept = timedelta(days=400)
    quarantine: Kept = timedelta(days=180)
    runs: Kept = timedelta(days=90)
    tokens: Kept = timedelta(days=90)
    strangers: Kept = timedelta(days=90)
    history: Kept = timedelta(days=400)
    rhythms: Kept = timedelta(days=90)


class StaffSection(Section):
    """`[[staff]]`: a person of the shop."""

    name: Annotated[str, Field(min_length=1)]
    teams: list[str] = []
    email: Annotated[str, AfterValidator(normal_email)] | None = None
    phone: Annotated[str, AfterValidator(lambda written: normal_phone(written, None))] | None = None
    locale: Locale | None = None
    quiet_hours: Hours | None = None

"""Profiles, identities, addresses and consent: who is who, and whom we may reach.

A *profile* is what one identity (or guest) is recorded under; a *family* is the profiles that are one customer, and
"customer" counts families. A record belongs to the profile of its own strong identity, a guest's to that of its
e-mail, else its phone, else its order. Families are a pure function of all evidence (see `families`), so the order in
which evidence arrives cannot matter.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from crmkit.core.columns import Json, UtcTime
from crmkit.core.records import Address, Buyer

#: An identity shared by more profiles than this joins none of them: it is a family's landline or a shop's own number.
SHARED_LIMIT = 20


#: Entries of the ledger that are complaints, in SQL: the condition of an index.
COMPLAINED = "is_complaint"


class ProfileRow(SQLModel, table=True):
    """What one identity, or one guest, is recorded under.

    `family_id` is the profile its customer goes by (itself when alone), derived from evidence; `merged_into` is a
    person's decision. `stage`, `cycle` and `stage_at` count on the row a family goes by.
    """

    __tablename__ = "profile"
    __table_args__ = (
        Index("profile_family", "family_id"),
        Index(
            "profile_forgotten",
            "id",
            sqlite_where=text("forgotten_at IS NOT NULL"),
            postgresql_where=text("forgotten_at IS NOT NULL"),
        ),
        Index(
            "profile_merged",
            "merged_into",
            sqlite_where=text("merged_into IS NOT NULL"),
            postgresql_where=text("merged_into IS NOT NULL"),
        ),
    )

    id: int = Field(primary_key=True)
    key: str = Field(unique=True)
    family_id: int
    merged_into: int | None = None
    needs_review: bool = False
    #: what stood against joining it when a person said that it stays as it is (`Contest.mark`)
    settled: str | None = None
    #: since when nothing is known any more; only what others point at is left of the row
    forgotten_at: datetime | None = Field(default=None, sa_type=UtcTime)
    name: str | None = None
    locale: str | None = None
    timezone: str | None = None
    city: str | None = None
    country: str | None = None
    birthday: date | None = None
    #: {field: [version..., the shop's number]}: where each value came from, masked values lowest
    sources: dict[str, Any] | None = Field(default=None, sa_type=Json)
    stage: str = "engage"
    cycle: int = 1
    stage_at: datetime | None = Field(default=None, sa_type=UtcTime)
    created_at: datetime = Field(sa_type=UtcTime)
    #: the run that wrote it, while no other did
    run_id: int | None = None


class IdentityRow(SQLModel, table=True):
    """Evidence: this profile was seen with this identity. A weak identity may be seen with several profiles."""

    __tablename__ = "identity"

    kind: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    value: str = Field(primary_key=True)
    profile_id: int = Field(primary_key=True, index=True)
    is_strong: bool
    run_id: int | None = None


class AddressRow(SQLModel, table=True):
    """One way to reach a customer: a kind, a value or token, and within what it holds (`scope`: an order, or '')."""

    __tablename__ = "address"
    __table_args__ = (Index("address_value", "value"),)

    profile_id: int = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    value: str = Field(primary_key=True)
    scope: str = Field(primary_key=True, default="")
    purposes: str = "transactional,marketing"
    valid_until: datetime | None = Field(default=None, sa_type=UtcTime)
    seen_at: datetime | None = Field(default=None, sa_type=UtcTime)
    #: the run that wrote it, while no other did
    run_id: int | None = None


class ConsentRow(SQLModel, table=True):
    """An entry of the consent ledger, append-only: who may be told what, since when, on what proof.

    An entry is about a customer (`profile_id`), or about an address whoever it belongs to (`address`).
    `channel` and `purpose` may be `*`. `source` is `shop:NUMBER` where a shop's records say so; people are shown its
    name.
    """

    __tablename__ = "consent"
    __table_args__ = (
        UniqueConstraint("key"),
        Index("consent_profile", "profile_id"),
        Index("consent_address", "address"),
        Index(
            "consent_complaint",
            "source",
            "recorded_at",
            sqlite_where=text(COMPLAINED),
            postgresql_where=text(COMPLAINED),
        ),
    )

    id: int = Field(primary_key=True)
    key: str
    profile_id: int | None = None
    address: str | None = None
    channel: str
    purpose: str
    state: str
    source: str
    wording: str | None = None
    actor: str
    #: whether it was said by a complaint to the vendor, "this is spam"
    is_complaint: bool = False
    occurred_at: datetime = Field(sa_type=UtcTime)
    recorded_at: datetime = Field(sa_type=UtcTime)
    run_id: int | None = None


class SuppressionRow(SQLModel, table=True):
    """An address nothing is sent to any more: it bounced, or complained, or was entered by hand."""

    __tablename__ = "suppression"
    __table_args__ = (
        Index(
            "suppression_open",
            "address",
            sqlite_where=text("lifted_at IS NULL"),
            postgresql_where=text("lifted_at IS NULL"),
        ),
    )

    id: int = Field(primary_key=True)
    channel: str
    address: str
    purpose: str = "*"
    reason: str
    source: str
    since: datetime = Field(sa_type=UtcTime)
    lifted_at: datetime | None = Field(default=None, sa_type=UtcTime)


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer as handlers, policies and templates see one: the family, under the name last given.

    Attributes:
        id: the family's number.
        profile_id, key: the profile the event was recorded for, and its natural key.
        name, locale, timezone, city, country, birthday: None where nothing is known.
        stage, cycle: where the customer stands in the lifecycle.
    """

    id: int
    profile_id: int
    key: str = ""
    name: str | None = None
    locale: str | None = None
    timezone: str | None = None
    city: str | None = None
    country: str | None = None
    birthday: date | None = None
    stage: str = "engage"
    cycle: int = 1


def consent_news(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The entries of a ledger, oldest first, without those that repeat what their own source said last.

    A shop that sends a flag along with every order says nothing new by it, and takes back nothing that the customer
    said elsewhere since. What customers say themselves counts each time: who stops again what they had allowed
    elsewhere has stopped it.
    """
    last: dict[tuple[Any, ...], str] = {}
    news = []
    for entry in entries:
        told = tuple(entry[name] for name in ("profile_id", "address", "channel", "purpose", "source"))
        if last.get(told) != entry["state"] or not _is_flag(entry):
            news.append(entry)
        last[told] = entry["state"]
    return news


def _is_flag(entry: Mapping[str, Any]) -> bool:
    """Whether an entry may be a standing flag that is told again and again: a shop's, or a grant out of a list."""
    source = str(entry["source"])
    if source == "page" or source.startswith("gateway:"):
        return False
    return source.startswith("shop:") or bool(entry["state"] == "granted")


# --- recognising ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identity:
    """One way to recognise a customer. Strong: a buyer id within its scope. Weak: e-mail, phone, a shared order."""

    kind: str
    scope: str
    value: str
    is_strong: bool = False


def order_token(order: str) -> Identity:
    """The identity an order itself is: it links the profiles it was recorded for at different times."""
    return Identity("order", "", order)


@dataclass(slots=True)
class Recognised:
    """What a record says of the person it is about.

    Attributes:
        key: the natural key of the profile it belongs to; empty if it says nothing by which anybody could be known.
        identities: evidence to keep with that profile.
        addresses: (kind, value, scope) with the address as given.
        fields: what it says of the profile.
        flaws: {field: why it was left out}: the record lands without them.
    """

    key: str
    identities: list[Identity] = field(default_factory=list)
    addresses: list[tuple[str, Address]] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    flaws: dict[str, str] = field(default_factory=dict)


#: Fields of a buyer kept on the profile, in a fixed order.
PROFILE_FIELDS = ("name", "locale", "timezone", "city", "country", "birthday")

_PLAIN_LOCAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_%+-]*(\.[A-Za-z0-9_%+-]+)*\Z")


@lru_cache(maxsize=4096)
def _domain(domain: str) -> str:
    from email_validator import validate_email

    return validate_email(f"x@{domain}", check_deliverability=False).ascii_domain.lower()


def normal_email(written: str) -> str:
    """The form an e-mail address is compared and stored in: lower case, domain in ASCII.

    Raises:
        ValueError: it is no e-mail address, or a masked one.
    """
    from email_validator import EmailNotValidError, validate_email  # late: most commands read no address

    stripped = written.strip()
    if "*" in stripped:
        raise ValueError("is masked")
    local, at, domain = stripped.rpartition("@")
    try:
        if at and len(local) <= 64 and _PLAIN_LOCAL.match(local):
            return f"{local.lower()}@{_domain(domain)}"
        found = validate_email(stripped, check_deliverability=False)
    except EmailNotValidError as error:
        raise ValueError(f"is no e-mail address ({error})") from None
    return f"{found.local_part.lower()}@{found.ascii_domain or found.domain}"


@lru_cache(maxsize=65_536)
def normal_phone(written: str, region: str | None) -> str:
    """The E.164 form of a phone number; `region` reads one without a country code.

    Raises:
        ValueError: it is no possible number there, is masked, or has a relay's extension.
    """
    import phonenumbers

    if "*" in written:
        raise ValueError("is masked")
    try:
        number = phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException:
        hint = f"no phone number in {region}" if region else "no phone number with a country code, and no region is set"
        raise ValueError(f"is {hint}") from None
    if number.extension:
        raise ValueError("has an extension: a relay number reaches a person only for a while")
    if not phonenumbers.is_valid_number(number):
        raise ValueError(f"is no valid phone number{f' in {region}' if region else ''}")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


_ANY_PURPOSE = Address.model_fields["purposes"].default


def _plain_address(kind: str, value: str) -> Address:
    """An address that is known to be one; its defaults are given, since pydantic would copy them each time."""
    return Address.model_construct({"kind", "value"}, kind=kind, value=value, purposes=_ANY_PURPOSE, valid_until=None)


def normal_address(address: Address, region: str | None) -> Address:
    """The address in the form it is compared in, or as it is where it cannot be read."""
    try:
        return _normal(address, region)
    except ValueError:
        return address


def _normal(address: Address, region: str | None) -> Address:
    """The address in the form it is compared in."""
    if address.kind in {"email", "relay_email"}:
        return address.model_copy(update={"value": normal_email(address.value)})
    if address.kind == "phone":
        return address.model_copy(update={"value": normal_phone(address.value, region)})
    return address


def recognise(buyer: Buyer | None, *, shop: str, region: str | None, order: str | None) -> Recognised:
    """Which profile a record belongs to, and what it says of it.

    Args:
        buyer: whom the record is about, as far as it says.
        shop: the scope of buyer ids that are unique within the shop.
        region: two-letter country in which phone numbers are read unless the buyer has one.
        order: the order's own key, by which a guest without contact data is kept; None: of no order.
    """
    buyer = buyer or Buyer()
    flaws: dict[str, str] = {}
    weak: list[Identity] = []
    addresses: list[tuple[str, Address]] = []
    if buyer.email and "email" not in buyer.masked:
        try:
            value = normal_email(buyer.email)
            weak.append(Identity("email", "", value))
            addresses.append(("", _plain_address("email", value)))
        except ValueError as error:
            flaws["email"] = f"{buyer.email!r} {error}"
    if buyer.phone and "phone" not in buyer.masked:
        try:
            value = normal_phone(buyer.phone, buyer.region or region)
            weak.append(Identity("phone", "", value))
            addresses.append(("", _plain_address("phone", value)))
        except ValueError as error:
            flaws["phone"] = f"{buyer.phone!r} {error}"
    for address in buyer.addresses:
        try:
            kept = _normal(address, buyer.region or region)
        except ValueError as error:
            flaws[address.kind] = f"{address.value!r} {error}"
            continue
        addresses.append((order or "" if address.kind in {"order_token", "virtual_phone"} else "", kept))

    identities = list(weak)
    if buyer.external_id is not None:
        scope = shop if buyer.scope == "shop" else buyer.scope
        strong = Identity("buyer", scope, buyer.external_id, is_strong=True)
        identities.insert(0, strong)
        key = f"buyer:{scope}:{buyer.external_id}"
    elif weak:
        key = f"{weak[0].kind}:{weak[0].value}"
    else:
        key = "" if order is None else f"order:{order}"
    fields = {name: getattr(buyer, name) for name in PROFILE_FIELDS if name in buyer.model_fields_set}
    if "region" in buyer.model_fields_set:
        fields["country"] = buyer.region
    return Recognised(key, identities, addresses, fields, flaws)


# --- families ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Family:
    """Profiles that are one customer; `needs_review` where weak evidence would have joined what must not be joined."""

    members: tuple[int, ...]
    needs_review: bool = False

    @property
    def id(self) -> int:
        """The profile the family goes by: its first."""
        return self.members[0]


@dataclass(frozen=True, slots=True)
class Contest:
    """Profiles that weak evidence links and that must not be joined by it: it is for a person to say.

    Attributes:
        members: the profiles.
        links: the weak identities that would join them.
        clashes: {(kind, scope): the strong identities that exclude each other}.
        crowded: identities of theirs that too many share.
    """

    members: tuple[int, ...]
    links: tuple[Identity, ...] = ()
    clashes: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    crowded: tuple[Identity, ...] = ()

    @property
    def mark(self) -> str:
        """What this looks like; new evidence looks otherwise, however often the old comes again."""
        told = repr((self.members, sorted(map(repr, self.links)), sorted(self.clashes.items()), self.crowded))
        return hashlib.blake2b(told.encode(), digest_size=12).hexdigest()


def families(
    evidence: Mapping[int, Iterable[Identity]],
    merges: Mapping[int, int | None],
    shared: Iterable[Identity] = (),
    settled: Mapping[int, str | None] = {},
) -> list[Family]:
    """Join profiles into customers: a pure function of all evidence, so that its order of arrival cannot matter.

    Profiles that share a weak identity are one family, but only while they hold no two strong identities of one scope
    (but for those a person merged) and none of their identities is shared by more than `SHARED_LIMIT` profiles;
    otherwise all these automatic links are off and each profile stands alone, to be reviewed. Then a person's merges
    join the families they name, whatever stands against it.

    Args:
        evidence: every profile of the components to compute, with its identities.
        merges: {profile: the profile a person merged it into}.
        shared: identities known to be shared by more profiles than are given here.
        settled: {profile: the mark of the contest that a person settled by leaving it as it is}.
    """
    joined, contested = _sorted_out(evidence, merges, shared)
    links = _Links(evidence)
    for component in joined:
        for member in component[1:]:
            links.join(component[0], member)
    for profile, into in _pointers(evidence, merges):
        links.join(profile, into)
    groups = links.groups()
    group_of = {member: index for index, group in enumerate(groups) for member in group}
    reviewed: set[int] = set()
    for contest in contested:
        mark = contest.mark
        inside = {group_of[member] for member in contest.members}
        if len(inside) > 1 and any(settled.get(member) != mark for member in contest.members):
            reviewed |= inside
    return [Family(tuple(group), needs_review=index in reviewed) for index, group in enumerate(groups)]


def contests(
    evidence: Mapping[int, Iterable[Identity]], merges: Mapping[int, int | None], shared: Iterable[Identity] = ()
) -> list[Contest]:
    """What weak evidence would join and must not. The arguments are those of `families`."""
    return _sorted_out(evidence, merges, shared)[1]


def _pointers(evidence: Mapping[int, Any], merges: Mapping[int, int | None]) -> list[tuple[int, int]]:
    return [(p, into) for p, into in merges.items() if into is not None and p in evidence and into in evidence]


def _sorted_out(
    evidence: Mapping[int, Iterable[Identity]], merges: Mapping[int, int | None], shared: Iterable[Identity]
) -> tuple[list[list[int]], list[Contest]]:
    """What weak evidence links: profiles it joins, and those it must not."""
    owners: dict[Identity, list[int]] = defaultdict(list)
    for profile, identities in evidence.items():
        for identity in identities:
            if not identity.is_strong:
                owners[identity].append(profile)
    too_shared = set(shared) | {identity for identity, profiles in owners.items() if len(profiles) > SHARED_LIMIT}
    links = _Links(evidence)
    for identity, profiles in owners.items():
        if identity not in too_shared:
            for other in profiles[1:]:
                links.join(profiles[0], other)
    by_person = _Links(evidence)
    for profile, into in _pointers(evidence, merges):
        by_person.join(profile, into)

    joined: list[list[int]] = []
    contested: list[Contest] = []
    for component in links.groups():
        if len(component) == 1:
            joined.append(component)
            continue
        strong: dict[tuple[str, str], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        held: set[Identity] = set()
        for profile in component:
            for identity in evidence[profile]:
                if identity.is_strong:
                    strong[identity.kind, identity.scope][identity.value].add(by_person.root(profile))
                else:
                    held.add(identity)
        clashes = {
            scope: tuple(sorted(values))
            for scope, values in strong.items()
            if len(values) > 1 and len(set().union(*values.values())) > 1
        }
        crowded = tuple(sorted(held & too_shared, key=repr))
        if clashes or crowded:
            linking = tuple(sorted((one for one in held - too_shared if len(owners[one]) > 1), key=repr))
            contested.append(Contest(tuple(component), linking, clashes, crowded))
        else:
            joined.append(component)
    return joined, contested


class _Links:
    """Connected components; each is told by its smallest member, its root."""

    def __init__(self, members: Iterable[int]) -> None:
        self._parent = {member: member for member in members}

    def root(self, member: int) -> int:
        while self._parent[member] != member:
            self._parent[member] = self._parent[self._parent[member]]
            member = self._parent[member]
        return member

    def join(self, one: int, other: int) -> None:
        a, b = sorted((self.root(one), self.root(other)))
        self._parent[b] = a

    def groups(self) -> list[list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for member in sorted(self._parent):
            found[self.root(member)].append(member)
        return list(found.values())

"""From a handler's `Send` to messages of the outbox: recipient, channel, address, policies, rendering.

Content freezes here: what is rendered now is what leaves, however much later.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy.exc import DBAPIError

from crmkit.core.account import Shop
from crmkit.core.actions import Send, Staff
from crmkit.core.customer import Customer
from crmkit.core.errors import ConfigError, PluginError
from crmkit.core.events import ContactLeft, Event
from crmkit.core.form import signed
from crmkit.core.hooks import Outgoing, Verdict
from crmkit.core.message import Reason, State
from crmkit.core.records import Address
from crmkit.core.segments import segments_of
from crmkit.flow import form, key, policy
from crmkit.flow.broadcast import ToMember
from crmkit.flow.cap import Ledger
from crmkit.flow.contact import WAYS
from crmkit.flow.context import plain
from crmkit.flow.render import MissingVariable, Template, context_of, locale_chain
from crmkit.flow.setup import Entry, Plugin, Setup, StaffMember
from crmkit.store.facts import Reach

_STATE = {"suppress": State.SUPPRESSED, "hold": State.HELD, "defer": State.QUEUED}


@dataclass(slots=True)
class Draft:
    """One `Send` to one recipient on its way to becoming a message.

    Attributes:
        key: of the message.
        once: where the key is the author's own, the same; `base` is what it starts with, before the recipient.
    """

    send: Send
    event: Event
    plugin: str
    key: str
    once: str | None = None
    base: str | None = None
    person: StaffMember | None = None
    channel: str = ""
    entries: Sequence[Entry] = ()
    address_kind: str | None = None
    address: str | None = None
    reaches_until: datetime | None = None
    template: Template | None = None
    verdict: Verdict | None = None


@dataclass(slots=True)
class Composer:
    """Composes the messages of one decision.

    Attributes:
        reach: what is known of reaching the customers of its events.
        crm_of: what a plugin's policies may read.
        planned: when marketing is planned for them; asked only where there is a cap.
    """

    setup: Setup
    reach: Reach
    now: datetime
    crm_of: Callable[[Plugin], Any]
    planned: Callable[[], Ledger] = Ledger
    templates: dict[str, Template] = field(default_factory=dict)

    def compose(self, plugin: Plugin, event: Event, send: Send, verdict: Verdict | None = None) -> list[dict[str, Any]]:
        """The rows of the outbox a `Send` becomes: one, or one for each person of the staff it is for.

        Args:
            verdict: why it is not sent, where that is known beforehand.

        Raises:
            PluginError: there is no such template, or it names a channel nobody knows.
        """
        return [self._row(draft) for draft in self._drafts(plugin, event, send, verdict)]

    def must_have(self, plugin: Plugin, template: str, via: Sequence[str]) -> None:
        """Refuse a template there is not.

        Raises:
            PluginError: there is none of this name.
        """
        self._any_template(Draft(Send(template, via=via), Event(), plugin.name, ""))

    def _drafts(self, plugin: Plugin, event: Event, send: Send, verdict: Verdict | None) -> list[Draft]:
        is_own = send.key is not None
        base = f"{plugin.name}:{send.key}" if is_own else f"{key.of_cause(event)}:{plugin.name}:{send.template}"

        def draft(whom: str, person: StaffMember | None = None) -> Draft:
            name = f"{base}:{whom}"
            once, of = (name, base) if is_own else (None, None)
            return Draft(send, event, plugin.name, name, once, of, person, verdict=verdict)

        if send.to is None:
            return [draft(key.of_recipient(event) if is_own else "customer")]
        if isinstance(send.to, Address):
            return [draft("address")]
        persons = self.setup.persons(send.to.target)
        if not persons:
            nobody = draft(f"staff:{send.to.target}")
            nobody.verdict = policy.suppress(Reason.NO_ADDRESS, f"nobody of the staff is {send.to.target!r}")
            return [nobody]
        return [draft(f"staff:{person.name}", person) for person in persons]

    def _row(self, draft: Draft) -> dict[str, Any]:
        if draft.verdict is None:
            draft.verdict = self._forbidden(draft) or self._route(draft)
        template = draft.template or self._any_template(draft)
        occurred = draft.event.at or self.now
        ends = (draft.reaches_until, None if template.valid_for is None else occurred + template.valid_for)
        expires = min((end for end in ends if end is not None), default=None)
        leaves = max(self.now, draft.send.not_before or self.now)
        if draft.verdict is None:
            draft.verdict, leaves = self._judge(draft, template, expires, leaves)
        would_leave = draft.verdict is None or draft.verdict.action == "defer"
        if would_leave and isinstance(draft.send, ToMember) and draft.send.is_held_out:
            draft.verdict, would_leave = policy.suppress(Reason.HOLD_OUT), False
        if would_leave and (doubtful := self.setup.doubtful_until) is not None and occurred < doubtful:
            draft.verdict = policy.hold(Reason.MAY_HAVE_LEFT, f"it happened before {doubtful.isoformat()}")
        row = self._frame(draft, template, expires, leaves)
        if would_leave:
            self._render(draft, template, row)
        if row["state"] != State.SUPPRESSED and self._is_capped(draft, template):
            self.planned().add(leaves, *_whom(draft))
        if row["state"] == State.HELD:
            row["asked"] = _asked(draft.send)
        return row

    def _forbidden(self, draft: Draft) -> Verdict | None:
        shop = draft.event.shop
        if draft.send.to is not None or shop is None or shop.id not in self.setup.may_say:
            return None
        template = self._any_template(draft)
        draft.channel = ""
        return policy.forbidden(self.setup, shop.id, draft.event.order, template.purpose, template.name)

    # where it goes

    def _route(self, draft: Draft) -> Verdict | None:
        """Take the first channel that has a gateway, a template, an address and permission."""
        shop = draft.event.shop.name if draft.event.shop else None
        refusals: list[Verdict] = []
        has_gateway = False
        for channel in draft.send.via:
            entries = [entry for entry in self.setup.channels.get(channel, ()) if entry.serves(shop)]
            if not entries:
                continue
            has_gateway = True
            template = self._find(draft, channel)
            if template is None:
                continue
            able = [entry for entry in entries if form.can_form(template, entry)]
            verdict = self._address(draft, channel, able, template) if able else _unformed(template, entries)
            if verdict is None:
                return None
            refusals.append(verdict)
        if not has_gateway:
            wanted = " or ".join(draft.send.via)
            return policy.hold(
                Reason.NO_GATEWAY, f"no gateway for {wanted} is configured{f' for {shop}' if shop else ''}"
            )
        known = [verdict for verdict in refusals if verdict.reason is not Reason.NO_ADDRESS]
        return next(iter(known or refusals), policy.suppress(Reason.NO_ADDRESS))

    def _address(self, draft: Draft, channel: str, entries: Sequence[Entry], template: Template) -> Verdict | None:
        kinds = {kind for entry in entries for kind in entry.adapter.reaches}
        if draft.person is not None:
            found = [(kind, draft.person.addresses[kind]) for kind in sorted(kinds & set(draft.person.addresses))]
            if not found:
                return policy.suppress(Reason.NO_ADDRESS, f"{draft.person.name} has no {' or '.join(sorted(kinds))}")
            self._take(draft, channel, entries, template, *found[0])
            return None
        if isinstance(draft.send.to, Address):
            return self._left(draft, channel, entries, template, draft.send.to)
        customer = draft.event.customer
        if customer is None:
            return policy.suppress(Reason.NO_ADDRESS, "nobody is known")
        order = draft.event.order
        scopes = {"", f"{order.shop_id}:{order.external_id}" if order is not None else ""}
        refusal = None
        for row in self.reach.addresses.get(customer.id, ()):
            if row["kind"] not in kinds or row["scope"] not in scopes:
                continue
            verdict = policy.address(self.setup, self.reach, customer.id, channel, template.purpose, row)
            if verdict is None:
                self._take(draft, channel, entries, template, row["kind"], row["value"])
                draft.reaches_until = row["valid_until"]
                return None
            refusal = refusal or verdict
        return refusal or policy.suppress(Reason.NO_ADDRESS, f"no {' or '.join(sorted(kinds))} is known")

    def _left(
        self, draft: Draft, channel: str, entries: Sequence[Entry], template: Template, to: Address
    ) -> Verdict | None:
        """An address that was left, and is nobody's yet: what its owner said of it holds, and what came of it."""
        if not any(to.kind in entry.adapter.reaches for entry in entries):
            return policy.suppress(Reason.NO_ADDRESS, f"{channel} does not reach this kind of address")
        verdict = policy.consent(
            purpose=template.purpose,
            channel=channel,
            ledger=(),
            about_address=self.reach.by_address.get(to.value, ()),
            suppressed=self.reach.suppressed.get(to.value, ()),
            marketing_default="deny",
        )
        if verdict is None:
            self._take(draft, channel, entries, template, to.kind, to.value)
        return verdict

    @staticmethod
    def _take(draft: Draft, channel: str, entries: Sequence[Entry], template: Template, kind: str, value: str) -> None:
        draft.channel, draft.template = channel, template
        draft.entries = [entry for entry in entries if kind in entry.adapter.reaches]
        draft.address_kind, draft.address = kind, value

    def _locales(self, draft: Draft) -> tuple[str, ...]:
        shop = draft.event.shop.locale if draft.event.shop else None
        if draft.person is not None:
            return locale_chain(draft.person.locale, self.setup.locale, shop)
        if isinstance(draft.event, ContactLeft) and draft.event.contact and isinstance(draft.send.to, Address):
            return locale_chain(draft.event.contact.locale, shop, self.setup.locale)
        customer = draft.event.customer.locale if draft.event.customer else None
        return locale_chain(customer, shop, self.setup.locale)

    def _find(self, draft: Draft, channel: str) -> Template | None:
        shop = draft.event.shop.name if draft.event.shop else None
        return self.setup.templates.find(draft.send.template, channel, self._locales(draft), shop)

    def _any_template(self, draft: Draft) -> Template:
        """The template of the first wanted channel that has one: also a message that cannot leave names its purpose."""
        for channel in (*draft.send.via, *self.setup.templates.channels(draft.send.template)):
            template = self._find(draft, channel)
            if template is not None:
                draft.channel = draft.channel or channel
                return template
        looked = ", ".join(str(place) for place in self.setup.templates.places())
        raise PluginError(
            f"there is no template {draft.send.template!r} for {' or '.join(draft.send.via)} (looked in {looked})",
            who=draft.plugin,
            operation="send",
            do="write it, or correct the name",
        )

    # whether and when it goes

    def _judge(
        self, draft: Draft, template: Template, expires: datetime | None, leaves: datetime
    ) -> tuple[Verdict | None, datetime]:
        verdict = policy.overtaken(template.milestone, draft.event.order) or policy.stale(expires, leaves)
        if verdict is not None:
            return verdict, leaves
        deferred: Verdict | None = None
        for plugin in self.setup.plugins:
            for rule in plugin.policies:
                try:
                    asked = _checked(rule.check(self._outgoing(draft, template, leaves), self.crm_of(plugin)))
                except DBAPIError:
                    raise  # PostgreSQL takes no more statements until the savepoint before it is gone
                except (Exception, SystemExit) as error:  # a plugin's code: what it breaks is this message only
                    return policy.hold(Reason.POLICY_ERROR, f"{plugin.name}.{rule.name}: {error!r}"), leaves
                if asked is not None and asked.action == "defer" and asked.until is not None:
                    deferred, leaves = asked, max(leaves, asked.until)
                elif asked is not None:
                    return asked, leaves
        hours = draft.person.quiet_hours if draft.person is not None else self.setup.rules.quiet_hours
        if isinstance(draft.send.to, Address):
            hours = None  # who left it waits for the code
        quiet = self._quiet(draft, template, hours, leaves)
        if quiet is not None and quiet.until is not None:
            deferred, leaves = quiet, quiet.until
        if self.setup.rules.marketing_cap is not None and self._is_capped(draft, template):
            times = [self.planned().of(whom) for whom in _whom(draft)]
            later = self.setup.rules.marketing_cap.leaves(leaves, self._zone(draft), *times)
            if later > leaves:
                quiet = self._quiet(draft, template, hours, later)
                leaves = quiet.until if quiet is not None and quiet.until is not None else later
                deferred = policy.defer(Reason.CAPPED, leaves)
        return policy.stale(expires, leaves) or deferred, leaves

    def _quiet(
        self, draft: Draft, template: Template, hours: tuple[time, time] | None, leaves: datetime
    ) -> Verdict | None:
        """Whether it would arrive at night, or when the vendor whose turn it is takes no marketing."""
        takes = draft.entries[0].adapter.sends_marketing if draft.entries else None
        found = None
        for _ in range(3):  # the end of the one may fall into the other
            at = leaves if found is None or found.until is None else found.until
            later = policy.quiet_hours(at, hours, self._zone(draft)) or policy.vendor_hours(at, template.purpose, takes)
            if later is None:
                break
            found = later
        return found

    def _is_capped(self, draft: Draft, template: Template) -> bool:
        has_cap = self.setup.rules.marketing_cap is not None
        return has_cap and template.purpose == "marketing" and draft.person is None

    @staticmethod
    def _outgoing(draft: Draft, template: Template, leaves: datetime) -> Outgoing:
        return Outgoing(
            send=draft.send,
            event=draft.event,
            template=template.name,
            purpose=template.purpose,
            channel=draft.channel,
            address_kind=draft.address_kind,
            address=draft.address,
            staff=draft.person.name if draft.person is not None else None,
            leaves_at=leaves,
        )

    def _zone(self, draft: Draft) -> ZoneInfo:
        customer = draft.event.customer if draft.person is None else None
        return zone_of(customer.timezone if customer else None, draft.event.shop, self.setup)

    # what it says

    def _frame(self, draft: Draft, template: Template, expires: datetime | None, leaves: datetime) -> dict[str, Any]:
        event, verdict, to = draft.event, draft.verdict, draft.send.to
        state = State.QUEUED if verdict is None else _STATE[verdict.action]
        return {
            "key": draft.key,
            "once": draft.once,
            "once_of": draft.base,
            "cause": key.of_cause(event) if draft.once is not None else None,
            "broadcast_id": draft.send.broadcast if isinstance(draft.send, ToMember) else None,
            "interaction_id": event.id,
            "plugin": draft.plugin,
            "profile_id": event.customer.profile_id if event.customer and to is None else None,
            "staff": draft.person.name if draft.person else to.target if isinstance(to, Staff) else None,
            "shop_id": event.shop.id if event.shop else None,
            "order_id": event.order.id if event.order else None,
            "template": draft.send.template,
            "locale": template.locale,
            "purpose": template.purpose,
            "milestone": template.milestone,
            "channel": draft.channel or template.channel,
            "gateways": [entry.name for entry in draft.entries],
            "gateway": next((entry.name for entry in draft.entries), None),
            "address_kind": draft.address_kind,
            "address": draft.address,
            "decided_at": self.now,
            "not_before": leaves,
            "expires_at": expires,
            "state": state,
            "reason": verdict.reason if verdict is not None else None,
            "detail": verdict.detail if verdict is not None else None,
            "settled_at": self.now if state in {State.SUPPRESSED, State.HELD} else None,
        }

    def _links(self, draft: Draft, template: Template) -> dict[str, str] | None:
        """The pages of the customer's own that a message leads to.

        What a page says of the customer as a whole is for an address of theirs only: the one by which they are
        recognised, or one that the shop has of the account whose news it is. A guest's order may be in anybody's name,
        with one's own phone number.
        """
        event, links = draft.event, self.setup.links
        by_header = template.channel == "email" and template.purpose == "marketing"
        if (
            links is None
            or event.customer is None
            or draft.send.to is not None
            or not (template.has_links or by_header)
        ):
            return None
        profile = event.customer.profile_id
        found = {"unsubscribe": links.make("unsubscribe", profile, self.now, word=template.channel)}
        if self._is_theirs(draft, event.customer):
            found["preferences"] = links.make("preferences", profile, self.now)
            if event.shop is not None:
                found["statement"] = links.make("statement", profile, self.now, subject=event.shop.id)
        if event.order is not None:
            found["order"] = links.make("order", profile, self.now, subject=event.order.id)
            found["contact"] = links.make("contact", profile, self.now, subject=event.order.id)
        survey = draft.send.context.get("survey")
        if isinstance(survey, str):
            number = event.order.id if event.order is not None else 0
            found["survey"] = links.make("survey", profile, self.now, subject=number, word=survey)
        return found

    def _is_theirs(self, draft: Draft, customer: Customer) -> bool:
        """Whether nobody but the customer of this profile reads what goes to the message's address."""
        kind, value = draft.address_kind, draft.address
        if customer.key == f"{kind}:{value}":
            return True
        if not customer.key.startswith("buyer:"):
            return False
        return any(
            (row["profile_id"], row["kind"], row["value"]) == (customer.profile_id, kind, value)
            # what was proven on a page is reached for one order, or for offers alone; a token is the marketplace's own
            and (kind not in WAYS or (not row["scope"] and "transactional" in row["purposes"].split(",")))
            for row in self.reach.addresses.get(customer.id, ())
        )

    def _render(self, draft: Draft, template: Template, row: dict[str, Any]) -> None:
        event = draft.event
        is_nobodys = isinstance(draft.send.to, Address)  # it may be a stranger's who reads it
        params = context_of(
            customer=None if is_nobodys else event.customer,
            order=None if is_nobodys else event.order,
            shop=event.shop,
            parcel=getattr(event, "parcel", None),
            refund=getattr(event, "refund", None),
            review=getattr(event, "review", None),
            now=self.now,
            zone=self._zone(draft),
            links=self._links(draft, template),
            extra={**event.own(), **draft.send.context},
        )
        row["params"], row["template_hash"] = params, template.hash
        if template.channel == "email" and template.purpose == "marketing" and "links" in params:
            row["headers"] = one_click(params["links"]["unsubscribe"])
        self.templates[template.hash] = template
        try:
            rendered = template.render(params)
            forms = form.forms_of(template, draft.entries, params)
        except MissingVariable as error:
            skips = template.on_missing == "skip"
            row["state"] = State.SUPPRESSED if skips else State.HELD
            row["reason"], row["detail"] = Reason.MISSING_VARIABLE, str(error)
            row["settled_at"] = self.now
            return
        except ConfigError as error:
            row.update(state=State.HELD, reason=Reason.TEMPLATE_ERROR, detail=str(error), settled_at=self.now)
            return
        row["subject"], row["text"], row["html"] = rendered.subject, rendered.text, rendered.html
        row["encoding"], row["segments"] = rendered.encoding, rendered.segments
        row["content_hash"] = rendered.content_hash
        if template.channel == "sms" and forms and forms[0] is not None:
            read = segments_of(signed(rendered.text, forms[0].sign_name))
            row["encoding"], row["segments"] = read.encoding, read.parts


def _asked(send: Send) -> dict[str, Any]:
    """What of a `Send` its message does not keep, and needs to be composed anew."""
    try:
        context = plain(send.context)
    except PluginError:  # why it is held, then: there is nothing to compose it from
        context = {}
    return {"via": list(send.via), "context": context}


def one_click(url: str) -> dict[str, str]:
    """The headers by which a mail program unsubscribes its reader (RFC 8058; only https takes one click)."""
    found = {"List-Unsubscribe": f"<{url}>"}
    if url.startswith("https:"):
        found["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return found


def _unformed(template: Template, entries: Sequence[Entry]) -> Verdict:
    """No gateway of a channel has an approved text for it: somebody has to write that down, or another way is taken."""
    return policy.hold(Reason.NO_GATEWAY, form.no_form(template.name, entries[0]))


def _checked(verdict: Any) -> Verdict | None:
    """What a plugin's policy answered, if it can be acted on."""
    if verdict is None:
        return None
    if not isinstance(verdict, Verdict) or verdict.action not in _STATE:
        raise TypeError(f"answered {verdict!r}; give a Verdict to suppress, hold or defer, or None")
    if verdict.action == "defer" and (verdict.until is None or verdict.until.tzinfo is None):
        raise TypeError("defers until no time, or one without a zone")
    return replace(verdict, reason=Reason(verdict.reason))


def _whom(draft: Draft) -> list[tuple[str, Any]]:
    """For whom a message counts: the customer, and the address whoever has it."""
    customer = draft.event.customer
    found: list[tuple[str, Any]] = [("address", draft.address)]
    return found if customer is None else [*found, ("customer", customer.id)]


def zone_of(timezone: str | None, shop: Shop | None, setup: Setup) -> ZoneInfo:
    """The zone a recipient lives in: their own if it is known, else the shop's, else the installation's."""
    if timezone:
        try:
            return ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError):
            pass
    return shop.zone if shop is not None else setup.zone


def template_rows(templates: Mapping[str, Template]) -> list[dict[str, Any]]:
    """The versions of templates that were used, as they are kept."""
    return [
        {
            "hash": version,
            "name": template.name,
            "locale": template.locale,
            "channel": template.channel,
            "source": template.source,
        }
        for version, template in templates.items()
    ]

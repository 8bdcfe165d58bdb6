"""The form of a message for the gateway whose turn it is: made anew from what was frozen, so failover re-forms.

Versions of templates are read once; the front matter is part of the version.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.errors import ConfigError
from crmkit.core.form import Form
from crmkit.core.hooks import Verdict
from crmkit.core.message import Reason
from crmkit.flow import policy
from crmkit.flow.sandbox import MissingVariable
from crmkit.flow.setup import Entry
from crmkit.flow.template import Template
from crmkit.store import outbox

#: So many versions of templates are kept compiled.
MOST = 512
_versions: OrderedDict[str, Template] = OrderedDict()


def names_of(entry: Entry) -> tuple[str, str]:
    """By what a template's front matter names a gateway: its entry, else its adapter."""
    return entry.name, entry.adapter.name


def can_form(template: Template, entry: Entry) -> bool:
    """Whether a gateway can send a template, as far as that takes an approved text."""
    return not entry.adapter.needs_form or template.form_spec(*names_of(entry)) is not None


def ready(
    tx: Connection, entry: Entry, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], dict[int, Verdict]]:
    """Rows with what their gateway is handed beside the message: its `form`, and the vendor's id of its `order`.

    Returns:
        The rows, and {message: why it is held} of those whose form cannot be made.
    """
    orders = outbox.order_ids(tx, {row["order_id"] for row in rows if row["order_id"] is not None})
    hashes = {row["template_hash"] for row in rows if row["template_hash"] is not None}
    templates = _read(tx, hashes)
    found: list[Mapping[str, Any]] = []
    held: dict[int, Verdict] = {}
    for row in rows:
        template, form = templates.get(row["template_hash"]), None
        try:
            if template is not None:
                form = template.form(names_of(entry), row["params"] or {})
            if form is None and entry.adapter.needs_form:
                held[row["id"]] = policy.hold(Reason.NO_GATEWAY, no_form(row["template"], entry))
        except MissingVariable as error:
            held[row["id"]] = policy.hold(Reason.MISSING_VARIABLE, str(error))
        except ConfigError as error:
            held[row["id"]] = policy.hold(Reason.TEMPLATE_ERROR, str(error))
        found.append({**row, "form": form, "order": orders.get(row["order_id"])})
    return found, held


def no_form(template: str, entry: Entry) -> str:
    """Why a gateway cannot send a template."""
    return f"{entry.name} sends approved texts only, and the template {template} says nothing of it"


def forms_of(template: Template, entries: Sequence[Entry], params: Mapping[str, Any]) -> list[Form | None]:
    """The forms of a message for each gateway of its chain.

    Raises:
        MissingVariable, ConfigError: one cannot be made.
    """
    return [template.form(names_of(entry), params) for entry in entries]


def _read(tx: Connection, hashes: set[str]) -> dict[str, Template]:
    """Versions of templates by hash; those that cannot be read any more are left out, their text stands."""
    missing = hashes - _versions.keys()
    if missing:
        for row in outbox.templates_of(tx, missing):
            try:
                template = Template.from_source(
                    row["source"], name=row["name"], locale=row["locale"], channel=row["channel"]
                )
            except ConfigError:
                continue
            _versions[row["hash"]] = template
    found = {}
    for version in hashes & _versions.keys():
        _versions.move_to_end(version)
        found[version] = _versions[version]
    while len(_versions) > MOST:
        _versions.popitem(last=False)
    return found

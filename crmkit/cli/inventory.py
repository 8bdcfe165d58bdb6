"""What is installed, plugin by plugin: version, family, what it can do, whether it is used, how it does."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from crmkit.cli import capability
from crmkit.cli.call import Call
from crmkit.cli.output import moment
from crmkit.core.errors import CrmkitError

if TYPE_CHECKING:
    from crmkit.host.catalogue import Found
    from crmkit.host.host import Host
    from crmkit.host.plugins import Plugins


def rows_of(call: Call, host: "Host | None") -> list[dict[str, Any]]:
    """One row for each plugin that is installed or used.

    Each is imported, one by one, to see what it can do; with `--no-plugins` only those that are in use anyway. `state`
    is `used`, `paused`, `down` (its vendor does not answer), `broken`, or empty where the configuration does not name
    it; `health` says more, where there is a database that can be read. None is created.
    """
    from crmkit.host.plugins import Plugins

    plugins = host.plugins if host else Plugins()
    used = {one.name: one for one in plugins.loaded()}
    broken = {one.name: str(one.error) for one in host.broken} if host else {}
    rows = [_installed(call, plugins, found, found.name in used, broken) for found in plugins.catalogue.every()]
    known = {row["name"] for row in rows}
    rows += [_row(name, used[name].origin) for name in used if name not in known]
    rows += [_row(name, "") for name in broken if name not in known and name not in used]
    settings = {one.name: one.settings for one in host.playbooks} if host else {}
    loaded = {one.name: one for one in plugins.loaded()}
    for row in rows:
        one = loaded.get(row["name"])
        if one is not None:
            row["can"], error = capability.attempt(one, settings.get(one.slug))
            row["seconds"] = round(one.seconds, 3)
            broken |= {row["name"]: str(error)} if error else {}
        row["error"] = broken.get(row["name"])
        row["state"] = "broken" if row["error"] else "used" if row["name"] in used else ""
        if one is not None and one.seconds > capability.SLOW:
            row["warnings"].append(f"{row['name']} is slow: importing it took {one.seconds:.1f} s")
    if host is not None:
        _add_health(host, rows)
    return rows


def _row(name: str, distribution: str, version: str = "") -> dict[str, Any]:
    return {
        "name": name,
        "family": name.partition(".")[0],
        "distribution": distribution,
        "version": version,
        "state": "",
        "can": [],
        "health": [],
        "seconds": None,
        "error": None,
        "warnings": [],
    }


def _installed(call: Call, plugins: "Plugins", found: "Found", is_used: bool, broken: dict[str, str]) -> dict[str, Any]:
    from crmkit.host.requirement import unmet

    row = _row(found.name, found.distribution, found.version)
    row["warnings"] = [f"{found.name} needs {one}" for one in unmet(found.entry_point.dist)]
    if found.name not in broken and not is_used and not call.no_plugins:
        try:
            plugins.load(found.family, found.slug)
        except CrmkitError as error:
            broken[found.name] = str(error)
    return row


def _add_health(host: "Host", rows: list[dict[str, Any]]) -> None:
    from zoneinfo import ZoneInfo

    from crmkit.store import accounts, migrate, pauses, quotas

    zone = ZoneInfo(host.config.crm.timezone)
    try:
        store = host.store()
        try:
            migrate.check(store, host.migrations)
            with store.read() as tx:
                standing, quota, known = pauses.standing(tx), quotas.every(tx), accounts.every(tx)
        finally:
            store.close()
    except CrmkitError:
        return  # there is none yet, or `crmkit doctor` says what is wrong with it

    def gateways() -> Iterator[tuple[str, str, str]]:
        for channel, entries in host.channels.items():
            for entry in entries:
                name = f"{channel}.{entry.adapter.name}"
                for row in standing:
                    if (row["scope"], row["name"]) in {("channel", channel), ("gateway", entry.name)} or (
                        row["scope"] == "all"
                    ):
                        why = f" ({row['reason']})" if row["reason"] else ""
                        yield name, "paused", f"{entry.name}: paused since {moment(row['since'], zone)}{why}"
                until = quota[entry.name].open_until if entry.name in quota else None
                if until is not None:
                    why = f" ({quota[entry.name].error})" if quota[entry.name].error else ""
                    yield name, "down", f"{entry.name}: does not answer{why}, tried again {moment(until, zone)}"

    def shops() -> Iterator[tuple[str, str, str]]:
        synced = {row["name"]: row["synced_at"] for row in known}
        for shop in host.shops.values():
            family = "marketplace" if shop.kind == "shop" else "source"
            at = synced.get(shop.name)
            told = f"last read to its end {moment(at, zone)}" if at else "never read to its end"
            yield f"{family}.{shop.adapter.name}", "", f"{shop.name}: {told}"

    by_name = {row["name"]: row for row in rows}
    for name, state, text in (*gateways(), *shops()):
        row = by_name[name]
        row["health"].append(text)
        if state and row["state"] != "broken" and row["state"] != "down":
            row["state"] = state

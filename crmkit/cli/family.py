"""`crmkit customers merge|unmerge|review|apart`: what a person says of who is one customer."""

import getpass
from typing import TYPE_CHECKING, Any

import click

from crmkit.cli import output, words
from crmkit.cli.asking import must_be_wanted
from crmkit.cli.call import Call, plural, with_call
from crmkit.cli.whom import customer_meant, profile_meant
from crmkit.core.errors import ConfigError

if TYPE_CHECKING:
    from crmkit.core.customer import Contest

by_option = click.option("--by", "who", metavar="NAME", help="Who says so; your user name, if not given.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def actor_of(who: str | None) -> str:
    """The actor a decision is recorded under: `staff:NAME`."""
    name = who or getpass.getuser()
    return name if ":" in name else f"staff:{name}"


@click.command()
@click.argument("customer")
@click.argument("into")
@by_option
@yes_option
@output.json_option
@with_call
def merge(call: Call, customer: str, into: str, who: str | None, yes: bool, as_json: bool) -> None:
    """Make one customer of two (named as for `find`). It can be taken back: see `unmerge`."""
    from crmkit.flow import family
    from crmkit.store import accounts

    with call.reading() as tx:
        one, other = profile_meant(tx, customer), profile_meant(tx, into)
        roots = [customer_meant(tx, f"#{number}") for number in (one, other)]
        if one == other:
            raise ConfigError(
                f"{customer!r} and {into!r} are one customer already, #{roots[0]}", who="customers", operation="merge"
            )
        preview = family.joining(tx, *roots)
        names = {row["id"]: row["name"] for row in accounts.every(tx)}
    if not (yes and as_json):
        _show(preview, names)
    if not yes:
        must_be_wanted("Are they one customer?", "customers merge")
    listened = call.host.setup({}).listened
    with call.writing() as tx:
        pointing = family.merge(tx, one, other, actor=actor_of(who), listened=listened, now=call.now)
        root = customer_meant(tx, f"#{pointing}")
    if as_json:
        output.document({"customer": root, "merged": pointing, "into": other})
    else:
        output.say(f"they are customer #{root} now; `crmkit customers unmerge '#{pointing}'` takes it back")


def _show(preview: Any, names: dict[int, str]) -> None:
    cells = [
        (
            f"#{row['customer']}",
            row["name"],
            row["email"],
            row["phone"],
            row["profiles"],
            sum(row["identities"].values()),
            row["orders"],
        )
        for row in preview.customers
    ]
    columns = ("customer", "name", "email", "phone", "profiles", "identities", "orders")
    output.table(cells, columns, numbers=("profiles", "identities", "orders"))
    for scope, values in preview.clashes.items():
        output.warn(f"they hold different buyer ids of {words.named(scope, names)}: {', '.join(values)}")


@click.command()
@click.argument("customer")
@by_option
@output.json_option
@with_call
def unmerge(call: Call, customer: str, who: str | None, as_json: bool) -> None:
    """Take a merge back: what evidence says holds again, as if there had been no merge.

    CUSTOMER is the number of the profile that was merged, or any name of the customer if there was one merge only.
    """
    from crmkit.flow import family

    listened = call.host.setup({}).listened
    with call.writing() as tx:
        merges = family.merged(tx, customer_meant(tx, customer))
        number = customer.strip().removeprefix("#")
        named = int(number) if number.isdecimal() else None
        profile = named if named in merges else _only_merge(customer, merges)
        left = family.unmerge(tx, profile, actor=actor_of(who), listened=listened, now=call.now)
    if as_json:
        output.document({"unmerged": profile, "customers": left})
    elif len(left) == 1:
        output.say(f"taken back; evidence joins them all the same: customer #{left[0]}")
    else:
        output.say(f"taken back: they are customers {' and '.join(f'#{number}' for number in left)} again")


def _only_merge(customer: str, merges: dict[int, int]) -> int:
    if len(merges) == 1:
        return next(iter(merges))
    if not merges:
        raise ConfigError(f"{customer!r} was not merged by hand", who="customers", operation="unmerge")
    listed = ", ".join(f"'#{profile}' (into #{into})" for profile, into in sorted(merges.items()))
    raise ConfigError(
        f"{customer!r} was merged more than once", who="customers", operation="unmerge", do=f"say {listed}"
    )


@click.command()
@output.json_option
@with_call
def review(call: Call, as_json: bool) -> None:
    """List who may be one customer and is not joined, with what speaks for it and what against.

    Each is settled by `customers merge`, or by `customers apart`, until new evidence comes.
    """
    from crmkit.flow import family
    from crmkit.store import accounts, customers, search

    with call.reading() as tx:
        found = family.review(tx)
        family_of = customers.family_of(tx, [member for contest in found for member in contest.members])
        roots = list(dict.fromkeys(family_of.values()))
        lines = {row["customer"]: row for row in search.overview(tx, roots)}
        names = {row["id"]: row["name"] for row in accounts.every(tx)}
    if as_json:
        output.lines(
            {
                "customers": sorted({family_of[member] for member in contest.members}),
                "profiles": contest.members,
                "for": [{"kind": one.kind, "value": one.value} for one in contest.links],
                "against": _against(contest, names),
            }
            for contest in found
        )
        return
    if not found:
        output.say("nobody is to be reviewed")
        return
    for contest in found:
        numbers = sorted({family_of[member] for member in contest.members})
        output.heading(" · ".join(f"#{number} {lines[number]['name'] or ''}".strip() for number in numbers))
        output.say(f"one customer? {', '.join(f'{one.kind} {one.value}' for one in contest.links)}")
        for reason in _against(contest, names):
            output.say(f"not joined: {reason}")
    output.say("")
    output.say(f"{plural(len(found), 'question')}: `customers merge A B` if they are one, `customers apart A` if not")


def _against(contest: "Contest", names: dict[int, str]) -> list[str]:
    against = [
        f"{'two' if len(values) == 2 else len(values)} buyer ids of {words.named(scope, names)}: {', '.join(values)}"
        for (_, scope), values in contest.clashes.items()
    ]
    return against + [f"{one.kind} {one.value} is shared by too many" for one in contest.crowded]


@click.command()
@click.argument("customers", nargs=-1, required=True)
@by_option
@output.json_option
@with_call
def apart(call: Call, customers: tuple[str, ...], who: str | None, as_json: bool) -> None:
    """Settle the review of these customers: they are not those they share something with.

    They leave the review list until new evidence comes.
    """
    from crmkit.flow import family

    listened = call.host.setup({}).listened
    with call.writing() as tx:
        settled = []
        for text in customers:
            found = family.leave_apart(
                tx, customer_meant(tx, text), actor=actor_of(who), listened=listened, now=call.now
            )
            settled += found
    if as_json:
        output.document({"settled": [contest.members for contest in settled]})
    else:
        output.say(f"{plural(len(settled), 'question')} settled" if settled else "they are not to be reviewed")

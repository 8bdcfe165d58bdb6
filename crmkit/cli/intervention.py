"""`crmkit messages retry|release|settle|cancel`: what a person does to messages, one or many."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from crmkit.cli import output, words
from crmkit.cli.asking import must_be_wanted
from crmkit.cli.call import Call, plural, read_time, with_call
from crmkit.cli.given import NUMBER, check
from crmkit.cli.interactions import account_of, split
from crmkit.core.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from crmkit.flow.intervention import By, Done
    from crmkit.store.engine import Store
    from crmkit.store.interventions import Meant

F = TypeVar("F", bound=Callable[..., Any])

#: More messages than this are asked about first.
_MANY = 10
#: Seconds a vendor gets to take a message back.
_PATIENCE = 30.0
#: Why messages stay as they are, and what helps.
LEFT: Mapping[str, str] = {
    "forgotten": "nothing is left of them: their customers were forgotten",
    "pruned": "their texts were pruned: [retention] keeps them no longer",
    "stale": "their news is too old by now",
    "may-repeat": "may have arrived: say so with `crmkit messages settle`, or add --may-repeat to send them once more",
    "address-suppressed": "their addresses bounced: nothing goes there any more",
    "told-since": "the same was told since, by another message",
    "no-gateway": "no gateway that is configured reaches them",
    "nothing-to-compose-from": "nothing is known to compose them from",
    "may-have-left": "an earlier try may have been taken: settle what became of it first",
    "moved-on": "a run had them in hand, or something became of them meanwhile",
    "not-taken-back": "their vendors did not take them back",
}


def _filters(function: F) -> F:
    """The options by which messages are meant, and what goes with them."""
    options = (
        click.argument("ids", type=NUMBER, nargs=-1, metavar="[MESSAGE]..."),
        click.option("--all", "everything", is_flag=True, help="All there are."),
        click.option("--state", "states", metavar="A,B", help="In these states."),
        click.option("--reason", "reasons", metavar="A,B", help="For these reasons: missing-variable, no-verdict, ..."),
        click.option("--template", metavar="NAME", help="From this template."),
        click.option("--gateway", metavar="NAME", help="Whose turn it is."),
        click.option("--shop", metavar="NAME", help="For this shop."),
        click.option("--customer", metavar="X", help="To this customer, named as for `customers find`."),
        click.option("--order", metavar="ID", help="About this order."),
        click.option("--since", metavar="TIME", help="Decided at or after this time."),
        click.option("--because", metavar="TEXT", help="Why, for whoever looks at them later."),
        click.option("--plan", is_flag=True, help="Say how many, and do nothing."),
        click.option("--yes", is_flag=True, help=f"Do not ask, also about more than {_MANY}."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@_filters
@click.option("--may-repeat", is_flag=True, help="Also those in doubt: they may arrive twice.")
@output.json_option
@with_call
def retry(call: Call, /, may_repeat: bool, **given: Any) -> None:
    """Try failed messages again: by number, by a filter, or --all.

    What they say stays as it was. Of those in doubt only what cannot arrive twice, unless --may-repeat. Exit code 1
    if some stay as they are.
    """
    from crmkit.flow import intervention

    step = _Step(call, "retry", given)
    step.run(lambda tx, setup, meant, by, after: intervention.retry(tx, setup, meant, by, after, may_repeat=may_repeat))


@click.command()
@_filters
@output.json_option
@with_call
def release(call: Call, /, **given: Any) -> None:
    """Compose held messages anew, by today's templates and facts, and let them leave.

    Exit code 1 if some stay held.
    """
    from crmkit.flow import intervention

    _Step(call, "release", given).run(intervention.release)


@click.command()
@_filters
@click.option("--arrived", is_flag=True, help="They arrived.")
@click.option("--lost", is_flag=True, help="They did not, and may be retried.")
@output.json_option
@with_call
def settle(call: Call, /, arrived: bool, lost: bool, **given: Any) -> None:
    """Say what became of messages in doubt: they arrived, or are lost and may be retried."""
    from crmkit.flow import intervention

    if arrived == lost:
        raise click.UsageError("say what became of them: --arrived or --lost" + (", not both" if lost else ""))
    step = _Step(call, "settle", given, "delivered" if arrived else "failed")
    step.run(lambda tx, setup, meant, by, after: intervention.settle(tx, setup, meant, by, after, arrived=arrived))


@click.command()
@_filters
@output.json_option
@with_call
def cancel(call: Call, /, **given: Any) -> None:
    """Let messages that wait, or are held, never leave.

    With --state sent, vendors that can are asked to take back what they have not sent yet. Exit code 1 if some stay.
    """
    from crmkit.flow import intervention

    _Step(call, "cancel", given).run(intervention.cancel)


class _Step:
    """One such command: who is meant, whether it is wanted, batch after batch, and what it came to."""

    def __init__(self, call: Call, action: str, given: Mapping[str, Any], becomes: str | None = None) -> None:
        from crmkit.cli.whom import typist
        from crmkit.flow.intervention import STATES, By

        self.call, self.action, self.given, self.becomes = call, action, given, becomes
        self.as_what = f" as {becomes}" if becomes else ""
        self.known = [str(state) for state in STATES[action]]
        self.by: By = By(typist(), call.now, given["because"])

    def run(self, step: "Callable[[Connection, Any, Meant, By, int], Done]") -> None:
        """Do it to everything that is meant."""
        from crmkit.engine.local import Local
        from crmkit.flow.intervention import Done

        with self.call.open_store() as store:
            local = Local(self.call.host, store)
            local.prepare()
            with store.read() as tx:
                setup, meant = self.call.setup(tx), self._meant(tx)
                is_sent = "sent" in meant.states
                rows = self._counted(tx, meant)
            total = sum(row["count"] for row in rows)
            done = Done()
            if not self._is_wanted(rows, total):
                return
            while total and not (is_sent and len(meant.states) == 1):
                with store.begin() as tx:
                    done.add(step(tx, setup, replace(meant, states=self._open(meant)), self.by, done.last or 0))
                if done.last is None:
                    break
            if is_sent and total:
                done.add(asyncio.run(self._take_back(store, meant)))
        self._tell(total, done)

    def _open(self, meant: "Meant") -> list[str]:
        return [state for state in meant.states if state != "sent"]

    def _meant(self, tx: "Connection") -> "Meant":
        """Which messages are meant.

        Raises:
            ConfigError: a name that is given is not known.
            click.UsageError: nothing is given.
        """
        from crmkit.cli.messages import check_names
        from crmkit.cli.whom import customer_meant
        from crmkit.core.message import Reason
        from crmkit.store import accounts
        from crmkit.store import customers as profiles
        from crmkit.store.interventions import Meant

        given = self.given
        names = ("ids", "everything", "states", "reasons", "template", "gateway", "shop", "customer", "order", "since")
        if not any(given[name] for name in names):
            raise click.UsageError("name messages by number or by an option; --all is all of them")
        if given["everything"] and given["ids"]:
            raise click.UsageError("either numbers or --all")
        states, reasons = split(given["states"]), split(given["reasons"])
        known = [*self.known, "sent"] if self.action == "cancel" else self.known
        check(states, known, "--state", f"state that can be {_DID[self.action]},")
        check(reasons, [str(reason) for reason in Reason], "--reason", "reason")
        check_names(self.call, tx, template=given["template"], gateway=given["gateway"])
        members = None
        if given["customer"] is not None:
            family = customer_meant(tx, given["customer"])
            members = profiles.members(tx, [family])[family]
        return Meant(
            ids=given["ids"] or None,
            states=states or self.known,
            reasons=reasons,
            template=given["template"],
            gateway=given["gateway"],
            shop=account_of(accounts.every(tx), given["shop"]),
            profiles=members,
            order=given["order"],
            since=None if given["since"] is None else read_time(given["since"], "--since", self.call.zone),
        )

    def _counted(self, tx: "Connection", meant: "Meant") -> list[Any]:
        """How many are meant, by state and reason.

        Raises:
            ConfigError: one named by number is not there, or in none of the states.
        """
        from crmkit.store import interventions, report

        rows = interventions.counted(tx, meant)
        if meant.ids is not None and sum(row["count"] for row in rows) < len(set(meant.ids)):
            for number in meant.ids:
                found = report.message(tx, number)
                if found is None:
                    raise ConfigError(f"there is no message #{number}", who="messages", do="see `messages list`")
                if found["state"] not in meant.states:
                    what = f"message #{number} {words.state(found['state'])} ({found['state']})"
                    do = f"only what is {' or '.join(meant.states)} can be {_DID[self.action]}"
                    raise ConfigError(what, who="messages", operation=self.action, do=do)
        return rows

    def _is_wanted(self, rows: Sequence[Any], total: int) -> bool:
        """Say how many it is about; whether it is to be done.

        Raises:
            ConfigError: there are many, and nobody can be asked.
            click.exceptions.Exit: whoever was asked does not want it.
        """
        as_json, plan = self.given["as_json"], self.given["plan"]
        if as_json and plan:
            kinds = ("state", "reason", "gateway", "count")
            found = {"meant": total, "kinds": [{kind: row[kind] for kind in kinds} for row in rows]}
            output.document({**found, "becomes": self.becomes} if self.becomes else found)
        elif not as_json:
            output.say(f"{plural(total, 'message')} meant" if total else "no message is meant")
            for row in rows:
                because = f" ({row['reason']})" if row["reason"] else ""
                output.say(f"  {row['count']:,} {row['state']}{because} by {row['gateway'] or 'no gateway'}")
            if plan and total and self.becomes:
                output.say(f"  they would be settled{self.as_what}")
            if plan:
                output.say("a plan: nothing was done")
        if plan:
            return False
        if total <= _MANY or self.given["yes"]:
            return True
        would = f"{plural(total, 'message')} would be {_DID[self.action]}{self.as_what}"
        must_be_wanted(f"{self.action} {total:,}{self.as_what}?", f"messages {self.action}", would)
        return True

    async def _take_back(self, store: "Store", meant: "Meant") -> "Done":
        """Ask vendors to take messages back that they have."""
        from crmkit.adapters.gateway import Gateway
        from crmkit.engine.accounts import Accounts
        from crmkit.flow import intervention
        from crmkit.flow.claim import message_of
        from crmkit.store import interventions

        done, accounts, after = intervention.Done(), Accounts(self.call.host, store), 0
        sent = replace(meant, states=("sent",))
        while True:
            with store.read() as tx:
                setup = self.call.setup(tx)
                rows = interventions.listed(tx, sent, after, intervention.BATCH)
            for name in sorted({row["gateway"] for row in rows}):
                entry, mine = setup.entry(name), [row for row in rows if row["gateway"] == name]
                if entry is None or entry.adapter.cancel is Gateway.cancel:
                    done.left["not-taken-back"] += len(mine)
                    continue
                async with accounts.open(entry, store.run, self.by.now) as (gateway, _):
                    taken = await asyncio.gather(
                        *(_took_back(gateway, message_of({**row, "form": None}, setup, self.by.now)) for row in mine)
                    )
                numbers = [row["id"] for row, is_taken in zip(mine, taken, strict=True) if is_taken]
                if len(numbers) < len(mine):
                    done.left["not-taken-back"] += len(mine) - len(numbers)
                done.add(await store.run(intervention.taken_back, setup, numbers, self.by))
            if len(rows) < intervention.BATCH:
                done.last = None
                return done
            after = rows[-1]["id"]

    def _tell(self, total: int, done: "Done") -> None:
        elsewhere = total - done.states.total() - done.left.total()
        if elsewhere > 0:
            done.left["moved-on"] = elsewhere
        if self.given["as_json"]:
            output.document({"meant": total, "states": dict(done.states), "left": dict(done.left)})
        else:
            for state, count in sorted(done.states.items()):
                output.say(f"{plural(count, 'message')} {_SAID.get((self.action, state), f'{state} now')}")
            for why, count in done.left.most_common():
                output.warn(f"{plural(count, 'message')} stay as they are: {LEFT.get(why, why)}")
        if done.left:
            click.get_current_context().exit(1)


async def _took_back(gateway: Any, message: Any) -> bool:
    """Whether a vendor took a message back; what cannot be asked was not."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return bool(await gateway.cancel(message))
    except Exception:  # a plugin's code: what it breaks is this message only
        return False


_DID = {"retry": "tried again", "release": "released", "settle": "settled", "cancel": "cancelled"}
_SAID = {
    ("retry", "queued"): "will be tried again with the next `crmkit dispatch`",
    ("release", "queued"): "will leave with the next `crmkit dispatch`",
}

"""`crmkit demo`: a small made-up shop, from its exports to mail on a real SMTP connection, on this machine only.

It drives the same engine as `sync` and `dispatch`, with the clock set to one evening, so that the result is the same
every day. What it shows is read back from the database and from what the mail server took.
"""

import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.engine import Connection

from crmkit.cli import demo_shop
from crmkit.core.errors import ConfigError, CrmkitError
from crmkit.engine.local import DispatchRun, Local
from crmkit.engine.plan import Plan
from crmkit.flow import opt_outs
from crmkit.host.host import Host
from crmkit.store import accounts, customers, report, search
from crmkit.store.engine import Store


@dataclass
class Sink:
    """A mail server that takes everything: the mails by their message's key."""

    port: int = 0
    mails: dict[str, list[EmailMessage]] = field(default_factory=dict)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.setdefault(str(mail["X-Crmkit-Key"]), []).append(mail)
        return "250 2.0.0 taken"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Sink"]:
        """Serve on a free port of this machine."""
        try:
            from aiosmtpd.smtp import SMTP
        except ModuleNotFoundError:
            raise ConfigError(
                "its mail server, aiosmtpd, is not installed", who="demo", do="pip install 'crmkit[demo]'"
            ) from None
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(self, hostname="localhost", loop=loop), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()


@click.command("demo")
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), help="A new folder for the demo shop.")
def demo(into: Path | None) -> None:
    """Show the whole way through with a small made-up shop: exports in, decisions, mail out.

    Nothing leaves this machine: the mails go to a server that runs as long as the demo does.
    """
    if into is not None and into.exists() and any(into.iterdir()):
        raise ConfigError(f"{into} is not empty", who="demo", do="name a new folder")
    folder = Path(tempfile.mkdtemp(prefix="crmkit-demo-")) if into is None else into
    console = Console()
    asyncio.run(_run(folder, console if console.is_terminal else Console(width=120)))


async def _run(folder: Path, console: Console) -> None:
    async with Sink().listening() as sink:
        demo_shop.write(folder, sink.port)
        host = Host.open(folder / "crmkit.toml")
        store = host.store()
        try:
            engine = Local(host, store)
            [synced] = await engine.sync(now=demo_shop.NOW)
            with store.begin() as tx:  # as `crmkit consent none-before` would
                shops = accounts.opt_outs(tx)
                opt_outs.know(tx, shops, demo_shop.NOW, actor="demo", how="none before: a new shop")
            plan = engine.plan(now=demo_shop.NOW)
            done = await engine.dispatch(now=demo_shop.NOW)
            for error in (*synced.errors, *done.delivered.stopped.values()):
                raise error
            _show(console, folder, store, plan, done, sink)
        finally:
            store.close()
    demo_shop.configure(folder, None)  # from now on mails go into a folder


def _show(console: Console, folder: Path, store: Store, plan: Plan, done: DispatchRun, sink: Sink) -> None:
    with store.read() as tx:
        rows = [{**row, "why": report.causes(tx, row["interaction_id"])[0]["type"]} for row in _messages(tx)]
        names = {row["customer"]: row["name"] for row in search.overview(tx, search.every_family(tx, 0, 1000))}
        family = customers.family_of(tx, [row["profile_id"] for row in rows if row["profile_id"] is not None])
        counts, refused = report.counts(tx), accounts.open_quarantine(tx)
        for row in rows:
            row["who"] = row["staff"] or names.get(family.get(row["profile_id"])) or "?"

    console.rule("[bold]crmkit demo[/bold]: Tea House, on the evening of 12 May 2026", align="left")
    console.print(
        f"\n[bold]In[/bold]  {counts['orders']} orders of {counts['customers']} customers with"
        f" {counts['order_lines']} lines and {counts['parcels']} parcels, from the CSV files in {folder / 'exports'}:"
        f" {sum(counts['interactions'].values())} interactions.\n",
        soft_wrap=True,
    )
    sent = [row for row in rows if row["state"] == "sent"]
    _table(console, "Who was told what, and why", ("when", "to", "", "subject of the mail", "because of"), sent, sink)
    back = [row for row in rows if row["state"] != "sent"]
    _table(console, "Who was not, and why", ("", "to", "", "would have been told", "reason"), back, None)
    console.print(
        f"History is quiet: {done.decided.quiet} more messages about what happened before the shop was connected were"
        " counted, not written.\n",
        soft_wrap=True,
    )
    table = Table("file and line", "what is wrong", title="In quarantine, the rest landed", **_LOOK)
    for refusal in refused:
        table.add_row(refusal["place"], Text(refusal["reason"]))
    console.print(table)

    took = {key: len(mails) for key, mails in sink.mails.items()}
    planned = {row["key"] for row in plan.rows if row["leaves_at"] is not None}
    if took != dict.fromkeys((row["key"] for row in sent), 1) or planned != set(took):
        raise CrmkitError("the database, the plan and the mail server do not agree", who="demo", do="report this")
    console.print(
        f"\n[bold]Out[/bold]  The mail server took {sum(took.values())} mails, each once; the plan made before had said"
        f" the same {len(planned)}.\n",
        soft_wrap=True,
    )
    _next(console, folder, back)


_LOOK: dict[str, Any] = {"box": box.SIMPLE_HEAD, "title_justify": "left", "title_style": "bold", "pad_edge": False}


def _messages(tx: Connection) -> list[dict[str, Any]]:
    rows = [dict(row) for row in report.messages(tx, limit=1000)]
    return sorted(rows, key=lambda row: (row["sent_at"] or row["decided_at"], row["id"]))


def _table(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], sink: Sink | None
) -> None:
    table = Table(*columns, title=title, **_LOOK)
    for row in rows:
        why = f"{row['why']} {row['order']}"
        if sink is not None:
            [mail] = sink.mails[row["key"]]
            when = f"{row['sent_at'].astimezone(demo_shop.ZONE):%a %H:%M}"
            table.add_row(when, row["who"], row["locale"], str(mail["Subject"]), why)
        else:
            until = f"{row['not_before'].astimezone(demo_shop.ZONE):%a %H:%M}" if row["state"] == "queued" else ""
            reason = f"until {until}: {row['reason']}" if until else f"{row['reason']}: {row['detail'] or ''}"
            table.add_row(str(row["id"]), row["who"], row["locale"], f"{row['template']} {row['order']}", reason)
    console.print(table)
    tally = Counter(row["reason"] or row["state"] for row in rows)
    console.print(Text(", ".join(f"{count} {name}" for name, count in tally.most_common()) + "\n", style="dim"))


def _next(console: Console, folder: Path, back: Sequence[Mapping[str, Any]]) -> None:
    program = "crmkit"
    if shutil.which(program) is None and Path(sys.argv[0]).name == program:
        program = str(Path(sys.argv[0]).absolute())
    overtaken = next((row["id"] for row in back if row["reason"] == "overtaken"), back[0]["id"])
    console.print("[bold]Try next[/bold] (mails go into the folder outbox from now on)")
    for command in (
        f"cd {folder}",
        f"{program} explain message {overtaken}",
        f"{program} quarantine list",
        f"{program} --now {demo_shop.NEXT_MORNING.isoformat(timespec='minutes')} dispatch",
    ):
        console.print(f"  {command}", soft_wrap=True, highlight=False, markup=False)

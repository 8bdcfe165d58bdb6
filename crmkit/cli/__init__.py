"""The command line: one file per command group; thin: parse, call, print.

- `call`: what every command is given: configuration, clock, database; errors and exit codes
- `asking`: whether what a command is about to do is wanted
- `given`: numbers of records, counts, files and names, as commands take them
- `output`: tables for people, JSON for programs
- `progress`: bars for what takes long, on a terminal only
- `whom`: which customer a text means
- `words`: states and reasons as a person would say them
- `permission`: what may be said to a customer on which channel, by the policies themselves
- `sample`: a template filled in by hand
- `init`, `config`, `plugins`, `db`: setting up
- `adopt`, `backup`, `prune`: a database taken on, how the fence stands; copied, and put back; what is old let go
- `extension`: what plugins' commands may read
- `scaffold`: a new plugin, as a whole package
- `package`, `soundness`, `proof`: which package is meant, what of it is not as it should be, what its own tests say
- `inventory`, `capability`, `setting`, `retrace`: what is installed, what it can do, how it is set, what it did
- `demo`: a small made-up shop from its exports to its mails; `demo_shop` writes it
- `logs`: where the lines of the log go under a service
- `sync`, `dispatch`, `run`: the way through, and both for ever
- `plan`: what would leave, in a file, and the file applied
- `serve`: the door to the outside
- `worker`: many processes on one PostgreSQL
- `told`: what `run` and `serve` say of what they did
- `pause`: what does not leave until it is resumed
- `inbox`, `connect`: webhooks that were kept; accounts whose vendor wants more than settings
- `tokens`: what programs may use plugins' pages and the metrics with
- `runs`: what commands did, and an import undone
- `shops`: what shops are known, and by what name
- `customers`, `interactions`, `messages`, `quarantine`, `consent`: looking and mending
- `intervention`: messages tried again, released, settled and cancelled by hand
- `links`: addresses of customers' own pages
- `family`: customers merged, and taken apart, by hand
- `export`: everything that is kept of a customer, as JSON
- `forget`: a customer forgotten for good
- `explain`, `doctor`: why something is as it is, and what is not as it should be
- `finding`, `vitals`, `enquiry`: what the doctor finds; how each shop and gateway is, and what each says of itself

Commands are imported when they are called, so that `crmkit --version` and `--help` cost next to nothing.
"""

import logging
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

import crmkit

#: Every command: where it is, and what it does.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("crmkit.cli.init:init", "Write a crmkit.toml, asking what has to be known."),
    "demo": ("crmkit.cli.demo:demo", "Show the whole way through with a small made-up shop."),
    "doctor": ("crmkit.cli.doctor:doctor", "Say what is not as it should be."),
    "config": ("crmkit.cli.config:config", "Check and show the configuration."),
    "plugins": ("crmkit.cli.plugins:plugins", "List what is installed; show, write, check and trace plugins."),
    "db": ("crmkit.cli.db:db", "Create, upgrade, back up and look at the database."),
    "sync": ("crmkit.cli.sync:sync", "Read shops and take in what is new."),
    "dispatch": ("crmkit.cli.dispatch:dispatch", "Decide what to say, and send what is due."),
    "pause": ("crmkit.cli.pause:pause", "Let something not leave for now; list what is paused."),
    "resume": ("crmkit.cli.pause:resume", "Let it leave again."),
    "shops": ("crmkit.cli.shops:shops", "List the shops that are known, rename one."),
    "run": ("crmkit.cli.run:run", "Sync and dispatch for ever."),
    "serve": ("crmkit.cli.serve:serve", "Take in webhooks and show customers their pages."),
    "worker": ("crmkit.cli.worker:worker", "Sync and dispatch beside other workers, on PostgreSQL."),
    "cluster": ("crmkit.cli.worker:cluster", "Set a database up for workers, and say how they stand."),
    "customers": ("crmkit.cli.customers:customers", "Find, show, merge, export and forget customers."),
    "interactions": ("crmkit.cli.interactions:interactions", "List what happened; decide again what was parked."),
    "messages": ("crmkit.cli.messages:messages", "List messages, show one, try a template; retry, release, cancel."),
    "inbox": ("crmkit.cli.inbox:inbox", "List webhooks that were kept, show one, read them again."),
    "runs": ("crmkit.cli.runs:runs", "List what commands did, undo an import."),
    "connect": ("crmkit.cli.connect:connect", "Give an account what its vendor wants beside settings."),
    "tokens": ("crmkit.cli.tokens:tokens", "Make, list and revoke what programs may use pages with."),
    "links": ("crmkit.cli.links:links", "Make addresses of customers' own pages."),
    "quarantine": ("crmkit.cli.quarantine:quarantine", "List what was refused, show it, read it again."),
    "consent": ("crmkit.cli.consent:consent", "Show and enter what customers allowed and forbade."),
    "explain": ("crmkit.cli.explain:explain", "Say why a customer or a message is as it is."),
}


class Program(click.Group):
    """The `crmkit` program: commands by dotted name, errors in one line, exit codes as documented."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of a first day: setting up, running, looking."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; one that is not ours may be a plugin's."""
        if cmd_name in COMMANDS:
            module, _, name = COMMANDS[cmd_name][0].partition(":")
            command: click.Command = getattr(import_module(module), name)
            return command
        from crmkit.cli.call import plugin_command

        return plugin_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error becomes one line and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException):
            raise
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            ctx.exit(130)
        except Exception as error:
            if isinstance(error, BrokenPipeError) or ctx.params.get("debug"):
                raise
            from crmkit.cli.call import told

            text, code = told(error)
            for line in text.splitlines():
                click.echo(f"error: {line}", err=True)
            ctx.exit(code)


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"crmkit {crmkit.__version__}")
        ctx.exit()


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done; 1 some work failed or was quarantined; 2 wrong usage, configuration or database"
    " version; 130 interrupted.",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Say the version.")
@click.option(
    "--config",
    "config",
    metavar="FILE",
    default="crmkit.toml",
    envvar="CRMKIT_CONFIG",
    show_default=True,
    show_envvar=True,
    type=click.Path(dir_okay=False),
    help="The configuration; relative paths in it are relative to it.",
)
@click.option(
    "--now",
    metavar="TIME",
    help="The run's clock, for simulation: an ISO time with zone, 2026-05-07T09:00+08:00.",
)
@click.option(
    "--no-plugins",
    is_flag=True,
    help="Load no playbooks, and of adapters' packages no handlers, schedules, policies and pages; what they would"
    " decide waits.",
)
@click.option(
    "--only-plugins",
    metavar="A,B",
    help="The same but for these: playbooks the configuration names, or adapters as FAMILY.SLUG.",
)
@click.option("--debug", is_flag=True, envvar="CRMKIT_DEBUG", help="Show where an unexpected error came from.")
@click.pass_context
def cli(
    ctx: click.Context, config: str, now: str | None, no_plugins: bool, only_plugins: str | None, debug: bool
) -> None:
    """Tell buyers what they want to know: orders in, messages out, every step repeatable and explainable."""
    logging.getLogger("psycopg").addFilter(_is_of_its_own)


def _is_of_its_own(record: logging.LogRecord) -> bool:
    """False for what psycopg warns of when an error follows from the one it raises, which alone is told."""
    return not str(record.msg).startswith("error ignored")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program (the entry point `crmkit`)."""
    cli.main(args=None if arguments is None else list(arguments), prog_name="crmkit")


__all__ = ["COMMANDS", "cli", "main"]

"""`crmkit config`: check and show the configuration."""

from dataclasses import asdict

import click

from crmkit.cli import output
from crmkit.cli.call import Call, plural, with_call


@click.group()
def config() -> None:
    """Check and show the configuration."""


@config.command()
@output.json_option
@with_call
def check(call: Call, as_json: bool) -> None:
    """Say everything that is wrong, with file, line and key, what was found and what would be right.

    Warnings stop nothing. Exit code 2 if there is an error.
    """
    host = call.open_host(strict=False)
    found = list(dict.fromkeys(host.findings()))
    errors = [problem for problem in found if problem.level == "error"]
    if as_json:
        output.lines(asdict(problem) for problem in found)
    else:
        for problem in found:
            output.say(f"{problem.level}: {problem}")
        shops = ", ".join(host.shops) or "none"
        gateways = ", ".join(f"{one.name} ({channel})" for channel, many in host.channels.items() for one in many)
        playbooks = ", ".join(plugin.name for plugin in host.playbooks) or "none"
        output.say(f"{call.config_path}: {plural(len(errors), 'error')}, {plural(len(found) - len(errors), 'warning')}")
        if host.staging is not None:
            output.say(str(host.staging))
        output.say(f"shops: {shops}; gateways: {gateways or 'none'}; playbooks: {playbooks}")
    if errors:
        click.get_current_context().exit(2)


@config.command()
@output.json_option
@with_call
def show(call: Call, as_json: bool) -> None:
    """Show the configuration as it is in force: defaults filled in, secrets masked."""
    from crmkit.host.schema import in_force, to_toml

    values = in_force(call.host)
    if as_json:
        output.document(values)
    else:
        to_toml(values, output.say)


@config.command()
@with_call
def schema(call: Call) -> None:
    """Print a JSON Schema of crmkit.toml, for editors."""
    from crmkit.host.schema import schema as schema_of

    output.document(schema_of(call.open_host(strict=False)))

"""`crmkit init`: writes a commented crmkit.toml, asking what has to be known."""

import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crmkit.cli import output
from crmkit.cli.call import Call, with_call
from crmkit.core.errors import ConfigError, CrmkitError
from crmkit.host.schema import quoted

if TYPE_CHECKING:
    from crmkit.host.plugins import Plugins

#: Settings that are asked for although an adapter can do without them.
_ASKED = ("preset", "path", "host", "port", "username", "password")
#: What is suggested for them.
_SUGGESTED: Mapping[str, Mapping[str, str]] = {
    "marketplace.files": {"preset": "crmkit", "path": "exports"},
    "email.folder": {"path": "outbox"},
    "email.smtp": {"port": "587", "password": "env:SMTP_PASSWORD"},
}
_LATER = "# to be filled in"
#: The file the installation's own secret is written into, beside the configuration.
_KEY = "crmkit.key"


@dataclass
class Answers:
    """What is written: shops and gateways as (section, adapter, settings)."""

    title: str
    locale: str
    timezone: str
    shops: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    gateways: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    has_care: bool = False


@click.command()
@click.option("--yes", is_flag=True, help="Ask nothing: take defaults and what the options say.")
@click.option("--title", help="What buyers know you by.")
@click.option("--locale", help="The language of readers whose own is not known: en, zh-CN, ...")
@click.option("--timezone", help="Where the shop is: Europe/Berlin, ...")
@click.option("--shop", default="shop", show_default=True, help="The shop's name in the configuration (with --yes).")
@click.option("--use", default="files", show_default=True, help="The adapter the shop is read with (with --yes).")
@click.option("--preset", help="The shape of the shop's exports (with --yes).")
@click.option("--path", help="The folder of the shop's exports (with --yes).")
@with_call
def init(
    call: Call,
    yes: bool,
    title: str | None,
    locale: str | None,
    timezone: str | None,
    shop: str,
    use: str,
    preset: str | None,
    path: str | None,
) -> None:
    """Write a crmkit.toml: shops, a channel that only writes mails into a folder, and what buyers are told.

    A secret of the installation's own is written beside it. A file that is there is left alone.
    """
    from crmkit.host.plugins import Plugins

    file = call.config_path
    if file.exists():
        raise ConfigError("is there already", who=str(file), do="edit it, or name another with --config FILE")
    plugins = Plugins()
    guess = Answers(title or "My shop", locale or guessed_locale(), timezone or guessed_zone())
    guess.has_care = "care" in plugins.catalogue.slugs("play")
    if yes:
        said = {key: value for key, value in (("preset", preset), ("path", path)) if value is not None}
        guess.shops.append((shop, use, _defaults(plugins, "marketplace", use, said)))
        if "folder" in plugins.catalogue.slugs("email"):
            guess.gateways.append(("email", "folder", _defaults(plugins, "email", "folder", {})))
        answers = guess
    else:
        answers = _dialogue(plugins, guess)
    text = "\n".join(_text(answers))
    key = at = file.with_name(_KEY)
    is_new = False
    try:
        is_new = _write_key(key)  # first: a configuration without its key is of no use
        at = file
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        if is_new:
            key.unlink()  # nothing is locked with it yet
        raise ConfigError(
            f"cannot be written ({error.strerror})", who=str(at), do="make its folder and give it write permission"
        ) from error
    if is_new:
        output.say(f"{file} is written, and {_KEY} beside it: a secret; keep it, and give it to nobody.")
    else:
        output.say(f"{file} is written. {_KEY} is there already and kept: a secret; give it to nobody.")
    _next_steps(call)


def _write_key(file: Path) -> bool:
    """A secret nobody else knows, for its owner's eyes only. False: there is one, and what it locked stays readable."""
    try:
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    try:
        with os.fdopen(number, "w", encoding="utf-8") as stream:
            stream.write(secrets.token_urlsafe(32) + "\n")
    except OSError:
        file.unlink()  # half a key would be kept by the next try
        raise
    return True


def _next_steps(call: Call) -> None:
    """What is still to be done before the first sync, and the commands that come next."""
    host = call.open_host(strict=False)
    for problem in host.findings():
        output.warn(f"{problem.level}: {problem}")
    option = "" if str(call.config_path) == "crmkit.toml" else f" --config {call.config_path}"
    output.say("Next:")
    for command, what in (
        ("config check", "is everything there?"),
        ("sync --plan", "what would be taken in"),
        ("sync", "take it in"),
        ("dispatch --plan", "what would be told, to whom"),
    ):
        output.say(f"  crmkit{option} {command:<16} # {what}")


def _dialogue(plugins: "Plugins", guess: Answers) -> Answers:
    answers = Answers(
        click.prompt("What do buyers know you by", default=guess.title),
        click.prompt("Language of readers whose own is not known", default=guess.locale),
        click.prompt("Time zone", default=guess.timezone),
    )
    catalogue = plugins.catalogue
    while True:
        name = click.prompt("Name of a shop in the configuration", default="shop", value_proc=_name)
        use = _choice("How is it read", catalogue.slugs("marketplace"), "files")
        answers.shops.append((name, use, _asked(plugins, "marketplace", use)))
        if not click.confirm("Another shop", default=False):
            break
    output.say("A folder is the safe beginning: mails are written into it, and nothing leaves.")
    for channel in catalogue.channels():
        slugs = catalogue.slugs(channel)
        if slugs and click.confirm(f"Use the channel {channel}", default=channel == "email"):
            use = _choice(f"How does {channel} leave", slugs, "folder")
            answers.gateways.append((channel, use, _asked(plugins, channel, use)))
    answers.has_care = guess.has_care and click.confirm(
        "Tell buyers when their order ships, arrives late or is refunded (the playbook care)", default=True
    )
    return answers


def _choice(question: str, slugs: list[str], default: str) -> str:
    if not slugs:
        return str(click.prompt(f"{question} (no adapter is installed yet)", default=default))
    choice = default if default in slugs else slugs[0]
    return str(click.prompt(question, default=choice, type=click.Choice(slugs)))


def _name(written: str) -> str:
    if not re.fullmatch(r"\w[\w-]*", written):
        raise click.UsageError("use letters, digits, - and _")
    return written


def _fields(plugins: "Plugins", family: str, slug: str) -> Iterable[tuple[str, bool, bool]]:
    """The settings to write for an adapter: (key, whether it is required, whether it is a secret)."""
    try:
        adapter: Any = plugins.source(family, slug) if family == "marketplace" else plugins.gateway(family, slug)
    except CrmkitError as error:
        output.warn(f"warning: {error}")
        return
    for key, info in adapter.Settings.model_fields.items():
        if info.is_required() or key in _ASKED:
            yield key, info.is_required(), "Secret" in str(info.annotation)


def _defaults(plugins: "Plugins", family: str, slug: str, said: Mapping[str, str]) -> dict[str, str]:
    """What is written without asking: what was said, what is suggested; what is needed and unknown is left empty."""
    suggested = {**_SUGGESTED.get(f"{family}.{slug}", {}), **said}
    found = {}
    for key, required, _ in _fields(plugins, family, slug):
        if key in suggested or required:
            found[key] = suggested.get(key, "")
    return {**found, **{key: value for key, value in said.items() if key not in found}}


def _asked(plugins: "Plugins", family: str, slug: str) -> dict[str, str]:
    suggested = _SUGGESTED.get(f"{family}.{slug}", {})
    found = {}
    for key, required, secret in _fields(plugins, family, slug):
        hint = " (env:NAME or file:PATH)" if secret else "" if required else " (empty: none)"
        default = suggested.get(key, None if required else "")
        answer = click.prompt(f"  {slug}: {key}{hint}", default=default, value_proc=_reference if secret else None)
        if answer != "":
            found[key] = str(answer)
    return found


def _reference(written: str) -> str:
    if written and not written.startswith(("env:", "file:")):
        raise click.UsageError("write env:NAME or file:PATH; a secret does not belong into the file")
    return written


# --- what is written --------------------------------------------------------------------------------------------------


def _text(answers: Answers) -> Iterable[str]:
    yield "# What crmkit knows of this installation. `crmkit config check` says what is wrong with it."
    yield '# Paths are relative to this file. Secrets are written by reference: "env:NAME" or "file:PATH".'
    yield ""
    yield "[crm]"
    yield 'database = "sqlite:///crm.db"  # made by the first `crmkit sync`'
    yield f"key = {quoted(f'file:{_KEY}')}  # locks what adapters remember, signs links; keep it apart from backups"
    yield f"title = {quoted(answers.title)}  # what buyers know you by"
    yield f"locale = {quoted(answers.locale)}  # of readers whose own language is not known"
    yield f"timezone = {quoted(answers.timezone)}"
    yield ""
    yield "[plugins]"
    yield f"use = [{quoted('care') if answers.has_care else ''}]  # playbooks: what to say to whom, and when"
    for name, use, settings in answers.shops:
        yield ""
        yield f"[shops.{name}]"
        yield f"use = {quoted(use)}"
        yield from _settings(settings)
        yield '# currency = "EUR"  # of amounts that come without one'
        yield '# region = "DE"  # where phone numbers without a country code are from'
        yield "# announce_from = 2026-05-07  # what happened before is history; without it, all before the first sync"
    for channel, use, settings in answers.gateways:
        yield ""
        yield f"[[channels.{channel}]]"
        yield f"use = {quoted(use)}" + ("  # writes mails into a folder; nothing leaves" if use == "folder" else "")
        yield from _settings(settings)
    yield ""
    yield "[policy]"
    yield '# quiet_hours = "21:00-09:00"  # local time of the reader'
    yield 'marketing_default = "deny"  # marketing needs an opt-in'
    if answers.has_care:
        via = ", ".join(quoted(channel) for channel, _, _ in answers.gateways) or quoted("email")
        yield ""
        yield "[[care.rules]]  # order-placed, order-paid, order-delivered and order-refunded are told the same way"
        yield 'on = "order-shipped"'
        yield 'send = "order-shipped"'
        yield f"via = [{via}]  # the first that reaches the buyer"
        yield ""
        yield "[care.late]  # the promised delivery has passed and nothing arrived"
        yield f"via = [{via}]"
        yield '# team = "shipping"  # who is told at the shop'
    yield ""
    yield "[web]"
    yield '# url = "https://crm.example.com"  # where `crmkit serve` is reached: webhooks, pages of customers'
    yield ""
    yield "# Persons of the shop, for what concerns them:"
    yield "# [[staff]]"
    yield '# name = "Chen"'
    yield '# teams = ["shipping"]'
    yield '# email = "chen@shop.example"'
    yield ""


def _settings(settings: Mapping[str, str]) -> Iterable[str]:
    for key, value in settings.items():
        if value == "":
            yield f'{key} = ""  {_LATER}'
        else:
            yield f"{key} = {value if value.isdigit() else quoted(value)}"


# --- guesses ----------------------------------------------------------------------------------------------------------


def guessed_zone() -> str:
    """The zone this machine is set to, UTC if it does not say."""
    for written in (os.environ.get("TZ", ""), str(Path("/etc/localtime").resolve())):
        name = written.partition("zoneinfo/")[2] or written
        if re.fullmatch(r"[A-Z][A-Za-z_]+(/[A-Za-z_+-]+)+", name):
            return name
    return "UTC"


def guessed_locale() -> str:
    """The language this machine is set to, English if it does not say."""
    language = (os.environ.get("LC_ALL") or os.environ.get("LANG") or "").partition(".")[0].replace("_", "-")
    return language if re.fullmatch(r"[a-z]{2,3}(-[A-Z]{2})?", language) else "en"

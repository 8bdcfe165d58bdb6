"""The program as such: light to start, errors in one line, exit codes as documented."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import crmkit.cli
from crmkit.cli import COMMANDS, cli
from crmkit.core.message import Reason, State

from .conftest import Place

HEAVY = ("sqlmodel", "sqlalchemy", "fastapi", "pydantic", "rich", "httpx", "aiohttp", "jinja2", "alembic")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_saying_the_version_or_helping_loads_nothing_heavy(arguments: list[str]) -> None:
    # SEMANTICS 36
    code = (
        f"import sys; from crmkit.cli import main\ntry: main({arguments!r})\nexcept SystemExit: pass\n"
        f"print(sorted({{name.partition('.')[0] for name in sys.modules}} & set({HEAVY!r})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "crmkit" in done.stdout


def test_help_names_every_command_and_the_exit_codes(place: Place) -> None:
    shown = place.ok("--help")
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", shown, re.MULTILINE)
    assert "130 interrupted" in " ".join(shown.split())
    assert "for simulation" in " ".join(shown.split())


def leaves(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return [(name, command)]
    context = click.Context(command)
    return [
        leaf
        for inner in command.list_commands(context)
        if (found := command.get_command(context, inner)) is not None
        for leaf in leaves(found, f"{name} {inner}".strip())
    ]


def test_every_command_says_what_it_does_and_prints_json_where_it_prints_data() -> None:
    all_of_them = dict(leaves(cli, ""))
    assert len(all_of_them) > 25
    for name, command in all_of_them.items():
        assert command.help, name
        options = {option for parameter in command.params for option in parameter.opts}
        if name not in {"init", "demo", "config schema", "connect", "plugins new"}:
            assert "--json" in options, name


def test_the_map_of_the_room_is_complete() -> None:
    folder = Path(crmkit.cli.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules <= set(re.findall(r"`(\w+)`", crmkit.cli.__doc__ or ""))


def test_an_unknown_command_is_wrong_usage(place: Place) -> None:
    assert place.run("frobnicate").exit_code == 2


def test_the_clock_needs_a_zone(place: Place) -> None:
    result = place.run("dispatch", now="2026-05-08T20:00")
    assert result.exit_code == 2
    assert "has no zone" in result.stderr
    assert place.run("dispatch", now="tomorrow").exit_code == 2


def test_a_missing_configuration_is_one_line_and_code_2(tmp_path: Path) -> None:
    result = Place(tmp_path).run("sync")
    assert result.exit_code == 2
    assert (
        result.stderr
        == f"error: {tmp_path}/crmkit.toml: does not exist; run `crmkit init`, or name another with --config FILE\n"
    )


def test_every_problem_of_the_configuration_has_a_line_of_its_own(place: Place) -> None:
    place.config.write_text("[crm]\nlocal = 'en'\n[polcy]\n")
    result = place.run("sync")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2
    assert all(line.startswith("error: ") for line in result.stderr.splitlines())


def test_an_unexpected_error_is_one_line_unless_more_is_asked_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("crmkit.host.host.Host.open", explode)
    result = place.run("sync")
    assert result.exit_code == 1
    assert result.stderr == "error: unexpected ZeroDivisionError: oops; run again with --debug to see where\n"
    shown = place.run("sync", before=("--debug",))
    assert isinstance(shown.exception, ZeroDivisionError)


def test_an_interrupted_command_ends_with_130(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("crmkit.host.host.Host.open", interrupt)
    result = place.run("sync")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_a_plugin_brings_a_command(place: Place) -> None:
    (place.folder / "mine.py").write_text(
        "import click\nfrom crmkit import hookimpl\n"
        "@click.command()\ndef hello(): click.echo('hello from mine')\n"
        "@hookimpl\ndef crmkit_commands():\n    yield hello\n"
    )
    place.config.write_text('[plugins]\nuse = ["./mine.py"]\n')
    assert place.ok("hello") == "hello from mine\n"


def test_every_state_and_reason_that_keeps_a_message_is_said_in_words() -> None:
    from crmkit.cli import words

    assert set(words.STATES) == set(State)
    vendors = list(Reason)[list(Reason).index(Reason.BAD_ADDRESS) :]
    spoken = set(Reason) - set(vendors)
    assert spoken <= set(words.REASONS)

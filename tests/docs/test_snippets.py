"""What stands between fences on a page is run, or read by what it is for, or said here not to be, with the reason."""

import ast
import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

import crmkit
from crmkit.cli import cli
from crmkit.flow.template import Template
from crmkit.host.host import Host
from tests.docs.snippet import PAGES, ROOT, Fence, fences

#: Pages of which every fence is written, run and compared, in its order: test_tutorial.py, test_pages.py.
PLAYED = re.compile(r"README\.md|docs/tutorial.*|docs/reference/(hooks|events|actions|errors)/(?!index)[\w-]+\.md")
#: Fences that are run elsewhere: (page, what the fence begins with) -> the test.
ELSEWHERE = {
    ("docs/plugins.md", "python crmkit_"): "tests/docs/test_reference.py",
    ("docs/plugins.md", "python teatime.py"): "tests/docs/test_plugins_page.py",
    ("docs/plugins.md", "toml crmkit.toml"): "tests/docs/test_plugins_page.py",
    ("docs/plugins.md", "python till.py"): "tests/web/test_extension.py",
    ("docs/vendure.md", "ts"): "tests/e2e/test_vendure.py",
}
#: Languages of which nothing is ours to check, and why.
NOT_OURS = {
    "nginx": "a part of the proxy's configuration; the whole, deploy/nginx.conf, is checked by tests/test_deploy.py",
    "yaml": "Prometheus's own configuration",
    "csv": "read by the commands of its page",
    "jinja": "read by the commands of its page",
    "http": "an exchange with a vendor, read by the tests of its page",
    "json": "what comes of it, the same",
}
#: Commands that are not ours: they are named, and not run here.
STRANGERS = {
    "pip", "python3", "install", "systemctl", "$EDITOR", "cd", "mkdir", "echo", "docker", "curl", "journalctl",
    "python", "openssl", "jq", "ls", "grep", "wc", "pg_dump", "pg_restore",
    "/opt/crmkit/bin/pip", "crmkit-admin", ".venv/bin/python", ".venv/bin/pre-commit",
}  # fmt: skip
#: What the configurations on the pages refer to: gateways' approved texts, the shop's own templates.
OWN_TEMPLATES = ("how-was-it", "big-order", "order-shipped")

EVERY = [
    pytest.param(page.relative_to(ROOT).as_posix(), number, id=f"{page.relative_to(ROOT).as_posix()}:{fence.line}")
    for page in PAGES
    for number, fence in enumerate(fences(page.read_text("utf-8")))
]


def fences_of(page: str) -> list[Fence]:
    return fences((ROOT / page).read_text("utf-8"))


def is_run_elsewhere(page: str, fence: Fence) -> bool:
    said = " ".join(fence.info)
    tests = [test for (where, begins), test in ELSEWHERE.items() if where == page and said.startswith(begins)]
    return PLAYED.fullmatch(page) is not None or any((ROOT / test).is_file() for test in tests)


@pytest.mark.parametrize(("page", "number"), EVERY)
def test_a_fence_is_what_it_looks_like(page: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = fences_of(page)
    fence = found[number]
    language = fence.info[0] if fence.info else ""
    text = "\n".join([*fence.lines, ""])
    if language in NOT_OURS or is_run_elsewhere(page, fence):
        return
    if language == "toml":
        whole = next(one for one in reversed(found[: number + 1]) if one.info[0] == "toml" and "more" not in one.info)
        check_toml(text, "\n".join(whole.lines) if "more" in fence.info else "", tmp_path, monkeypatch)
    elif language == "python":
        run_python(text, fence)
    elif language == "text" and fence.lines[0] == "---":
        assert Template.from_source(text, name="a", locale="en", channel="sms").text
    elif language in {"sh", "bash", "console"} or looks_like_commands(fence):
        prompt = "$ " if language == "console" else ""
        for line in fence.lines:
            if line.startswith(prompt):
                check_command(line.removeprefix(prompt), where=page)
    else:
        assert language in {"", "text"}, f"nothing is known of fences in {language}"
        assert "crmkit " not in text, "say `sh` of commands"


# --- configurations ---------------------------------------------------------------------------------------------------


def check_toml(text: str, base: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of crmkit.toml is one that `crmkit config check` has nothing against; entry points lead somewhere."""
    if text.startswith("[project"):
        for name, value in tomllib.loads(text)["project"]["entry-points"]["crmkit"].items():
            assert re.fullmatch(r"[a-z]+\.[a-z][a-z0-9_-]*", name), name
            assert re.fullmatch(r"[\w.]+", value), value
        return
    written = merged(base, text) if base else text
    for name in re.findall(r'"env:(\w+)"', written):
        monkeypatch.setenv(name, "YS1zZWNyZXQtdGhhdC1pcy1sb25nLWVub3VnaC0wMTIz")  # a key, too
    (folder / "crmkit.toml").write_text(f"{written}\n{around(written)}", "utf-8")
    for name in OWN_TEMPLATES:
        for channel in ("email", "sms"):
            path = folder / "templates" / f"{name}.en.{channel}.txt"
            path.parent.mkdir(exist_ok=True)
            subject = 'subject = "S"\n' if channel == "email" else ""
            path.write_text(f'---\npurpose = "transactional"\n{subject}---\nText.\n', "utf-8")
    (folder / "exports").mkdir()
    host = Host.open(folder / "crmkit.toml", strict=False)
    assert [str(problem) for problem in host.findings() if problem.level == "error"] == []


def around(written: str) -> str:
    """What a part of a configuration needs beside it: a shop that reports everything, ways out, a team."""
    there = tomllib.loads(written)
    parts = ['[shops.any]\nuse = "files"\npreset = "crmkit"\npath = "exports"\nreports = ["placed", "paid", "shipped", '
             '"delivered", "refunds", "parcels"]'] if "shops" not in there else []  # fmt: skip
    if "email" not in there.get("channels", {}):
        parts.append('[[channels.email]]\nuse = "folder"')
    if "staff" not in there:
        parts.append('[[staff]]\nname = "Chen"\nteams = ["shipping"]\nemail = "chen@teahouse.example"')
    if "care" in there and "plugins" not in there:
        parts.append('[plugins]\nuse = ["care"]')
    return "\n".join(parts)


def merged(base: str, more: str) -> str:
    """Two parts of one configuration: what stands below a header in the second is added to that header's table."""
    written, header = base, ""
    for line in more.splitlines():
        if line.startswith("["):
            header = line
            if header not in written:
                written += f"\n{header}"
        else:
            written = written.replace(header, f"{header}\n{line}", 1)
    return written


# --- programs ---------------------------------------------------------------------------------------------------------


def run_python(text: str, fence: Fence) -> None:
    """It runs as a module of its own, on what `crmkit` and `crmkit.testing` give by these names."""
    if "part" in fence.info:  # a part of a page: what it leaves out is named by crmkit
        names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        space: dict[str, Any] = {name: getattr(crmkit, name) for name in names if name in crmkit.__all__}
    else:
        space = {}
    name = fence.info[1] if len(fence.info) > 1 else "a_snippet.py"
    exec(compile(text, name, "exec"), {"__name__": f"docs_{name.removesuffix('.py')}", **space})


# --- commands ---------------------------------------------------------------------------------------------------------


def looks_like_commands(fence: Fence) -> bool:
    first = fence.lines[0].split()[:1]
    return not fence.info and first[0] in {"crmkit", "make", "$", *STRANGERS} if first else False


def check_command(line: str, where: str) -> None:
    """A command of ours is there and knows these options; a target of make is one; another's is a known stranger."""
    words = shlex.split(line, comments=True)
    for sign in ("&&", "|", ">", ";"):
        if sign in words:
            rest = words[words.index(sign) + 1 :]
            words = words[: words.index(sign)]
            if sign in {"&&", ";", "|"}:
                check_words(rest, where)
    check_words(words, where)


def check_words(words: list[str], where: str) -> None:
    if not words:
        return
    if words[0] == "crmkit":
        parse(words[1:])
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert words[1] in targets, words
    elif words[0].endswith("/crmkit"):
        parse(words[1:])
    elif words[:2] == ["python", "-m"] and words[2].startswith("crmkit"):
        assert import_module(words[2])
    else:
        assert words[0] in STRANGERS, f"{where}: {' '.join(words)}"


def parse(words: list[str]) -> None:
    """Read the words of a command as `crmkit` would, and run nothing.

    Raises:
        click.UsageError: there is no such command, option or argument.
    """
    command: click.Command = cli
    context = cli.make_context("crmkit", ["sync"], resilient_parsing=True)
    while True:
        _, rest, _ = command.make_parser(context).parse_args(args=list(words))
        if not isinstance(command, click.Group) or not rest:
            left = rest if not isinstance(command, click.Group) else []
            assert not left, f"what is {left}?"
            return
        name, words = rest[0], rest[1:]
        found = command.get_command(context, name)
        assert found is not None, f"{context.command_path} has no command {name}"
        command, context = found, click.Context(found, parent=context, info_name=name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_text_are_as_they_are_called(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for said in re.findall(r"`(crmkit [a-z][^`]*)`", text):
        words = [word for word in shlex.split(said) if word not in {"...", "…"}]
        first, *others = words[-1].split("|") if "|" in words[-1] else (words[-1],)
        for last in (first, *others):
            parse([*words[1:-1], last])


def test_a_command_there_is_not_is_noticed() -> None:
    for wrong in ("crmkit sink", "crmkit sync --pan", "crmkit messages lost", "make tests", "rm -rf /"):
        with pytest.raises((AssertionError, click.UsageError)):
            check_command(wrong, "")

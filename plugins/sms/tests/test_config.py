"""What `crmkit config check` says of a channel, and that the documentation's examples are right."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from crmkit.cli import cli
from crmkit.core.optout import GRANTED, WITHDRAWN
from crmkit_sms.filling import NAMES

DOCS = Path(__file__).parents[3] / "docs" / "sms.md"
PAGES = (DOCS, DOCS.with_name("china-sms.md"))
EXAMPLES = [one for page in PAGES for one in re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)]
WRONG = """\
[[channels.sms]]
use = "twilio"
account_sid = "AC123"
auth_token = "env:TWILIO_TOKEN"
sender = "A name that is too long"

[[channels.sms]]
use = "http"
name = "pigeon"
url = "https://api.pigeon.example/send"
secrets = { token = "env:NO_SUCH_TOKEN" }
[channels.sms.body]
to = "{to}"
deep = { text = "{txt}" }
[channels.sms.success]
path = "code"
[channels.sms.refusals]
path = "code"
[channels.sms.refusals.values]
21 = "bad-number"

[[channels.sms]]
use = "http"
name = "dove"
url = "https://api.dove.example/send"
body = { to = "{to}" }
success = {}
"""
TOLD = """\
3: channels.sms[1].account_sid: found "AC123"; string should match pattern
5: channels.sms[1].sender: found "A name that is too long"; should be a number like +14155550100
11: channels.sms[2].secrets.token: env:NO_SUCH_TOKEN: the environment variable NO_SUCH_TOKEN is not set
12: channels.sms[2].body: found a table; deep.text: unknown placeholder {txt}; there are {to}
15: channels.sms[2].success: found a table; path and equals go together: give both or neither
20: channels.sms[2].refusals.values.21: found "bad-number"; input should be 'bad-address', 'not-capable'
22: channels.sms[3]: nothing says what is to be sent; put {text} into query or body
"""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Result]:
    monkeypatch.setenv("TWILIO_TOKEN", "t0ken")

    def check(text: str) -> Result:
        path = tmp_path / "crmkit.toml"
        path.write_text(text, "utf-8")
        return CliRunner().invoke(cli, ["--config", str(path), "config", "check"])

    return check


def test_everything_wrong_is_told_at_once_with_its_line(check) -> None:
    result = check(WRONG)
    told = [line.partition("crmkit.toml:")[2] for line in result.output.splitlines() if line.startswith("error: ")]
    assert result.exit_code == 2
    assert [line[: len(begin)] for line, begin in zip(told, TOLD.splitlines(), strict=True)] == TOLD.splitlines()


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_is_right(check, monkeypatch, example) -> None:
    for name in re.findall(r'"env:(\w+)"', example):
        monkeypatch.setenv(name, "a-secret-that-is-long-enough")
    monkeypatch.setenv("CRMKIT_KEY", "the key of an installation")
    result = check(example)
    assert result.exit_code == 0, result.output
    assert "0 errors, 0 warnings" in result.output


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4


def test_every_placeholder_and_opt_out_word_is_documented() -> None:
    text = DOCS.read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert set(re.findall(r"`\{(\w+)\}`", "\n".join(rows))) == set(NAMES)
    listed = {word for row in rows for cell in row.split("|")[2:4] for word in re.split(r", | ", cell) if word}
    assert {word for words in [*WITHDRAWN.values(), *GRANTED.values()] for word in words.split()} <= listed

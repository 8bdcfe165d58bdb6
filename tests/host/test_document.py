import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.host.document import Document, Misconfigured, key_lines, nearest, write_key

TEXT = '''\
# a comment with = and [brackets]
[crm]
database = "sqlite:///a=b[1].db"   # "quoted
title = """
[not.a.table]
key = 1
"""

[shops."my shop"]
use = "files"
rules = [
  { on = "a", if = 1 },
  { on = "b" },
]
a.b = 1

[[channels.email]]
use = "smtp"

[[channels.email]]
use = "folder"
[channels.email.more]
x = '[y]'
'''


def test_every_key_has_its_line() -> None:
    tomllib.loads(TEXT)
    lines = key_lines(TEXT)
    assert lines["crm",] == 2
    assert lines["crm", "database"] == 3
    assert lines["crm", "title"] == 4
    assert ("not", "a", "table") not in lines
    assert lines["shops", "my shop"] == 9
    assert lines["shops", "my shop", "rules"] == 11
    assert lines["shops", "my shop", "a", "b"] == 15
    assert lines["channels", "email", 0, "use"] == 18
    assert lines["channels", "email", 1, "use"] == 21
    assert lines["channels", "email", 1, "more", "x"] == 23


keys = st.from_regex(r"[a-z][a-z0-9_-]{0,5}", fullmatch=True)
texts = st.text(st.sampled_from("ab=[]{}#\"'\\\n "), max_size=8)
values = st.one_of(st.integers(), texts, st.lists(st.integers(), max_size=3))


def _write(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"' if "\n" not in value else '"""\n' + escaped.replace("\\n", "\n") + '"""'
    return str(value) if isinstance(value, int) else "[\n" + ",\n".join(map(str, value)) + "\n]"


@given(st.dictionaries(keys, st.dictionaries(keys, values, max_size=4), max_size=4))
def test_lines_are_right_whatever_the_values_hold(tables: dict[str, dict[str, Any]]) -> None:
    text, expected = "", {}
    for table, content in tables.items():
        expected[table,] = text.count("\n") + 1
        text += f"[{table}]  # a 'comment\n"
        for key, value in content.items():
            expected[table, key] = text.count("\n") + 1
            text += f"{key} = {_write(value)}\n"
    tomllib.loads(text)
    assert key_lines(text) == expected


def test_a_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "crmkit.toml"
    path.write_text("[crm]\nlocale = en\n")
    with pytest.raises(Misconfigured, match=r"crmkit\.toml:2: is not TOML"):
        Document.read(path)


def test_a_file_in_another_encoding_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "crmkit.toml"
    path.write_bytes('[crm]\ntitle = "茶"\n'.encode("gb18030"))
    with pytest.raises(Misconfigured, match=r"crmkit\.toml:2: is not UTF-8"):
        Document.read(path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="crmkit init"):
        Document.read(tmp_path / "crmkit.toml")


def test_places_are_written_as_people_write_them() -> None:
    assert write_key(("channels", "email", 0, "host")) == "channels.email[1].host"
    assert write_key(("shops", "my shop", "use")) == 'shops."my shop".use'


def test_a_name_nobody_knows_gets_the_nearest_or_all() -> None:
    assert nearest("polcy", ["policy", "crm"]) == 'did you mean "policy"?'
    assert nearest("zzz", ["policy", "crm"]) == "known are: crm, policy"

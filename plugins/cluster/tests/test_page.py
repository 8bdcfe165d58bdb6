"""What the command and its page say of workers is what they do."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from crmkit.cli import cli
from crmkit.core.duration import parse_duration
from crmkit_cluster.post import LOST
from crmkit_cluster.schedule import cron_of

PAGE = " ".join((Path(__file__).parents[3] / "docs" / "scaling.md").read_text("utf-8").split())
SPANS = re.compile(r"((?:[0-9]+[mhd], )+[0-9]+[mhd] or [0-9]+[mhd])")


def test_how_often_a_shop_may_be_read_is_named_where_one_looks() -> None:
    with pytest.raises(ValueError, match="say ") as refused:
        cron_of(parse_duration("30s"))
    helped = " ".join(CliRunner().invoke(cli, ["worker", "--help"]).output.split())
    for text in (helped, PAGE, str(refused.value)):
        found = SPANS.search(text)
        assert found is not None, text
        spans = re.split(", | or ", found[1])
        assert len(spans) == 13
        for span in spans:
            cron_of(parse_duration(span))


def test_the_page_says_when_a_worker_is_called_lost() -> None:
    assert f"lost {LOST:.0f} seconds after it was last heard of" in PAGE

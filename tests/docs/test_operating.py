"""The page on operating says all there is: every metric and every line of the log, as the code has them."""

import logging
import re
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, InfoMetricFamily

from crmkit.cli.logs import FOREIGN
from crmkit.core.log import LINES
from crmkit.web.health import LAGGING, PATIENCE, Readiness
from crmkit.web.metrics import MEASURES

PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text("utf-8")
_ENDING: dict[Any, str] = {CounterMetricFamily: "_total", InfoMetricFamily: "_info"}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a line that begins so."""
    table = PAGE.partition(f"\n{heading}")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines()[2:]]


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "-"


def test_every_metric_is_told() -> None:
    told = [[f"`{one.name}{_ENDING.get(one.kind, '')}`", _listed(one.labels), one.meaning] for one in MEASURES.values()]
    assert rows("| metric |") == told


def test_every_line_of_the_log_is_told() -> None:
    told = [
        [
            f"`{line.name}`",
            f"`crmkit.{line.area}`",
            logging.getLevelName(line.level).lower(),
            line.meaning,
            _listed(line.fields),
        ]
        for line in LINES.values()
    ]
    assert rows("| line |") == told
    assert f"the line `{FOREIGN}`" in PAGE


def test_alerts_name_metrics_there_are() -> None:
    known = {f"{one.name}{_ENDING.get(one.kind, '')}" for one in MEASURES.values()}
    named = {name for row in rows("| when |") for name in re.findall(r"crmkit_\w+", row[0])}
    assert named <= known
    assert len(named) >= 8


def test_states_and_times_of_health_are_told() -> None:
    for state in ("ready", "lagging", "unready", "ending"):
        assert state in str(Readiness.model_fields["state"].annotation)
        assert f"`{state}`" in PAGE
    assert f"within {PATIENCE:.0f} seconds" in PAGE
    assert f"more than {LAGGING / 60:.0f} minutes late" in PAGE

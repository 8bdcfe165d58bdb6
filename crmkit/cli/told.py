"""What a long-running command says of what it did."""

from typing import TYPE_CHECKING, Any

from crmkit.cli import logs, output
from crmkit.cli.call import of, told
from crmkit.core.errors import CrmkitError
from crmkit.core.log import FENCED, GATEWAY_STOPPED, STEP_FAILED, SYNC_STOPPED, WORKS_AGAIN, Line, place_of, told_of

if TYPE_CHECKING:
    from crmkit.engine.inward import ShopRun
    from crmkit.engine.local import DispatchRun
    from crmkit.flow.ingest import Tally


class Told:
    """Says what was done, in a line each where something happened."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.failing: dict[str, str] = {}
        self.stopped: set[str] = set()

    def synced(self, runs: "list[ShopRun]") -> None:
        for run in runs:
            for error in run.errors:
                self._down(run.shop, str(error), SYNC_STOPPED, account=run.shop, **told_of(error))
            if not run.errors:
                self._up(run.shop)
            self._news(run.shop, run.tally)

    def dispatched(self, run: "DispatchRun") -> None:
        if run.fenced is not None:
            self._down(
                "database", str(run.fenced), FENCED, kind=run.fenced.kind, found=run.fenced.what, do=run.fenced.do
            )
            return
        self._up("database")
        for name, error in run.delivered.stopped.items():
            self._down(name, str(error), GATEWAY_STOPPED, gateway=name, **told_of(error))
        for name in self.stopped - set(run.delivered.stopped):
            self._up(name)
        self.stopped = set(run.delivered.stopped)
        self._say("dispatch", {str(state): count for state, count in sorted(run.delivered.states.items()) if count})

    def heard(self, account: str, tally: "Tally") -> None:
        self._news(account, tally)

    def failed(self, what: str, error: Exception) -> None:
        from sqlalchemy.exc import DBAPIError

        is_expected = isinstance(error, CrmkitError | DBAPIError | OSError)  # the text of another may hold anything
        why = told(error)[0] if is_expected else f"{type(error).__name__} at {place_of(error)}"
        self._down(what, why, STEP_FAILED, what=what, **told_of(error))

    def _news(self, account: str, tally: "Tally") -> None:
        self._say(account, dict(sorted(tally.interactions.items())))

    def _say(self, what: str, counts: dict[str, int]) -> None:
        if not counts or (logs.is_json() and not self.as_json):  # the log says it
            return
        if self.as_json:
            output.lines([{"what": what, **counts}])
        else:
            output.say(f"{what}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))

    def _down(self, failing: str, why: str, line: Line, **facts: Any) -> None:
        """What fails is said once, until it fails otherwise or works again."""
        if self.failing.get(failing) != why:
            self.failing[failing] = why
            logs.say(f"error: {of(failing, why)}", line, **facts)

    def _up(self, what: str) -> None:
        if self.failing.pop(what, None) is not None:
            logs.say(f"{what}: works again", WORKS_AGAIN, what=what)

"""The contract of sources: a source that reads right passes whichever way its vendor lists, one that does not fails."""

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crmkit import Page, ParcelRecord, Source, window
from crmkit.store.engine import Store
from crmkit.testing import FakeShop, SourceContract
from crmkit.testing.database import Migrate, MigratedTemplates
from crmkit.testing.reader import Reader
from crmkit.testing.source_contract import shown_by
from tests.testing import acme

#: Tests that are skipped where it is said why.
SAID = {"cursor", "silent"}
Try = Callable[..., None]


@pytest.fixture
def attempt(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    migrate: Migrate,
    migrated_templates: MigratedTemplates,
) -> Iterator[Try]:
    """Holds a source to the tests of the contract that change a shop while it is read."""
    stores: list[Store] = []

    def readers() -> Reader:
        folder = tmp_path / str(len(stores))
        folder.mkdir()
        stores.append(Store(migrated_templates.sqlite(migrate, folder / "crm.db")))
        return Reader(stores[-1], "acme")

    def hold(kind: type[Source], vendor: type[FakeShop], test: str = "") -> None:
        class Held(SourceContract):
            adapter = kind
            shop = vendor

        held = Held()
        held.folder, held.patch, held.caplog, held.updates = tmp_path, monkeypatch, caplog, False
        tests: dict[str, Callable[[], Any]] = {
            "shifts": lambda: [
                held.test_nothing_is_missed_while_a_list_shifts(page, what, readers)
                for page in (2, 3)
                for what in ("changes", "comes and changes")
            ],
            "breaks off": lambda: [held.test_a_read_that_breaks_off_is_made_up_for(n, readers) for n in (1, 2)],
            "clock": lambda: [
                held.test_a_vendors_clock_that_is_wrong_loses_nothing(minutes, readers) for minutes in (-10, 0, 10)
            ],
            "cursor": lambda: held.test_an_expired_cursor_is_begun_anew(readers),
            "silent": lambda: held.test_a_change_that_moves_no_time_is_found(readers),
            "no news": lambda: held.test_what_did_not_change_writes_nothing(readers),
            "by id": lambda: held.test_by_id_it_reads_the_same_as_by_stream(),
            "many by id": lambda: held.test_as_many_as_there_are_are_read_by_id(),
        }
        for name, run in tests.items():
            if name == test or (not test and name not in SAID):
                run()

    yield hold
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    ("source", "shop"),
    [
        (acme.AcmeSource, acme.AcmeShop),
        (acme.AcmeSource, acme.NewestFirstShop),
        (acme.ByOffset, acme.AcmeShop),
        (acme.ByCursor, acme.NewestFirstShop),
    ],
)
def test_a_source_that_reads_right_passes(attempt: Try, source: type[Source], shop: type[FakeShop]) -> None:
    attempt(source, shop)
    if source is acme.ByCursor:
        attempt(source, shop, "cursor")


@pytest.mark.parametrize(
    ("source", "test", "told"),
    [
        (acme.FirstPageFirst, "shifts", "were never read"),
        (acme.WithoutLastPage, "no news", "of 7 orders were read"),
        (acme.EndsQuietly, "breaks off", "nothing is said of it"),
        (acme.GivesUpCursor, "cursor", "were never read"),
        (acme.ByOurClock, "clock", "orders .* (were never read|is old)"),
        (acme.SaysElseById, "by id", "by id is not what it is listed as"),
        (acme.SaysElseByIdAsStream, "by id", "by id is not what it is listed as"),
        (acme.ReadsOneChunk, "many by id", "of 230 orders asked for by id 130 were left out"),
        (acme.NeverEnds, "breaks off", "asked 1000 pages in one sync; it does not get on"),
        (acme.StampsTime, "no news", "is written again though nothing changed"),
    ],
)
def test_a_source_that_reads_wrong_fails(attempt: Try, source: type[Source], test: str, told: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception), match=told):
        attempt(source, acme.AcmeShop, test)


def test_a_source_with_a_cursor_of_its_own_is_read_by_id_as_its_stream_tells(attempt: Try) -> None:
    attempt(acme.AsStream, acme.AcmeShop, "by id")


def test_what_expires_nowhere_is_not_shown_to_be_begun_anew(attempt: Try) -> None:
    with pytest.raises(pytest.skip.Exception, match="nothing expired"):
        attempt(acme.AcmeSource, acme.AcmeShop, "cursor")


def test_that_changes_move_times_is_for_the_shop_to_say(attempt: Try) -> None:
    class Moving(acme.AcmeShop):
        moves_times = True

    with pytest.raises(pytest.fail.Exception, match="its shop does not say moves_times = True"):
        attempt(acme.AcmeSource, acme.AcmeShop, "silent")
    with pytest.raises(pytest.skip.Exception, match="moves the time of every change"):
        attempt(acme.AcmeSource, Moving, "silent")


class LateShop(acme.AcmeShop):
    behind = timedelta(minutes=10)


class Patient(acme.AcmeSource):
    """Waits for lists that are late."""

    @window(overlap="5m", end_lag="10m")
    async def orders(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        async for page in acme.AcmeSource.orders(self, start, end):
            yield page


def test_how_late_lists_are_is_for_the_shop_to_say(attempt: Try) -> None:
    class Silent(acme.AcmeShop):
        behind = None

    with pytest.raises(pytest.fail.Exception, match=r"behind = timedelta\(\.\.\.\)"):
        attempt(acme.AcmeSource, Silent, "clock")
    with pytest.raises((AssertionError, pytest.fail.Exception), match=r"orders .* (were never read|is old)"):
        attempt(acme.AcmeSource, LateShop, "clock")
    attempt(Patient, LateShop, "clock")


def test_a_parcel_tells_of_itself_and_what_may_follow() -> None:
    at = "2026-05-07T09:30:00Z"
    parcel = ParcelRecord.model_validate({"order_external_id": "1", "external_id": "p", "shipped_at": at})
    assert shown_by([parcel]) == ({"parcels"}, {"shipped"})

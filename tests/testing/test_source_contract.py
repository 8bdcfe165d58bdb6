"""The contract of sources: a source that reads right passes whichever way its vendor lists, one that does not fails."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crmkit import ParcelRecord, Source
from crmkit.store.engine import Store
from crmkit.testing import FakeShop, SourceContract
from crmkit.testing.database import Migrate, MigratedTemplates
from crmkit.testing.source_contract import _Reader, shown_by
from tests.testing import acme

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

    def readers() -> _Reader:
        folder = tmp_path / str(len(stores))
        folder.mkdir()
        stores.append(Store(migrated_templates.sqlite(migrate, folder / "crm.db")))
        return _Reader(stores[-1], "acme")

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
            "no news": lambda: held.test_what_did_not_change_writes_nothing(readers),
            "by id": lambda: held.test_by_id_it_reads_the_same_as_by_stream(),
        }
        for name, run in tests.items():
            if not test or name == test:
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


@pytest.mark.parametrize(
    ("source", "test", "told"),
    [
        (acme.FirstPageFirst, "shifts", "were never read"),
        (acme.WithoutLastPage, "no news", "of 7 orders were read"),
        (acme.EndsQuietly, "breaks off", "nothing is said of it"),
        (acme.GivesUpCursor, "cursor", "were never read"),
        (acme.ByOurClock, "clock", "orders .* (were never read|is old)"),
        (acme.SaysElseById, "by id", "by id is not what it is listed as"),
        (acme.StampsTime, "no news", "is written again though nothing changed"),
    ],
)
def test_a_source_that_reads_wrong_fails(attempt: Try, source: type[Source], test: str, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        attempt(source, acme.AcmeShop, test)


def test_a_parcel_tells_of_itself_and_what_may_follow() -> None:
    at = "2026-05-07T09:30:00Z"
    parcel = ParcelRecord.model_validate({"order_external_id": "1", "external_id": "p", "shipped_at": at})
    assert shown_by([parcel]) == ({"parcels"}, {"shipped"})

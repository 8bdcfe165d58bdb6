"""Versions join: whatever order they come in, each field is the newest that said it, each milestone the earliest."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.version import Version, join, stamp
from tests.strategies import START, maybe_times, times

FIELDS = ("a", "b", "c")
#: What a version says: (updated, observed, fields said, milestones, lowest).
Told = tuple[int, int, dict[str, int | None], dict[str, Any], int | None]

told = st.tuples(
    st.integers(0, 2),
    st.integers(0, 2),
    st.dictionaries(st.sampled_from(FIELDS), st.none() | st.integers(0, 2)),
    st.fixed_dictionaries({"begun": maybe_times, "ended": maybe_times}),
    st.none() | st.integers(1, 3),
)


def version(one: Told) -> Version:
    updated, observed, fields, milestones, lowest = one
    content = repr((updated, sorted(fields.items()), sorted(milestones.items()), lowest))
    return f"{updated}", f"{observed}", content


def joined(versions: list[Told]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for one in versions:
        known = row if "said" in row else None
        row.update(join(known, one[2], version(one), FIELDS, one[3], {"lowest": one[4]}).values)
    return row


@given(world=st.lists(told, min_size=1, max_size=6), data=st.data())
def test_any_order_and_repetition_gives_the_same_row(world: list[Told], data: st.DataObject) -> None:
    # SEMANTICS 4
    again = data.draw(st.permutations([*world, *data.draw(st.lists(st.sampled_from(world), max_size=3))]))
    assert joined(again) == joined(world)


@given(world=st.lists(told, min_size=1, max_size=6))
def test_a_row_holds_the_newest_said_and_the_earliest_reached(world: list[Told]) -> None:
    row = joined(world)
    for name in FIELDS:
        said = [(version(one), one[2][name]) for one in world if name in one[2]]
        assert row.get(name) == (max(said, key=lambda pair: pair[0])[1] if said else None)
    for name in ("begun", "ended"):
        assert row.get(name) == min((one[3][name] for one in world if one[3][name] is not None), default=None)
    assert row.get("lowest") == min((one[4] for one in world if one[4] is not None), default=None)
    assert (row["version_updated"], row["version_observed"], row["version_hash"]) == max(map(version, world))


@given(world=st.lists(told, min_size=1, max_size=6), data=st.data())
def test_what_was_taken_before_changes_nothing(world: list[Told], data: st.DataObject) -> None:
    row, one = joined(world), data.draw(st.sampled_from(world))
    again = join(row, one[2], version(one), FIELDS, one[3], {"lowest": one[4]})
    assert (again.values, again.reached) == ({}, [])


def test_a_milestone_is_reached_once() -> None:
    # SEMANTICS 5
    row: dict[str, Any] = {}
    first = join(None, {}, ("1", "", "x"), FIELDS, {"begun": START.replace(hour=5)})
    row.update(first.values)
    second = join(row, {}, ("2", "", "y"), FIELDS, {"begun": START})
    assert (first.reached, second.reached, second.values["begun"]) == (["begun"], [], START)


def test_none_empties_a_field_and_unset_leaves_it() -> None:
    # SEMANTICS 4
    row: dict[str, Any] = {}
    row.update(join(None, {"a": 1, "b": 2}, ("1", "", "x"), FIELDS, {}).values)
    row.update(join(row, {"a": None}, ("2", "", "y"), FIELDS, {}).values)
    assert (row["a"], row["b"]) == (None, 2)


@given(one=times, other=times)
def test_stamps_sort_by_time(one: Any, other: Any) -> None:
    assert (stamp(one) < stamp(other)) == (one < other)
    assert stamp(None) < stamp(one)

"""Decide: every order paid is an interaction, and a rule of `care` has something to say to each.

Quiet: all of it happened before the shop announces anything; the handlers run, and what they would send is counted.
Loud: each becomes a text message, rendered and put into the outbox. Beside it: the driver alone deletes the same
pending rows and inserts the same messages.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks import house, raw, shop
from benchmarks.harness import Race, Result, Size, timed
from benchmarks.house import House

CHANNEL = '[[channels.sms]]\nuse = "null"'


def run(folder: Path, size: Size) -> Iterator[Result]:
    """Both rows."""
    house.load(size.orders)
    loud = House(folder / "loud", channel=CHANNEL)
    quiet = House(folder / "quiet", channel=CHANNEL, announce_from=shop.NOW)
    synced = {}
    for place in (loud, quiet):
        place.create()
        place.sync()
        synced[place] = place.keep("synced.db")
    loud.decide()
    messages = raw.rows(loud.database, ("message",))

    decided: dict[House, int] = {}

    def turn(place: House) -> float:
        place.restore(synced[place])
        with place.engine() as engine:
            return timed(lambda: decided.update({place: place.decide_with(engine)}))

    def by_driver() -> float:
        loud.restore(synced[loud])
        with closing(raw.connect(loud.database)) as connection:
            numbers = connection.execute("SELECT id FROM pending").fetchall()
            return timed(lambda: raw.replace(connection, "pending", numbers, messages))

    race = Race(size.rounds, {"quiet": lambda: turn(quiet), "loud": lambda: turn(loud), "driver": by_driver})
    for name, place in (("quiet", quiet), ("loud", loud)):
        rate = f"{race.rate(name, decided[place]):,.0f} interactions/s"
        limit = f"the same rows by the raw driver, {race.rate('driver', decided[place]):,.0f}/s"
        yield Result(f"decide, all {name}", rate, limit, race.ratio(name, "driver"))

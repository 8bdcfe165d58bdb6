"""Every page with whatever may be asked of it: never a 500, its headers always there, and looking changes nothing."""

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.link import LONGEST, PURPOSES, LinkError
from crmkit.core.records import LineRecord
from crmkit.core.token import hash_of
from crmkit.store import tokens
from crmkit.web.limit import Buckets, Rate
from crmkit.web.page import HEADERS
from tests.dump import everything
from tests.fuzz.strange import HARD, ODD, bodies, changed_bytes, texts
from tests.fuzz.tally import REACHED, Clock, fuzzed
from tests.web import stall
from tests.web.conftest import NOON, Town
from tests.web.forms import Form, forms_of
from tests.web.gallery import ABOUT, ANN, open_town, path_of

pytestmark = pytest.mark.fuzz


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class House:
    """A town and the loop its application runs in."""

    town: Town
    runner: asyncio.Runner

    def ask(self, method: str, path: str, query: bytes = b"", headers: Any = (), body: bytes = b"") -> Answer:
        """One request, exactly as it is given."""
        return self.runner.run(self._ask(method, path, query, headers, body))

    async def _ask(self, method: str, path: str, query: bytes, headers: Any, body: bytes) -> Answer:
        said: list[Any] = []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": path,
            "raw_path": path.encode("utf-8", "surrogatepass"),
            "query_string": query,
            "root_path": "",
            "headers": [
                (name.lower().encode("utf-8", "replace"), value.encode("utf-8", "replace")) for name, value in headers
            ],
            "client": ("192.0.2.9", 1),
            "server": ("crm.tea.example", 443),
            "state": {},
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            said.append(message)

        await self.town.app(scope, receive, send)
        found = {name.decode("latin-1"): value.decode("latin-1") for name, value in said[0]["headers"]}
        return Answer(said[0]["status"], found, b"".join(one.get("body", b"") for one in said[1:]))

    def dump(self) -> Any:
        with self.town.store.read() as tx:
            return everything(tx)


@pytest.fixture
def house(migrated_url: str, tmp_path: Path) -> Iterator[House]:
    town = open_town(tmp_path / "town", migrated_url)
    town.app.state.gate.strangers = Buckets(Rate(1e9, 1e9))
    with asyncio.Runner() as runner:
        yield House(town, runner)
    town.store.close()


def checked(answer: Answer, path: str) -> Answer:
    """What holds of every answer."""
    assert answer.status < 500, (answer.status, path)
    missing = [name for name in HEADERS if name.lower() not in answer.headers]
    assert missing in ([], ["Cache-Control"]), (missing, path)
    assert "set-cookie" not in answer.headers
    return answer


PARTS = [
    "u", "p", "o", "s", "q", "c", "code", "static", "page.css", "webhooks", "stall", "healthz", "readyz", "metrics",
    "points", "..", ".", "%2e%2e", "%2f", "", " ", "openapi.json", "docs", "favicon.ico", "robots.txt",
    ".well-known", "etc", "passwd",
]  # fmt: skip
paths = st.lists(st.one_of(st.sampled_from(PARTS), texts), max_size=5).map(lambda parts: "/" + "/".join(parts))
NAMES = [
    "host", "accept-language", "content-type", "content-length", "authorization", "cookie", "x-forwarded-for", "accept",
    "x-forwarded-host", "x-forwarded-proto", "range", "if-none-match", "if-modified-since", "origin", "referer",
    "expect", "transfer-encoding", "content-encoding", "x-http-method-override", "user-agent", "x-signature",
]  # fmt: skip
VALUES = [
    "evil.example", "zh-CN,en;q=0.1", "bytes=0-,5-", "bytes=-1", "gzip", "Bearer x", "application/json", "text/html",
    "multipart/form-data; boundary=b", "application/x-www-form-urlencoded", "127.0.0.1, ::1", "W/\"x\"", "chunked", "*",
]  # fmt: skip
headers = st.lists(st.tuples(st.sampled_from(NAMES), st.one_of(st.sampled_from(VALUES), texts)), max_size=5)
queries = st.one_of(
    st.just(b""),
    st.sampled_from([b"lang=zh-CN", b"lang=xx", b"lang=%00", b"page=-1", b"page=" + b"9" * 99, b"lang=en&lang=zh"]),
    texts.map(lambda text: text.encode("utf-8", "surrogatepass")),
)
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])


def test_no_request_breaks_the_site(house: House) -> None:
    clock = Clock("requests of any kind")

    @fuzzed()
    @given(methods, paths, queries, headers, bodies)
    def anything(method: str, path: str, query: bytes, several: Any, body: bytes) -> None:
        if clock.goes():
            checked(house.ask(method, unquote(path), query, several, body), path)

    anything()


def addresses(house: House) -> list[str]:
    """The address of a page of each purpose, and of the one where a code is entered."""
    found = [path_of(house.town, page) for page in sorted(ABOUT)]
    return [*found, path_of(house.town, "contact") + "/code"]


def test_looking_changes_nothing_however_one_looks(house: House) -> None:
    known, clock = addresses(house), Clock("looks at customers' pages")
    before = house.dump()

    @fuzzed(0.5)
    @given(st.sampled_from(known), st.sampled_from(["GET", "HEAD", "OPTIONS"]), queries, headers, bodies)
    def looked(path: str, method: str, query: bytes, several: Any, body: bytes) -> None:
        if clock.goes():
            checked(house.ask(method, path, query, several, body), path)

    looked()
    assert house.dump() == before


def test_a_link_that_was_changed_opens_nothing(house: House) -> None:
    known, clock = addresses(house), Clock("links that were changed")
    before = house.dump()

    @fuzzed()
    @given(st.sampled_from(known), st.sampled_from(["GET", "POST"]), st.data())
    def changed(path: str, method: str, data: st.DataObject) -> None:
        letter, _, token = path[1:].removesuffix("/code").partition("/")
        other = data.draw(changed_bytes(token.encode())).decode("latin-1")
        if clock.goes() and other != token and "/" not in other:
            answer = checked(house.ask(method, f"/{letter}/{other}", b"", (), b""), path)
            assert answer.status in {404, 405, 410}, (other, answer.status)

    changed()
    assert house.dump() == before


#: What forms have to come to, or they were not tried: the page, and what it says was done, or how it refuses.
OUTCOMES = {
    "contact 303 code", "contact 303 proven", "contact 422", "preferences 303 saved", "statement 303 all",
    "statement 303 confirmed", "statement 303 disputed", "statement 303 known", "statement 400", "statement 409",
    "statement 422", "survey 303 answered", "survey 422", "unsubscribe 200",
}  # fmt: skip
#: What a customer writes.
USUAL = {
    "address": ["ann@home.example", "+8613900139000", "me@home.example"],
    "text": ["One cup came broken.", "碎了", "x" * 2_001, " "],
}
URLENCODED = "application/x-www-form-urlencoded"


@dataclass
class Reader:
    """Somebody with a form before him, who means well or not.

    What a page shows depends on what was answered before: what he does is drawn as a whole, and what of it applies is
    seen when the page is there.
    """

    chance: Random
    odd: list[str]

    def fill(self, form: Form, codes: list[str], *, is_honest: bool) -> list[tuple[str, str]]:
        """What he sends of a form: as it is filled in, or what it never held."""
        pairs = list(form.hidden)
        for name in dict.fromkeys(name for name, _ in form.choices):
            values = [value for one, value in form.choices if one == name]
            several = self.chance.sample(values, min(len(values), self.chance.randint(0, 2)))
            pairs += [(name, value) for value in several]
        usual = {**USUAL, "code": codes or ["000000"]}
        for name in form.written:
            pairs.append((name, self.chance.choice(usual.get(name, self.odd) if is_honest else self.odd)))
        pairs += self.chance.sample(form.buttons, min(1, len(form.buttons)))
        for _ in range(0 if is_honest else self.chance.randint(1, 4)):
            self._spoil(pairs)
        return pairs

    def _spoil(self, pairs: list[tuple[str, str]]) -> None:
        """One field more, gone, changed or twice."""
        kind = self.chance.randint(0, 3)
        if kind == 0 or not pairs:
            known = [name for name, _ in pairs]
            pairs.append((self.chance.choice([*known, *self.odd]), self.chance.choice(self.odd)))
            return
        place = self.chance.randrange(len(pairs))
        name, value = pairs[place]
        if kind == 1:
            del pairs[place]
        elif kind == 2:
            pairs[place] = (name, self.chance.choice([*self.odd[:2], value[:-1] + "0", value * 2]))
        else:
            pairs.append(pairs[place])

    def write(self, pairs: list[tuple[str, str]], *, is_honest: bool) -> tuple[str, bytes]:
        """A form on its way: its type and its body."""
        if self.chance.randint(0, 1):
            kind, body = URLENCODED, urlencode(pairs, errors="surrogatepass").encode()
        else:
            kind = "multipart/form-data; boundary=b"
            parts = [f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in pairs]
            body = ("".join(parts) + "--b--\r\n").encode("utf-8", "surrogatepass")
        if is_honest or self.chance.randint(0, 3):
            return kind, body
        made = bytearray(body)
        for _ in range(self.chance.randint(1, 6)):
            place = self.chance.randint(0, len(made))
            made[place : place + self.chance.randint(0, 3)] = self.chance.randbytes(self.chance.randint(0, 2))
        return kind, bytes(made)


def buy(town: Town, number: int) -> dict[str, str]:
    """Another order comes in; the addresses of the pages that are about it alone."""
    lines = (LineRecord(external_id="1", title="Tea", total=Decimal("9.50")),)
    order = town.order(f"N{number}", ANN, currency="EUR", total=Decimal("9.50"), lines=lines, placed_at=town.now)
    about = {"contact": {"subject": order}, "survey": {"subject": order, "word": "nps"}}
    return {name: town.path(name, town.profile(), **said) for name, said in about.items()}


def code_of(house: House) -> list[str]:
    """The code that was sent last."""
    house.runner.run(house.town.local.dispatch(now=house.town.now))
    taken = [*re.findall(r"\b\d{6}\b", " ".join(one.text for one in (*stall.Post.taken, *stall.Text.taken)))]
    stall.Post.taken.clear()
    stall.Text.taken.clear()
    return taken[-1:]


def test_no_form_breaks_a_page(house: House) -> None:
    """Each form as the page just had it, filled in by somebody who means well, or not; and on, where it leads."""
    town, clock, reached = house.town, Clock("forms"), Counter[str]()
    known = {name: path_of(town, name) for name in ABOUT if name != "order"}
    count = itertools.count()

    def send(name: str, path: str, reader: Reader) -> str:
        """Fill in one form of a page; where it leads."""
        page, query = path.partition("?")[0], path.partition("?")[2].partition("#")[0].encode()
        forms = forms_of(checked(house.ask("GET", page, query), path).body.decode())
        is_honest = reader.chance.random() < 0.5
        codes = code_of(house) if is_honest and page.endswith("/code") else []
        often = forms + forms[-1:] * (len(forms) // 4)  # what is below many entries is found too
        form = reader.chance.choice(often) if forms else Form(written=["x"])
        kind, body = reader.write(reader.fill(form, codes, is_honest=is_honest), is_honest=is_honest)
        for _ in range(reader.chance.choice([1, 1, 2])):  # twice, as browsers and people do
            answer = checked(house.ask("POST", page, query, [("content-type", kind)], body), path)
            reached[outcome(name, answer)] += 1
        place = answer.headers.get("location", "")
        assert not place or place.startswith(page.removesuffix("/code")), place
        return place

    def visit(name: str, reader: Reader) -> None:
        if reader.chance.randint(0, 3) == 0:
            known.update(buy(town, next(count)))
        path = known[name] + (reader.chance.choice(["", "?page=2"]) if name == "statement" else "")
        town.now += timedelta(hours=3) if name == "contact" else timedelta(minutes=1)
        for _ in range(3):
            path = path and send(name, path, reader)

    @fuzzed(2)
    @given(st.integers(0, 2**64), st.lists(texts, min_size=6, max_size=6))
    def filled(seed: int, odd: list[str]) -> None:
        if clock.goes():
            reader = Reader(Random(seed), odd)
            visit(reader.chance.choice(sorted(known)), reader)

    filled()
    for seed in range(300):  # a slow machine gets less far in its time: go on with what was not reached
        if missing := sorted(OUTCOMES - set(reached)):
            visit(missing[0].partition(" ")[0], Reader(Random(seed), ODD))
    REACHED.update(reached)
    assert set(reached) >= OUTCOMES, OUTCOMES - set(reached)


def outcome(name: str, answer: Answer) -> str:
    """What an answer is counted as."""
    place = answer.headers.get("location", "")
    done = re.search(r"[?&]done=(\w+)", place)
    word = done[1] if done else "code" if "/code?" in place else ""
    return f"{name} {answer.status} {word}".strip()


def test_no_body_breaks_a_page(house: House) -> None:
    known, clock = addresses(house), Clock("forms that are none")
    kinds = st.sampled_from(
        ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "", "text/plain", "a"]
    )

    @fuzzed()
    @given(st.sampled_from(known), kinds, st.one_of(bodies, st.sampled_from(HARD)))
    def posted(path: str, kind: str, body: bytes) -> None:
        if clock.goes():
            checked(house.ask("POST", path, b"", [("content-type", kind)], body), path)

    posted()


LINKS = Clock("links")


@fuzzed(5)
@given(
    st.sampled_from(sorted(PURPOSES)),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.from_regex(r"[a-z0-9._-]{0,20}", fullmatch=True),
    st.data(),
)
def test_a_link_is_read_as_it_was_made_or_not_at_all(
    purpose: str, profile: int, subject: int, word: str, data: st.DataObject
) -> None:
    from crmkit.core.link import Links, key_of

    links = Links("https://x", (key_of("a key that is long enough"),))
    made = links.make(purpose, profile, NOON, subject=subject, word=word)
    letter, token = made.rsplit("/", 2)[1:]
    if LINKS.goes():
        read = links.read(letter, token, NOON)
        assert (read.purpose, read.profile_id, read.subject, read.word) == (purpose, profile, subject, word)
        other = data.draw(st.one_of(changed_bytes(token.encode()).map(lambda b: b.decode("latin-1")), texts))
        if other != token:
            with pytest.raises(LinkError):
                links.read(letter, other, NOON)
        assert len(token) <= LONGEST


def test_no_token_but_the_one_made_is_found(house: House) -> None:
    clock, made = Clock("tokens"), "crmkit_" + "a" * 43
    with house.town.store.begin() as tx:
        tokens.make(tx, "one", hash_of(made), ["points:*"], expires_at=NOON.replace(year=2027), now=NOON)

    @fuzzed()
    @given(st.one_of(texts, st.sampled_from(ODD), changed_bytes(made.encode()).map(lambda b: b.decode("latin-1"))))
    def guessed(token: str) -> None:
        if clock.goes() and token != made:
            with house.town.store.read() as tx:
                assert tokens.find(tx, hash_of(token)) is None

    guessed()

"""Every page with whatever may be asked of it: never a 500, its headers always there, and looking changes nothing."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.link import LONGEST, PURPOSES, LinkError
from crmkit.core.token import hash_of
from crmkit.store import tokens
from crmkit.web.limit import Buckets, Rate
from crmkit.web.page import HEADERS
from tests.dump import everything
from tests.fuzz.strange import HARD, ODD, bodies, changed_bytes, texts
from tests.fuzz.tally import Clock, fuzzed
from tests.web.conftest import NOON, Town
from tests.web.gallery import ABOUT, open_town, path_of

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
    """The address of a page of each purpose."""
    return [path_of(house.town, page) for page in sorted(ABOUT)]


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
        letter, _, token = path[1:].partition("/")
        other = data.draw(changed_bytes(token.encode())).decode("latin-1")
        if clock.goes() and other != token and "/" not in other:
            answer = checked(house.ask(method, f"/{letter}/{other}", b"", (), b""), path)
            assert answer.status in {404, 405, 410}, (other, answer.status)

    changed()
    assert house.dump() == before


def forms(house: House) -> dict[str, list[str]]:
    """What the form of each page is made of: {address: names of its fields}."""
    found = {}
    for path in addresses(house):
        page = house.ask("GET", path).body.decode()
        found[path] = sorted(set(re.findall(r'name="([^"]+)"', page)))
    return found


def test_no_form_breaks_a_page(house: House) -> None:
    known, clock = forms(house), Clock("forms")
    values = st.one_of(
        texts, st.sampled_from(["on", "yes", "1", "10", "11", "tea", "email", "ann@buyers.example", "+491"])
    )

    @fuzzed(2)
    @given(st.sampled_from(sorted(known)), st.data())
    def filled(path: str, data: st.DataObject) -> None:
        if not clock.goes():
            return
        names = st.one_of(st.sampled_from(known[path] or ["x"]), texts)
        pairs = data.draw(st.lists(st.tuples(names, values), max_size=8))
        if data.draw(st.booleans()):
            kind, body = "application/x-www-form-urlencoded", urlencode(pairs, errors="surrogatepass").encode()
        else:
            kind = "multipart/form-data; boundary=b"
            parts = [f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in pairs]
            body = ("".join(parts) + "--b--\r\n").encode("utf-8", "surrogatepass")
        if data.draw(st.integers(0, 3)) == 0:
            body = data.draw(changed_bytes(body))
        checked(house.ask("POST", path, b"", [("content-type", kind)], body), path)

    filled()


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

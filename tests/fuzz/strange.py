"""Strange values: what somebody might send who means no good, and what a vendor sends who changed something."""

import json
from typing import Any

from hypothesis import strategies as st

#: Texts that were trouble to somebody once.
ODD = [
    "", "\x00", "a\x00b", "\ud800", "\u202e", "😀" * 5, "'", '"', "--", "<script>", "{{7*7}}", "{%", "../../etc/passwd",
    "=1+1", "\r\nX-A: b", "%00", "%s%n", "null", "NaN", "Infinity", "-0", "1e999", "9" * 30, "9" * 5000, "-1", "0x10",
    "１２", "²", "0001-01-01", "2026-02-30T25:61:61", "2026-01-01T00:00:00+99:99", "true", "[]", "{}", "a" * 5000,
]  # fmt: skip
texts = st.one_of(st.sampled_from(ODD), st.text(max_size=60))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), texts, st.sampled_from([10**400, -(2**63), 2**63, 1e308])
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)


@st.composite
def changed_documents(draw: st.DrawFn, document: Any) -> Any:
    """A document with some of its places holding something else, or gone."""
    found = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 4))):
        found = _change(draw, found)
    return found


def _change(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        name = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 4)):
            return {**value, name: _change(draw, value[name])}
        return {key: item for key, item in value.items() if key != name}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], _change(draw, value[place]), *value[place + 1 :]]
    return draw(documents)


@st.composite
def changed_bytes(draw: st.DrawFn, body: bytes) -> bytes:
    """Bytes with some changed, some gone, some more, or cut off."""
    made = bytearray(body)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(made)))
        kind = draw(st.integers(0, 3))
        if kind == 0 and place < len(made):
            made[place] = draw(st.integers(0, 255))
        elif kind == 1:
            del made[place : place + draw(st.integers(1, 40))]
        elif kind == 2:
            made[place:place] = draw(st.one_of(st.binary(max_size=20), st.sampled_from([b"\x00", b'"', b"\n", b",,"])))
        else:
            del made[place:]
    return bytes(made)


def bytes_of(document: Any) -> bytes:
    """A document as JSON, whatever is in it."""
    return json.dumps(document).encode("utf-8", "surrogatepass")


#: Bodies that are hard on a parser.
HARD = [
    b"", b"\x00", b"\xff\xfe", b"[" * 50_000, b'{"a":' * 50_000, b"9" * 50_000, b'"' + b"\\u0000" * 9000 + b'"',
    b"a=" * 50_000, b"&" * 50_000, b"%" * 50_000, b"\xef\xbb\xbf{}", b"nul", b"NaN", b"-", b'{"id": 1e400}',
    b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>",
]  # fmt: skip
bodies = st.one_of(
    st.sampled_from(HARD),
    st.binary(max_size=200),
    documents.map(bytes_of),
    st.lists(st.tuples(texts, texts), max_size=6).map(
        lambda pairs: "&".join(f"{name}={value}" for name, value in pairs).encode("utf-8", "surrogatepass")
    ),
)

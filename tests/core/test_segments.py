import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.segments import GSM_BASIC, GSM_EXTENDED, Segments, segments_of

VECTORS = [
    ("a" * 160, "gsm7", 160, 1),
    ("a" * 161, "gsm7", 161, 2),
    ("a" * 306, "gsm7", 306, 2),
    ("a" * 307, "gsm7", 307, 3),
    ("€" * 80, "gsm7", 160, 1),
    ("€" * 81, "gsm7", 162, 2),
    ("a" * 152 + "€" + "a" * 100, "gsm7", 254, 2),
    ("中" * 70, "ucs2", 70, 1),
    ("中" * 71, "ucs2", 71, 2),
    ("中" * 134, "ucs2", 134, 2),
    ("中" * 135, "ucs2", 135, 3),
    ("中" * 201, "ucs2", 201, 3),
    ("中" * 202, "ucs2", 202, 4),
    ("😀" * 35, "ucs2", 70, 1),
    ("😀" * 36, "ucs2", 72, 2),
    ("中" * 66 + "😀" + "中" * 10, "ucs2", 78, 2),
    ("hi `", "ucs2", 4, 1),
    ("中" * 160, "ucs2", 160, 3),
]


@pytest.mark.parametrize(("text", "encoding", "units", "parts"), VECTORS, ids=[f"{v[0][:4]}-{v[2]}" for v in VECTORS])
def test_the_vectors(text: str, encoding: str, units: int, parts: int) -> None:
    assert segments_of(text) == Segments(encoding, units, parts)  # type: ignore[arg-type]


def test_a_pair_that_does_not_fit_begins_the_next_part() -> None:
    fits = "a" * 152 + "b" + "a" * 153
    assert segments_of(fits).parts == 2
    assert segments_of("a" * 152 + "€" + "a" * 151).parts == 2
    assert segments_of("a" * 152 + "€" + "a" * 152) == Segments("gsm7", 306, 3)
    assert segments_of("中" * 66 + "😀" + "中" * 66) == Segments("ucs2", 134, 3)


def test_the_alphabet_is_whole() -> None:
    assert len(GSM_BASIC) == 127, "128 with the escape character"
    assert len(GSM_EXTENDED) == 10
    assert not GSM_BASIC & GSM_EXTENDED


def test_an_empty_text_is_one_part() -> None:
    assert segments_of("") == Segments("gsm7", 0, 1)


def _greedy(text: str, encoding: str) -> int:
    """Parts, by cutting the encoded text the slow way."""
    single, part = (160, 153) if encoding == "gsm7" else (70, 67)
    if encoding == "gsm7":
        tokens = [2 if char in GSM_EXTENDED else 1 for char in text]
    else:
        tokens = [len(char.encode("utf-16-be", "surrogatepass")) // 2 for char in text]
    if sum(tokens) <= single:
        return 1
    parts = [0]
    for token in tokens:
        if parts[-1] + token > part:
            parts.append(0)
        parts[-1] += token
    return len(parts)


@given(st.text(st.sampled_from("aé€[ 中😀") | st.characters(), max_size=400))
def test_parts_are_what_cutting_gives(text: str) -> None:
    found = segments_of(text)
    assert (found.encoding == "gsm7") == all(char in GSM_BASIC or char in GSM_EXTENDED for char in text)
    if found.encoding == "ucs2":
        assert found.units == len(text.encode("utf-16-be", "surrogatepass")) // 2
    assert found.parts == _greedy(text, found.encoding)

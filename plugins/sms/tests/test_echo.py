"""What a vendor says, without what it repeats of ours."""

import html
from urllib.parse import quote, quote_plus

import pytest

from crmkit_sms.echo import leaves, shown, signed_in

NUMBER, SECRET, TEXT = "+8613800138000", "sk_live_S3cret/+=x", "Dear Ann, your parcel waits in locker 482911 & more."


def told(words: str, number: str = NUMBER) -> str:
    return shown(words, number=number, texts=[TEXT], secrets=[SECRET])


@pytest.mark.parametrize(
    "written",
    [
        "+8613800138000",
        "8613800138000",
        "008613800138000",
        "13800138000",
        "013800138000",
        "+86 138 0013 8000",
        "86-138-0013-8000",
        "(138) 0013.8000",
        "%2B8613800138000",
        "&#43;8613800138000",
        "\\u002b8613800138000",
        "+８６１３８００１３８０００",
        "138 0013 ****",
        "3800138000",
    ],
)
def test_no_form_of_the_number_is_told(written) -> None:
    assert told(f"number {written} is bad") in {
        "number recipient is bad",
        "number (recipient is bad",
        "number recipient **** is bad",
    }


def test_a_number_with_its_trunk_zero_in_brackets_is_not_told() -> None:
    assert "7911" not in told("+44 (0) 7911 123456 is bad", "+447911123456")


def test_what_looks_like_a_number_is_not_told_where_nobody_knows_whose_it_is() -> None:
    assert told("to 0049 151 12345678, code 4711", number="") == "to recipient, code 4711"
    assert told("code 4711 of 13", number="") == "code 4711 of 13"


@pytest.mark.parametrize("way", [str, str.upper, quote, quote_plus, html.escape, repr, lambda text: quote(quote(text))])
@pytest.mark.parametrize(
    ("ours", "label"), [(SECRET, "secret"), (TEXT, "text"), (SECRET[:12], "secret"), (TEXT[:30], "text")]
)
def test_however_it_is_written_or_cut_it_is_not_told(way, ours, label) -> None:
    said = told(f"refused <{way(ours)}> for good")
    assert said.startswith("refused ")
    assert said.endswith(" for good")
    assert label in said
    for part in ("s3cret", "live", "parcel", "482911"):
        assert part not in said.casefold()


def test_a_code_or_a_few_ideographs_of_the_text_are_not_told_by_themselves() -> None:
    assert told("blocked word: 482911") == "blocked word: text"
    assert shown("敏感词 包裹已发出", texts=["【茶店】您的包裹已发出"]) == "敏感词 text"


def test_what_is_the_vendors_own_is_told() -> None:
    assert (
        told("HTTP 400: sender TEAHOUSE is not registered (4021)")
        == "HTTP 400: sender TEAHOUSE is not registered (4021)"
    )
    assert shown("a\nb\x00 c" + "d" * 400) == ("a b c" + "d" * 400)[:300]


def test_short_secrets_are_found_as_words() -> None:
    assert shown("key s1 and is1 and pin 42", secrets=["s1", "42", ""]) == "key secret and is1 and pin secret"


def test_name_and_password_are_known_as_http_writes_them() -> None:
    assert signed_in("tea", "geheim") == "dGVhOmdlaGVpbQ=="


def test_what_a_template_was_filled_with_is_known_by_its_leaves() -> None:
    params = {"name": "Anneliese", "order": {"number": 47111, "lines": ["Sencha", True, None]}, "n": 3}
    assert set(leaves(params)) == {"Anneliese", "47111", "Sencha"}

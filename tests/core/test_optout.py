"""Opt-out words."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.optout import GRANTED, WITHDRAWN, opt_out


@pytest.mark.parametrize(("said", "words"), [("withdrawn", WITHDRAWN), ("granted", GRANTED)])
def test_every_word_is_known_in_its_language_and_where_no_language_is_given(said, words) -> None:
    for language, written in words.items():
        for word in written.split():
            assert opt_out(word) == opt_out(word, [language]) == opt_out(word, [f"{language}-XX"]) == said


WITHDRAWALS = (
    "stop|Stop.| STOP \n|„Stop!“|STOP 🙏|ｓｔｏｐ|S T O P|stop all|opt-out|Arrêt|退订|td|ＴＤ|r|Ｒ。|回复 R|退訂！"
)
OTHERS = (
    "| |...|please stop by the shop|Where does the bus stop?|the parcel did not stop here|stop please|no|N|yes|YES!|非"
    "|退|取消|我要退货|这个订单可以退订吗|END OF STORY|R2|cancelar"
)


@pytest.mark.parametrize("text", WITHDRAWALS.split("|"))
def test_case_width_accents_spaces_and_punctuation_do_not_matter(text) -> None:
    assert opt_out(text) == "withdrawn"


@pytest.mark.parametrize("text", OTHERS.split("|"))
def test_what_says_something_else_is_no_opt_out(text) -> None:
    assert opt_out(text) is None


def test_only_the_words_of_the_languages_asked_for_count_and_english_always() -> None:
    assert opt_out("TD", ["de"]) is None
    assert opt_out("TD", ["zh_CN"]) == "withdrawn"
    assert opt_out("Stopp", ["zh"]) is None
    assert opt_out("STOP", []) == "withdrawn"
    assert opt_out("start", ["zh"]) == "granted"


def test_no_word_says_both() -> None:
    both = {word for words in WITHDRAWN.values() for word in words.split()} & {
        word for words in GRANTED.values() for word in words.split()
    }
    assert both == set()


@given(st.text())
def test_any_text_is_read_and_how_it_is_composed_does_not_matter(text) -> None:
    assert opt_out(text) == opt_out(unicodedata.normalize("NFD", text)) == opt_out(f" {text}!")


@given(st.text(alphabet=st.characters(categories=["L", "N"]), min_size=20), st.sampled_from(["stop", "退订", "baja"]))
def test_a_longer_text_is_no_opt_out(text, word) -> None:
    assert opt_out(f"{text} {word}") is None

"""Opt-out words: what a customer replies who wants no more messages, or wants them again.

Only the word alone counts, as it does at the gateways and carriers themselves ("STOP PLEASE" blocks nothing there):
a sentence that has "stop" in it is for a person to read. Case, width, accents, spaces and punctuation do not matter.

Left out are words that say something else in a shop: "no" and "yes" answer questions (and a grant is an opt-in, so
that YES, which lifts a block at Twilio, is none here), 退 and 取消, CANCELAR and STORNIEREN are about orders. CANCEL is
in, since gateways block on it: whoever wrote it is no longer reached, whatever was meant.

Sources, read in November 2026:
en: Twilio, docs/messaging/tutorials/advanced-opt-out; REMOVE: AWS End User Messaging, required opt-out keywords.
fr: Twilio, docs/proxy/opt-out-keywords (ARRET, ARRETE, ARRETT). de, it: ActiveCampaign, SMS STOP clause.
es, pt: Aivo Engage, opt-out for SMS; SAIR: Anatel's ruling on advertising by SMS. nb: Brevo, SMS opt-out keywords.
zh: R from Huawei Cloud MSGSMS, TD from AWS, 退订, 拒收, T and TD as Chinese platforms have printed them in texts.
ja: no list of a vendor was found; only the phrase that can mean nothing else.
"""

import unicodedata
from collections.abc import Iterable
from typing import Literal

#: {language: words after which nothing more is sent}
WITHDRAWN = {
    "en": "STOP STOPALL UNSUBSCRIBE CANCEL END QUIT OPTOUT REVOKE REMOVE",
    "de": "STOPP ABMELDEN ABBESTELLEN",
    "es": "BAJA PARAR DETENER DESUSCRIBIR",
    "fr": "ARRET ARRETE ARRETT",
    "it": "FERMARSI DISISCRIZIONE",
    "ja": "配信停止",
    "nb": "UNSUB STOPP",
    "pt": "SAIR PARAR DESCADASTRAR REMOVER",
    "zh": "R T TD 回复R 回复T 回复TD 退订 退訂 回复退订 拒收 拒收短信 退订短信 不要发了 别发了",
}
#: {language: words after which messages are wanted again}
GRANTED = {
    "en": "START UNSTOP",
    "zh": "订阅 訂閱",
}


def opt_out(text: str, locales: Iterable[str] | None = None) -> Literal["withdrawn", "granted"] | None:
    """What a reply says about further messages; None where it says something else.

    Args:
        text: the whole reply.
        locales: languages whose words count, `zh-CN` as well as `zh`; English always does. None: all of them.
    """
    word = _plain(text)
    if not word:
        return None
    wanted = None if locales is None else {"en", *(locale.replace("_", "-").partition("-")[0] for locale in locales)}
    for language in _LANGUAGES_OF.get(word, {}):
        if wanted is None or language in wanted:
            return _LANGUAGES_OF[word][language]
    return None


def _plain(text: str) -> str:
    """The letters and digits of a text, in one case and width, without accents."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(char for char in folded if char.isalnum())


_LANGUAGES_OF: dict[str, dict[str, Literal["withdrawn", "granted"]]] = {}
for _language, _words in WITHDRAWN.items():
    for _word in _words.split():
        _LANGUAGES_OF.setdefault(_plain(_word), {})[_language] = "withdrawn"
for _language, _words in GRANTED.items():
    for _word in _words.split():
        _LANGUAGES_OF.setdefault(_plain(_word), {})[_language] = "granted"

import pytest

from crmkit import Reason
from crmkit_email.status import ENHANCED, said, verdict

ROWS = [
    ("rcpt", 421, "4.7.0 slow down", "deferred"),
    ("rcpt", 450, "4.2.1 busy", "deferred"),
    ("data", 452, "4.3.1 disk", "deferred"),
    ("mail", 454, "4.7.0 later", "deferred"),
    # the enhanced code is believed before the reply code
    ("rcpt", 550, "5.1.1 unknown", Reason.BAD_ADDRESS),
    ("rcpt", 554, "5.1.1 unknown", Reason.BAD_ADDRESS),
    ("rcpt", 550, "5.1.2 no such domain", Reason.BAD_ADDRESS),
    ("rcpt", 550, "5.1.10 null MX", Reason.BAD_ADDRESS),
    ("rcpt", 550, "5.2.1 disabled", Reason.BAD_ADDRESS),
    ("rcpt", 550, "5.4.4 no route", Reason.BAD_ADDRESS),
    ("rcpt", 550, "5.2.2 full", Reason.MAILBOX_FULL),
    ("rcpt", 550, "5.7.1 spam", Reason.VENDOR_POLICY),
    ("rcpt", 550, "5.7.0 policy", Reason.VENDOR_POLICY),
    ("rcpt", 550, "5.7.1 relaying denied", "credentials"),
    ("rcpt", 550, "5.6.7 not international", Reason.UNSUPPORTED),
    ("rcpt", 550, "5.3.0 hm", Reason.OTHER),
    ("rcpt", 530, "5.7.0 log in first", "credentials"),
    ("rcpt", 550, "5.1.8 who", "sender"),
    ("data", 552, "5.3.4 too big", Reason.CONTENT),
    ("data", 554, "5.6.1 malformed", Reason.CONTENT),
    ("data", 550, "5.7.26 unauthenticated", "sender"),
    ("data", 550, "5.7.515 unauthenticated", "sender"),
    ("data", 550, "5.7.28 too much", Reason.VENDOR_POLICY),
    # then the reply code, by what was asked
    ("rcpt", 550, "no", Reason.BAD_ADDRESS),
    ("rcpt", 550, "5.0.0 no", Reason.BAD_ADDRESS),
    ("rcpt", 550, "5.1.0 no", Reason.BAD_ADDRESS),
    ("rcpt", 550, "blocked by policy", Reason.VENDOR_POLICY),
    ("rcpt", 550, "relay not permitted", "credentials"),
    ("rcpt", 551, "moved", Reason.BAD_ADDRESS),
    ("rcpt", 552, "full", Reason.MAILBOX_FULL),
    ("rcpt", 553, "name", Reason.BAD_ADDRESS),
    ("rcpt", 554, "no", Reason.VENDOR_POLICY),
    ("rcpt", 556, "no mail here", Reason.BAD_ADDRESS),
    ("rcpt", 501, "syntax", Reason.UNSUPPORTED),
    ("rcpt", 599, "?", Reason.OTHER),
    ("data", 550, "no", Reason.VENDOR_POLICY),
    ("data", 552, "big", Reason.CONTENT),
    ("data", 554, "no", Reason.VENDOR_POLICY),
    ("data", 554, "User unknown", Reason.BAD_ADDRESS),
    ("data", 554, "用户不存在", Reason.BAD_ADDRESS),
    ("data", 550, "5.7.1 user unknown to the policy", Reason.VENDOR_POLICY),
    # a refused sender is every mail's trouble
    ("mail", 550, "no", "sender"),
    ("mail", 553, "5.1.1 unknown", "sender"),
    ("mail", 550, "5.7.1 not yours", "sender"),
    ("mail", 530, "log in", "credentials"),
    ("mail", 535, "5.7.8 bad", "credentials"),
    ("mail", 552, "too big", Reason.CONTENT),
    ("mail", 555, "5.5.4 options", Reason.UNSUPPORTED),
]


@pytest.mark.parametrize(("phase", "code", "text", "meaning"), ROWS)
def test_a_refusal_means(phase, code, text, meaning):
    assert verdict(phase, code, text) == meaning


def test_every_enhanced_code_is_deferred_while_it_is_temporary():
    assert {verdict("rcpt", 450, f"4.{code} text") for code in ENHANCED} == {"deferred"}


def test_a_reply_is_shown_on_one_line_and_without_the_address():
    assert (
        said(550, "5.1.1 <a@b.example>\nno\x00 such \udcff user", "a@b.example")
        == "550 5.1.1 <recipient> no  such   user"
    )
    assert len(said(550, "x" * 9999)) == 300

"""Every mail reads back, with the standard library's parser, as what was to be said."""

import email
import email.policy
import re
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header, make_header
from email.utils import parseaddr

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crmkit import Message, PayloadError, UnsupportedError
from crmkit_email.address import encoded_words, parse_mailbox
from crmkit_email.mime import MAX_LINE, MailSettings, Writer

AT = datetime(2026, 5, 7, 18, 30, 5, tzinfo=timezone(timedelta(hours=8)))
NEWLINE = re.compile(r"\r\n|\r|\n")

plain = st.text(st.characters(blacklist_categories=["Cs"]))
long_lines = st.builds(
    lambda text, times: text * times,
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1),
    st.integers(1, 1500),
)
lines = st.lists(
    st.one_of(
        plain,
        st.sampled_from(
            [
                ".",
                "..",
                ". ",
                "",
                " ",
                "\t",
                "From here",
                "--=_",
                "=",
                "a" * 998,
                "a" * 999,
                "您好，订单",
                "שלום עולם",
                "👩‍👩‍👧 🎉",
                "\x0b\x0c\x85\u2028",
            ]
        ),
    )
)
bodies = st.one_of(
    st.builds(lambda parts, end: end.join(parts), lines, st.sampled_from(["\n", "\r\n", "\r"])), long_lines
)
subjects = st.one_of(
    plain,
    long_lines,
    st.sampled_from(["", "=?utf-8?q?no?=", "a =?b", "订单" * 40, "🎉" * 30, "e\u0301" * 60, "שלום", "a  b   c"]),
)


def mail_of(told=None, **changes):
    values = {
        "id": 1,
        "key": "k",
        "channel": "email",
        "address_kind": "email",
        "address": "ann@buyers.example",
        "purpose": "transactional",
        "template": "t",
        "locale": "en",
        "subject": "Hello",
        "text": "Hello",
    }
    writer = Writer(MailSettings(**({"sender": "Tea House <shop@tea.example>"} | (told or {}))))
    content = writer.write(Message(**(values | changes)), AT).content
    assert_fit_for_the_wire(content)
    return email.message_from_bytes(content, policy=email.policy.default)


def assert_fit_for_the_wire(content, utf8=False):
    assert content.endswith(b"\r\n")
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\x00", content)
    assert max(map(len, content.split(b"\r\n"))) <= MAX_LINE
    assert utf8 or content.isascii()


def same(text):
    """Text as far as mail can keep it: line ends are all the same, and there is one at the end."""
    text = NEWLINE.sub("\n", text)
    return text if text.endswith("\n") else text + "\n"


def as_header(text):
    return re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text).strip()


@settings(deadline=None)
@given(bodies)
@example("")
@example(".\n..\n.\n")
@example("a" * 5000)
@example("naïve " * 300)
@example("trailing \nspace\t\n")
def test_every_text_reads_back(text):
    mail = mail_of(text=text, html=None)
    assert not mail.defects
    assert mail.get_content_type() == "text/plain"
    assert same(mail.get_content()) == same(text)


@settings(deadline=None)
@given(bodies, bodies)
@example("text", "")
@example("", "<p>html</p>")
def test_text_and_html_read_back(text, html):
    mail = mail_of(text=text, html=html)
    assert not mail.defects
    if html.strip() and text.strip():
        assert mail.get_content_type() == "multipart/alternative"
        first, second = mail.iter_parts()
        assert (first.get_content_type(), second.get_content_type()) == ("text/plain", "text/html")
        assert not first.defects
        assert not second.defects
        assert same(first.get_content()) == same(text)
        assert same(second.get_content()) == same(html)
    elif html.strip():
        assert mail.get_content_type() == "text/html"
        assert same(mail.get_content()) == same(html)
    else:
        assert same(mail.get_content()) == same(text)


@settings(deadline=None)
@given(subjects)
def test_every_subject_reads_back(subject):
    mail = mail_of(subject=subject)
    assert [str(mail["subject"])] == [as_header(subject)]
    assert mail.get_all("to") == ["ann@buyers.example"]


@settings(deadline=None)
@given(st.text(), st.sampled_from(["\r\n", "\n", "\r", "\r\n\r\n", "\u2028", "\x85", "\x0b", "\x00"]))
def test_no_name_in_a_subject_becomes_a_header(name, line_end):
    subject = f"{name}{line_end}Bcc: eve@evil.example{line_end}{line_end}body"
    mail = mail_of(subject=subject, headers={"X-Name": subject}, key=subject)
    assert set(map(str.lower, mail.keys())) == set(
        "from to date message-id subject x-crmkit-key auto-submitted x-name mime-version content-type"
        " content-transfer-encoding".split()
    )
    assert same(mail.get_content()) == "Hello\n"


@settings(deadline=None)
@given(st.text(), st.integers(0, 60))
def test_encoded_words_are_short_and_whole(text, used):
    words = list(encoded_words(text, used))
    assert all(len(word) <= 75 for word in words)
    for word in words:
        decode_header(word)[0][0].decode("utf-8")  # no character is torn


@settings(deadline=None)
@given(st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"], blacklist_characters='<>"\\'), min_size=1))
def test_every_senders_name_reads_back(name):
    raw = mail_of({"sender": f"{name} <shop@tea.example>"}).as_bytes()
    # read with the older parser: the newer one puts spaces between the encoded words of a name
    shown, address = parseaddr(email.message_from_bytes(raw)["from"])
    assert address == "shop@tea.example"
    assert str(make_header(decode_header(shown))) == name.strip()


def test_a_quoted_name_is_read_as_meant():
    assert parse_mailbox('"Tea, \\"House\\"" <shop@tea.example>').name == 'Tea, "House"'
    assert mail_of({"sender": '"Tea, House" <shop@tea.example>'})["from"].addresses[0].display_name == "Tea, House"


@pytest.mark.parametrize(
    "text", ["", "shop", "a <b", "a <b@c.example> d", "a <b>", '"a <b@c.example>', "a\nb <c@d.example>"]
)
def test_what_is_no_mailbox_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_mailbox(text)


def test_the_date_is_the_one_given():
    assert mail_of()["date"].datetime == AT
    assert mail_of()["date"] == "Thu, 07 May 2026 18:30:05 +0800"


def test_an_international_local_part_is_the_only_thing_not_in_ascii():
    writer = Writer(MailSettings(sender="茶 <shop@茶.example>"))
    message = Message(
        1, "k", "email", "email", "安娜@buyers.example", "transactional", "t", "zh", "您好", subject="您好"
    )
    mail = writer.write(message, AT)
    assert_fit_for_the_wire(mail.content, utf8=True)
    assert mail.needs_utf8
    assert [line for line in mail.content.split(b"\r\n") if not line.isascii()] == ["To: 安娜@buyers.example".encode()]
    assert str(writer.sender) == "shop@xn--cl1a.example"


def test_long_ascii_headers_fold_at_spaces_and_read_back():
    value = " ".join(f"word{n}" for n in range(80))
    assert mail_of(headers={"X-Words": value})["x-words"] == value


def test_marketing_mail_can_be_unsubscribed_from_with_one_click():
    told = {"unsubscribe": "https://crm.tea.example/u?k={key}&a={address}"}
    mail = mail_of(told, purpose="marketing", key="a b/ä", address="ann+x@buyers.example")
    assert mail["list-unsubscribe"] == "<https://crm.tea.example/u?k=a%20b%2F%C3%A4&a=ann%2Bx%40buyers.example>"
    assert mail["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    assert mail_of(told)["list-unsubscribe"] is None
    mail = mail_of({"unsubscribe": "mailto:unsubscribe@tea.example?subject={key}"}, purpose="marketing")
    assert mail["list-unsubscribe"] == "<mailto:unsubscribe@tea.example?subject=k>"
    assert mail["list-unsubscribe-post"] is None


def test_a_messages_own_headers_win():
    own = {
        "list-unsubscribe": "<https://other.example/u>",
        "Reply-To": "Ann Ä <ann@tea.example>",
        "Auto-Submitted": "no",
    }
    mail = mail_of(
        {"unsubscribe": "https://crm.tea.example/{key}", "reply_to": "a@b.example"}, purpose="marketing", headers=own
    )
    assert mail.get_all("list-unsubscribe") == ["<https://other.example/u>"]
    assert mail["list-unsubscribe-post"] is None
    assert mail.get_all("reply-to") == ["Ann Ä <ann@tea.example>"]
    assert mail.get_all("auto-submitted") == ["no"]


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"To": "eve@x.example"}, UnsupportedError),
        ({"content-type": "text/html"}, UnsupportedError),
        ({"Message-ID": "<a@b>"}, UnsupportedError),
        ({"X-A\r\nBcc": "eve@x.example"}, PayloadError),
        ({"X A": "b"}, PayloadError),
        ({"": "b"}, PayloadError),
        ({"List-Unsubscribe": "<https://straße.example/>"}, PayloadError),
        ({"List-Unsubscribe": f"<https://a.example/{'x' * 1000}>"}, PayloadError),
        ({"Reply-To": "nobody"}, PayloadError),
    ],
)
def test_headers_that_cannot_be_written_are_refused(headers, error):
    with pytest.raises(error):
        mail_of(headers=headers)


def test_a_mail_is_dated_in_the_zone_it_is_given():
    assert mail_of()["date"].datetime.astimezone(UTC).hour == 10

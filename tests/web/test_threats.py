"""What somebody who means no good may try at the site as a whole; docs/security.md has the list."""

import ast
import gzip
import hmac
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crmkit import opt_out
from crmkit.adapters.http import client
from crmkit.cli import output
from crmkit.core.customer import normal_email, normal_phone
from crmkit.core.duration import parse_duration
from crmkit.store import tables as t
from crmkit.web.limit import Callers
from tests.fuzz.shipped import SAMPLES, adapter, twilio_call
from tests.web.conftest import URL, Town
from tests.web.forms import forms_of
from tests.web.gallery import ABOUT, open_town, path_of
from tests.web.wire import exactly

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("crmkit/**/*.py"), *ROOT.glob("plugins/*/crmkit_*/**/*.py")])
FORM = "application/x-www-form-urlencoded"


def unsubscribing(town: Town) -> str:
    town.order()
    return town.path("unsubscribe", town.profile(), word="email")


async def test_what_the_caller_claims_to_have_called_is_on_no_page(town: Town) -> None:
    path = unsubscribing(town)
    claims = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    for method, address in (
        ("GET", path),
        ("POST", path),
        ("GET", "/u/none"),
        ("GET", "/none"),
        ("GET", "//evil.example"),
    ):
        answer = await town.client.request(method, address, headers=claims)
        assert "evil.example" not in answer.text + str(answer.headers)
    assert URL in (await town.client.get(path)).text


async def test_no_form_leads_to_another_host_or_to_what_was_sent(migrated_url: str, tmp_path: Path) -> None:
    town = open_town(tmp_path / "town", migrated_url)
    claims = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Referer": "https://evil.example/"}
    strange = dict.fromkeys(("next", "to", "url", "entry", "lang", "page", "done", "x"), "//evil.example")
    led = set()
    async with town.client:
        for name in sorted({*ABOUT} - {"order"}):
            path = path_of(town, name)
            for form in forms_of((await town.client.get(path)).text):
                written = {"address": "ann@home.example"}
                sent = {one: [written.get(one, "words")] for one in form.written}
                for one, value in (*form.choices, *form.buttons[:1]):
                    sent[one] = [value]
                for one, value in form.hidden:
                    sent.setdefault(one, []).append(value)
                asked = {"data": {**strange, **sent}, "params": strange, "headers": claims}
                answer = await town.client.post(path, **asked)
                assert answer.status_code in (200, 303, 409, 422), (name, sent)
                if answer.status_code == 303:
                    led.add(name)
                    place = answer.headers["location"]
                    assert re.fullmatch(re.escape(path) + r"(/code)?\?[\w=&.-]*(#[\w-]+)?", place), place
                assert "evil.example" not in str(answer.headers)
    town.store.close()
    assert {"statement", "contact"} <= led


async def test_no_other_site_may_read_or_ask_in_a_visitors_name(town: Town) -> None:
    path = unsubscribing(town)
    foreign = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for method in ("OPTIONS", "GET", "POST"):
        answer = await town.client.request(method, path, headers=foreign)
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "set-cookie" not in answer.headers  # there is no login that another site could borrow
    assert "form-action 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e%2f%2e%2e%2fcore/link.py",
        "/static//etc/passwd",
        "/static/....//app.py",
        "/static/..\\app.py",
        "/static/page.css%00.py",
        "/static/",
        "/static",
        "/webhooks/../static/page.css",
        "/webhooks/..%2f..%2fetc%2fpasswd",
        "/u/..%2fstatic%2fpage.css",
    ],
)
async def test_no_path_leads_to_a_file_that_is_not_meant(town: Town, path: str) -> None:
    status, headers = await exactly(town, "GET", path, {})
    assert status in {401, 404, 405}
    assert "location" not in headers


async def test_what_is_packed_is_not_unpacked(town: Town) -> None:
    unsubscribing(town)
    path = town.path("preferences", town.profile())
    packed = gzip.compress(b"a=" + b"x" * 1_000_000)
    for kind in (FORM, "multipart/form-data; boundary=b", "application/gzip"):
        sent = {"content-encoding": "gzip", "content-type": kind}
        answer = await town.client.post(path, content=packed, headers=sent)
        assert 400 <= answer.status_code < 500
    assert town.rows(t.consent) == []


#: Bodies that take a parser that is not careful long, or all there is of the stack.
HEAVY = {
    "nested parts": (
        "multipart/form-data; boundary=b0",
        b"".join(b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (n, n + 1) for n in range(1_000)),
    ),
    "many parts": ("multipart/form-data; boundary=b", b"--b\r\n\r\n" * 8_000),
    "long head": ("multipart/form-data; boundary=b", b"--b\r\n" + b"a: b;" * 12_000),
    "many fields": (FORM, b"a&" * 32_000),
    "percents": (FORM, b"%" * 65_000),
    "boundary": ("multipart/form-data; " + "boundary=;" * 1_000, b"x"),
}


@pytest.mark.parametrize("kind", HEAVY)
async def test_no_form_is_heavy(town: Town, kind: str) -> None:
    unsubscribing(town)
    path, (written, body) = town.path("preferences", town.profile()), HEAVY[kind]
    await town.client.get(path)  # templates are read once
    began = time.process_time()
    answer = await town.client.post(path, content=body, headers={"content-type": written})
    assert answer.status_code == 400 or kind == "percents"
    assert time.process_time() - began < 0.5


_LONG = 50_000
_CALLERS = Callers(["127.0.0.1"])
PARSERS: dict[str, Callable[[str], Any]] = {
    "opt-out": opt_out,
    "e-mail": normal_email,
    "phone": lambda text: normal_phone(text, "DE"),
    "duration": parse_duration,
    "forwarded": lambda text: _CALLERS.told("127.0.0.1", text),
}
PUMPS = [
    "a",
    "a.",
    "a@",
    "@a.",
    " ",
    "\t\n",
    "0",
    "+1 ",
    "(",
    "1,",
    "::",
    "stop ",
    "é",
    "退订",
    "\u200b",
    "a" * 9 + "!",
    "-",
]


@pytest.mark.parametrize("name", PARSERS)
def test_no_text_takes_a_parser_long(name: str) -> None:
    for pump in PUMPS:
        for text in (pump * (_LONG // len(pump)), "a@" + pump * 5_000 + "!", "+" + pump * 5_000 + "x"):
            began = time.process_time()
            try:
                PARSERS[name](text)
            except ValueError:
                pass
            assert time.process_time() - began < 1, (name, pump)


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bool] = []
    plain = hmac.compare_digest

    def counted(one: Any, other: Any) -> bool:
        compared.append(True)
        return plain(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    calls = [(name, signed(body)) for name, signed, body in SAMPLES]
    for name, call in [*calls, ("sms.twilio", twilio_call({"MessageSid": "SM1", "MessageStatus": "sent"}))]:
        compared.clear()
        adapter(name).verify(call)
        assert compared or name == "email.sendgrid", name  # whose key is public: nothing secret is compared


def test_vendors_send_crmkit_nowhere_else() -> None:
    made = client()
    assert made.follow_redirects is False
    assert made.trust_env is False  # nor does a variable of the environment lead it through somebody's proxy


#: What runs what it is given, or builds whatever a document asks for; and who may use it on what.
_DANGEROUS = {"eval", "exec", "compile", "system", "popen", "pickle", "marshal", "yaml", "xml", "shell"}
_MAY = {
    ("crmkit/engine/inward.py", "pickle"),  # pages that wait, in a file without a name that nobody else opens
    ("crmkit/testing/echo.py", "xml"),  # what a test's own adapter wrote
    ("plugins/marketplace/crmkit_marketplace/files/lookup.py", "pickle"),  # rows set aside, in a file of its own
    ("plugins/sms/crmkit_sms/filling.py", "xml"),  # writes XML, reads none
}


def test_nothing_runs_what_it_is_given() -> None:
    found = set()
    for path in SOURCES:
        place = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name.partition(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [(node.module or "").partition(".")[0]]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names = [node.func.id]
            elif isinstance(node, ast.Call):
                names = [keyword.arg for keyword in node.keywords if keyword.arg == "shell"]
                names += [node.func.attr] if isinstance(node.func, ast.Attribute) and node.func.attr == "system" else []
            found |= {(place, name) for name in names if name in _DANGEROUS}
    assert found == _MAY


async def test_a_name_is_text_wherever_it_goes(town: Town) -> None:
    from crmkit.core.records import Buyer

    odd = "{{7*7}}{% for %}<script>alert(1)</script>=1+1\r\nBcc: x@evil.example'; DROP TABLE profile; --"
    town.order(buyer=Buyer(external_id="ann", name=odd[:200], email="ann@buyers.example"))
    for purpose, about in (("order", {"subject": town.one(t.orders)["id"]}), ("preferences", {})):
        page = await town.client.get(town.path(purpose, town.profile(), **about))
        assert page.status_code == 200
        assert "<script>" not in page.text
        assert "49" not in page.text.replace("1049", "")
    assert len(town.rows(t.profile)) == 1


def test_only_one_place_writes_csv_and_that_writes_no_formulas() -> None:
    """What is written by `crmkit demo` is of crmkit's own making."""
    writing = {str(path.relative_to(ROOT)) for path in SOURCES if "csv.writer" in path.read_text("utf-8")}
    assert writing == {"crmkit/cli/output.py"}


def test_a_name_does_nothing_to_an_operators_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    odd = "\x1b]0;owned\x07\x1b[2J\x9b31m\u0085Ann"
    output.say(odd)
    output.warn(odd)
    output.table([(odd,)], ("name",))
    output.facts([("name", odd)])
    output.document({"name": odd})
    output.lines([{"name": odd}])
    said = capsys.readouterr()
    assert not [character for character in said.out + said.err if ord(character) in CONTROLS]
    assert said.out.count("Ann") == 5


CONTROLS = (set(range(32)) | set(range(127, 160))) - {ord("\n")}

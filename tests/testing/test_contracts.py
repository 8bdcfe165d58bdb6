"""A playbook that breaks its contract is found out, by the test that says what it broke."""

import sys
from collections.abc import Iterator

import pytest

from crmkit.testing.handler_contract import HandlerContract
from crmkit.testing.policy_contract import PolicyContract
from tests.testing import diary

# --- who keeps it -----------------------------------------------------------------------------------------------------


class TestDiary(HandlerContract):
    plugin = diary
    templates = diary.TEMPLATES


NIGHTS = '''
"""Defers what would leave at night to the morning, and tells nobody twice in a minute."""

from collections.abc import Iterator
from datetime import timedelta

from crmkit import Crm, Outgoing, Policy, Reason, Verdict, hookimpl


def night(outgoing: Outgoing, crm: Crm) -> Verdict | None:
    if 6 <= outgoing.leaves_at.hour < 22:
        return None
    later = (outgoing.leaves_at + timedelta(hours=9)).replace(hour=7, minute=0, second=0)
    return Verdict("defer", Reason.QUIET_HOURS, until=later)


def advertising(outgoing: Outgoing, crm: Crm) -> Verdict | None:
    if outgoing.purpose == "marketing" and outgoing.staff is None:
        return Verdict("suppress", Reason.NO_CONSENT, detail="none of that here")


@hookimpl
def crmkit_policies() -> Iterator[Policy]:
    yield Policy("night", night)
    yield Policy("advertising", advertising)
'''


@pytest.fixture(scope="class", autouse=True)
def _nights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if request.cls is not None and request.cls.__name__ == "TestNights":
        request.cls.plugin = tmp_path_factory.mktemp("nights") / "contract_nights.py"
        request.cls.plugin.write_text(NIGHTS)
    yield
    sys.modules.pop("crmkit_plugin_contract_nights", None)


class TestNights(PolicyContract):
    pass


# --- who does not -----------------------------------------------------------------------------------------------------

#: {what is broken: (the test that finds it, what it says, the playbook's handler or policy)}
HANDLERS = {
    "raises": ("test_no_handler_fails", "raises failed on order-placed", "raise KeyError(event.order.total.amount)"),
    "amount": ("test_no_handler_fails", "'NoneType' object has no attribute 'amount'", "event.order.total.amount"),
    "untold": ("test_no_handler_fails", "there is no template 'nowhere'", "yield Send('nowhere')"),
    "number": ("test_only_actions_are_asked_for", "tell on OrderPlaced yields 7", "yield 7"),
    "single": ("test_only_actions_are_asked_for", "tell on OrderPlaced yields 'x'", "return ['x']"),
    "clock": (
        "test_handlers_read_what_they_are_given_and_nothing_else",
        "datetime.now() in clock.py:",
        "yield Note(f'{datetime.now(UTC):%Y}')",
    ),
    "file": (
        "test_handlers_read_what_they_are_given_and_nothing_else",
        "open() in file.py:",
        "return [Note(Path(__file__).read_text()[:1])]",
    ),
    "chance": (
        "test_handlers_read_what_they_are_given_and_nothing_else",
        "random.random() in chance.py:",
        "yield Note(str(random.random()))",
    ),
    "chances": ("test_asked_again_a_handler_answers_the_same", "the second time", "yield Note(str(random.random()))"),
    "counts": ("test_the_same_season_is_told_the_same", "in one of two same", "yield Send('hello', key=str(next(N)))"),
    "later": (
        "test_history_announces_nothing",
        "hello at 2026-",
        "yield Later(Turned(), at=crm.now + timedelta(days=2))",
    ),
    "english": (
        "test_every_template_is_there_in_every_language",
        "hello.zh-CN.email.txt",
        "yield Send('hello', via=('sms', 'email'))",
    ),
    "silent": ("test_every_message_can_be_made", "named: missing-variable", "yield Send('named', via=('email',))"),
    "prints": ("test_nothing_personal_is_logged", "dana@alkhatib.example", "print('dana@alkhatib.example')"),
    "logs": (
        "test_nothing_personal_is_logged",
        "Ann Quillfeather",
        "logging.getLogger('mine').info('%s', event.customer and event.customer.name)",
    ),
    "unheard": ("test_every_handler_is_asked", "unheard (@on(Odd))", "pass"),
    "shown": ("test_settings_hide_their_secrets", "the setting api_key is shown", "pass"),
    "taken": ("test_settings_name_what_is_missing", "an unknown setting is taken", "pass"),
}
HANDLER = """
import itertools, logging, random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ConfigDict, SecretStr

from crmkit import Event, Later, Note, OrderPlaced, PluginSettings, Send, hookimpl, on

N = itertools.count()

class Settings(PluginSettings):
    model_config = ConfigDict(extra="{extra}")
    api_key: {secret} = "a-secret-of-the-shop"

class Turned(Event):
    name = "{name}-turned"

class Odd(Event):
    name = "{name}-odd"
    what: complex

@on(OrderPlaced)
def tell(event, crm):
    {body}

@on(Turned)
def turn(event, crm):
    yield Send("hello", via=("email",))

@hookimpl
def crmkit_handlers():
    yield tell
    yield turn
"""
UNHEARD = """
    yield unheard

@on(Odd)
def unheard(event, crm):
    yield Note("never")
"""
POLICIES = {
    "torn": ("test_no_policy_raises", "AttributeError", "outgoing.event.order.total"),
    "word": ("test_policies_answer_verdicts", "answers 'no'", "return 'no'"),
    "drops": ("test_policies_answer_verdicts", "action='drop'", "return Verdict('drop', Reason.OTHER)"),
    "why": ("test_policies_answer_verdicts", "reason='because'", "return Verdict('hold', 'because')"),
    "past": (
        "test_what_is_deferred_leaves_later",
        "defers from",
        "return Verdict('defer', Reason.BUDGET, until=outgoing.leaves_at)",
    ),
    "never": ("test_what_is_deferred_leaves_later", "no aware time", "return Verdict('defer', Reason.BUDGET)"),
    "wall": (
        "test_policies_read_what_they_are_given_and_nothing_else",
        "time.time() in wall.py:",
        "if time.time() < 7: return None",
    ),
    "moody": (
        "test_asked_again_a_policy_answers_the_same",
        "the second time",
        "return Verdict('hold', Reason.OTHER) if next(N) % 2 else None",
    ),
    "gossip": (
        "test_no_policy_tells_whom_it_was_asked_about",
        "ann@quillfeather.example",
        "return Verdict('hold', Reason.OTHER, detail=f'not to {outgoing.address}')",
    ),
    "lacking": ("test_there_are_policies", "yields no policies", "pass"),
}
POLICY = """
import itertools, time
from crmkit import Policy, Reason, Verdict, hookimpl

N = itertools.count()

def judge(outgoing, crm):
    {body}

@hookimpl
def crmkit_policies():
    if "{name}" != "lacking":
        yield Policy("judge", judge)
"""
LEAKY = """
import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from crmkit import CustomerCreated, OrderPlaced, Save, Tables, hookimpl, on

class Named(SQLModel, table=True):
    __tablename__ = "leaky_named"
    name: str = Field(primary_key=True)

class Counted(SQLModel, table=True):
    __tablename__ = "leaky_counted"
    __customer__ = "times"
    customer_id: int = Field(primary_key=True)
    times: int = 0

@on(CustomerCreated)
def keep(event, crm):
    if event.customer is not None:
        yield Save(Counted(customer_id=event.customer.id, times=999))
        if event.customer.name:
            yield Save(Named(name=event.customer.name))

@hookimpl
def crmkit_handlers():
    yield keep

@hookimpl
def crmkit_tables():
    yield Tables((Named, Counted), "migrations")
"""
LEAKY_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None

def upgrade():
    op.create_table("leaky_named", sa.Column("name", sa.String, primary_key=True))
    op.create_table(
        "leaky_counted", sa.Column("customer_id", sa.BigInteger, primary_key=True), sa.Column("times", sa.BigInteger)
    )
"""
CONTRACT = '''
class Test_{name}({kind}):
    plugin = "./{name}.py"
    locales = ("en", "zh-CN") if "{name}" == "english" else ("en",)
    config = "[{name}]\\napi_key = 'a-secret-of-the-shop'" if {kind} is HandlerContract else ""
    templates = {{
        "hello.en.email": """
            ---
            purpose = "transactional"
            subject = "Hello"
            ---
            Hello.
            """,
        "named.en.email": """
            ---
            purpose = "transactional"
            subject = "Hello"
            ---
            Hello {{{{ customer.name }}}}.
            """,
    }}
'''
LEAKY_CONTRACT = """
import leaky

class TestLeaky(HandlerContract):
    plugin = leaky

class TestLeakyAndKnown(HandlerContract):
    plugin = leaky

    @property
    def of_no_customer(self):
        return tuple(self._models(self.lived().crmkit))[:1]
"""


@pytest.mark.e2e
def test_a_broken_playbook_is_found_out(pytester: pytest.Pytester) -> None:
    parts = ["from crmkit.testing import HandlerContract, PolicyContract"]
    wanted, says = [], {}
    for kind, form, broken in (("HandlerContract", HANDLER, HANDLERS), ("PolicyContract", POLICY, POLICIES)):
        for name, (test, message, body) in broken.items():
            extra, secret = "ignore" if name == "taken" else "forbid", "str" if name == "shown" else "SecretStr"
            written = form.replace("{body}", body).replace("{name}", name)
            written = written.replace("{extra}", extra).replace("{secret}", secret)
            if name == "unheard":
                written = written.rstrip() + UNHEARD
            (pytester.path / f"{name}.py").write_text(written)
            parts.append(CONTRACT.format(name=name, kind=kind))
            wanted.append(f"test_broken.py::Test_{name}::{test}")
            says[f"Test_{name}.{test}"] = message
    (pytester.path / "leaky" / "migrations" / "versions").mkdir(parents=True)
    (pytester.path / "leaky" / "__init__.py").write_text(LEAKY)
    (pytester.path / "leaky" / "migrations" / "versions" / "0001_first.py").write_text(LEAKY_MIGRATION)
    parts.append(LEAKY_CONTRACT)
    for test, message in (
        ("TestLeaky::test_tables_say_whose_their_rows_are", "Named names no column of customers; write __customer__"),
        ("TestLeakyAndKnown::test_a_forgotten_customer_leaves_nothing", "Named: Ann Quillfeather"),
    ):
        wanted.append(f"test_broken.py::{test}")
        says[test.replace("::", ".")] = message
    pytester.makepyfile(test_broken="\n".join(parts))
    quick = ["-q", "-p", "no:hypothesispytest", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short"]
    result = pytester.runpytest_subprocess(*quick, *wanted)
    result.assert_outcomes(failed=len(wanted))
    text = result.stdout.str()
    for test, message in says.items():
        title = f"_ {test} _"
        assert title in text, f"{test} did not fail"
        section = text.partition(title)[2].partition("\n____")[0]
        assert message in section, f"{test} says something else:\n{section[:2000]}"

"""A set of broken plugins: each is named, says what is wrong with it, and harms no other."""

from pathlib import Path

import pytest

from crmkit.core.errors import ConfigError, PluginError

from .conftest import Shelf

BROKEN = {
    "not_importable": ("import no_such_module", "cannot be imported: ModuleNotFoundError: No module named"),
    "exits": ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
    "syntax": ("def f(:", "cannot be imported: SyntaxError"),
    "misspelt": (
        """
        from crmkit import hookimpl
        @hookimpl
        def crmkit_handler(settings):
            yield 1
        """,
        "crmkit_handler is no hook; did you mean crmkit_handlers?",
    ),
    "argument": (
        """
        from crmkit import hookimpl
        @hookimpl
        def crmkit_handlers(config):
            yield 1
        """,
        "Plugin 'play.argument' for hook 'crmkit_handlers' hookimpl definition: .*{'config'}",
    ),
    "no_hook": ("x = 1", "it implements no hook"),
    "unlisted": (
        """
        from crmkit import OrderPaid, OrderShipped, hookimpl, on
        @on(OrderPaid)
        def listed(event, crm): ...
        @on(OrderShipped)
        def forgotten(event, crm): ...
        @hookimpl
        def crmkit_handlers():
            yield listed
        """,
        r"the handler forgotten \(@on\(OrderShipped\)\) is yielded by no hook; yield it from crmkit_handlers",
    ),
    "raising": (
        """
        from crmkit import hookimpl
        @hookimpl
        def crmkit_handlers():
            raise ZeroDivisionError("oops")
            yield
        """,
        "crmkit_handlers raised ZeroDivisionError: oops",
    ),
    "no_handler": (
        """
        from crmkit import hookimpl
        def tell(event, crm): ...
        @hookimpl
        def crmkit_handlers():
            yield tell
        """,
        r"crmkit_handlers yields <function tell .*; mark functions with @on\(EVENT\)",
    ),
    "no_event": (
        """
        from crmkit import hookimpl, on
        @on("order-shipped")
        def tell(event, crm): ...
        @hookimpl
        def crmkit_handlers():
            yield tell
        """,
        "tell handles 'order-shipped', which is no event",
    ),
    "no_settings": (
        """
        from crmkit import hookimpl
        class Settings: ...
        @hookimpl
        def crmkit_handlers():
            return ()
        """,
        "its Settings are no PluginSettings",
    ),
    "no_migrations": (
        """
        from crmkit import Tables, hookimpl
        @hookimpl
        def crmkit_tables():
            yield Tables((), "nowhere")
        """,
        "there is no folder of migrations",
    ),
    "strange_table": (
        """
        from crmkit import Tables, hookimpl
        from sqlmodel import Field, SQLModel
        class Points(SQLModel, table=True):
            __tablename__ = "points"
            id: int = Field(primary_key=True)
        @hookimpl
        def crmkit_tables():
            yield Tables((Points,), ".")
        """,
        "its table is called points; call it strange_table_",
    ),
    "tied": (
        """
        from crmkit import Tables, hookimpl
        from sqlmodel import Field, SQLModel
        class Points(SQLModel, table=True):
            __tablename__ = "tied_points"
            id: int = Field(primary_key=True, foreign_key="profile.id")
        @hookimpl
        def crmkit_tables():
            yield Tables((Points,), ".")
        """,
        "its table tied_points has a foreign key into the core's",
    ),
}


@pytest.mark.parametrize("slug", BROKEN)
def test_a_broken_playbook_is_named_with_what_is_wrong(shelf: Shelf, slug: str) -> None:
    # SEMANTICS 35
    source, expected = BROKEN[slug]
    shelf.add(f"play.{slug}", source)
    with pytest.raises(PluginError, match=rf"plugin play\.{slug} \(.*\) load: {expected}"):
        loaded = shelf.plugins.load("play", slug)
        _ = loaded.settings
        loaded.handlers(None)
        loaded.migrations()
    assert shelf.plugins.load("play", "greet").hook_names == ["crmkit_handlers"]


WEB = {
    "plain": ('"text"', "crmkit_web yields 'text'; yield crmkit.Routes and crmkit.Survey objects"),
    "x": ("Routes('a.b')", "its pages cannot be at /x/; rename the plugin"),
    "webhooks": ("Routes('a.b')", "its pages cannot be at /webhooks/"),
    "static": ("Routes('a.b')", "its pages cannot be at /static/"),
    "healthz": ("Routes('a.b')", "its pages cannot be at /healthz/"),
    "readyz": ("Routes('a.b')", "its pages cannot be at /readyz/"),
    "metrics": ("Routes('a.b')", "its pages cannot be at /metrics/"),
    "Loud": ("Routes('a.b')", "its pages cannot be at /Loud/"),
    "greedy": ("Routes('a.b', scope='*')", "its pages have the scope '\\*'"),
    "borrows": ("Routes('a.b', scope='greet:read')", "its pages have the scope 'greet:read'"),
    "nameless": ("Survey('', {}, ())", "its survey is called ''"),
    "twice": ("*[Survey('care', {}, ())] * 2", "its survey is called 'care'"),
    "fails": ("*[1 / 0]", "crmkit_web raised ZeroDivisionError"),
}


@pytest.mark.parametrize("slug", WEB)
def test_pages_and_surveys_that_cannot_be_served_are_named_with_what_is_wrong(shelf: Shelf, slug: str) -> None:
    yielded, expected = WEB[slug]
    hook = f"@hookimpl\ndef crmkit_web(settings):\n    yield from [{yielded}]\n"
    shelf.add(f"play.{slug}", f"from crmkit import Routes, Survey, hookimpl\n{hook}")
    with pytest.raises(PluginError, match=rf"plugin play\.{slug} \(.*\) load: {expected}"):
        shelf.plugins.load("play", slug).web(None)


ADAPTERS = {
    "other_name": ("class A(Source): name = 'else'", "has no marketplace|has no source called"),
    "no_name": ("class A(Source): ...", "crmkit_sources yields <class"),
    "no_source": ("class A: name = 'no_source'", "crmkit_sources yields <class"),
    "an_object": ("A = 'text'", "crmkit_sources yields 'text'; yield classes derived from crmkit.Source"),
    "liar": ("class A(Source): name = 'liar'; reports = {'dreams'}", "A reports dreams; known are"),
    "greedy": (
        "class A(Source):\n    name = 'greedy'\n    class Settings(SourceSettings): title: str = ''",
        "its Settings have title, which the core reads",
    ),
}


@pytest.mark.parametrize("slug", ADAPTERS)
def test_a_broken_adapter_is_named_with_what_is_wrong(shelf: Shelf, slug: str) -> None:
    source, expected = ADAPTERS[slug]
    hook = "@hookimpl\ndef crmkit_sources():\n    yield A\n"
    shelf.add(f"marketplace.{slug}", f"from crmkit import Source, SourceSettings, hookimpl\n{source}\n{hook}")
    with pytest.raises(PluginError, match=expected):
        shelf.plugins.source("marketplace", slug)


def test_a_handler_in_any_module_of_a_package_must_be_yielded(shelf: Shelf) -> None:
    package = shelf.folder / "shelf_wide"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from crmkit import hookimpl\nfrom shelf_wide import late\n@hookimpl\ndef crmkit_handlers():\n    return ()\n"
    )
    (package / "late.py").write_text("from crmkit import OrderPaid, on\n@on(OrderPaid)\ndef watch(event, crm): ...\n")
    shelf.points.append(type(shelf.points[0])("play.wide", "shelf_wide", "crmkit"))
    with pytest.raises(PluginError, match="the handler watch"):
        shelf.plugins.load("play", "wide").handlers(None)


def test_nothing_is_imported_before_it_is_loaded(shelf: Shelf) -> None:
    shelf.add("play.bomb", "raise SystemExit")
    plugins = shelf.plugins
    assert "bomb" in plugins.catalogue.slugs("play")
    plugins.load("play", "greet")


def test_a_broken_plugin_is_imported_once(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add("play.counts", f"open({str(tmp_path / 'count')!r}, 'a').write('x')\nraise ValueError")
    plugins = shelf.plugins
    for _ in range(3):
        with pytest.raises(PluginError):
            plugins.load("play", "counts")
    assert (tmp_path / "count").read_text() == "x"


@pytest.mark.parametrize(
    ("family", "slug", "expected"),
    [
        (
            "marketplace",
            "fkae",
            r'looked for the entry point marketplace.fkae .*installed are fake\); did you mean "fake"',
        ),
        ("marketplace", "files", "pip install crmkit-marketplace"),
        ("email", "smpt", r'did you mean "smtp"\? \(pip install crmkit-email\)'),
        ("sms", "post", r'none is installed\); "post" is installed for \[\[channels.email\]\]'),
        ("play", "zzz", "there is no playbook"),
        ("sms", "zzz", "none is installed.*install the distribution that brings it"),
    ],
)
def test_what_is_not_installed_is_answered_with_what_to_do(shelf: Shelf, family: str, slug: str, expected: str) -> None:
    # SEMANTICS 33
    with pytest.raises(ConfigError, match=expected):
        shelf.plugins.load(family, slug)


def test_two_distributions_may_not_bring_one_plugin(shelf: Shelf) -> None:
    # SEMANTICS 33
    shelf.add("email.post", "", module="shelf_other_post")
    with pytest.raises(PluginError, match=r"plugin email.post load: is brought by .* and by .*; uninstall one"):
        shelf.plugins.load("email", "post")

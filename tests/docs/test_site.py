"""`make docs` makes one site of all pages: a dead link fails, and reading it asks nobody else for anything."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What a page makes a browser load by itself; `a href` it does not follow.
LOADED = re.compile(r'<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)="?((?:https?:)?//[^"> ]+)')


def build(folder: Path, into: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(into)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("site")
    done = build(ROOT, into)
    assert done.returncode == 0, done.stderr
    return into


def test_every_page_is_in_the_site_and_in_its_navigation(site: Path) -> None:
    sources = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in sources if not (site / page).is_file()] == []
    front = (site / "index.html").read_text("utf-8")
    linked = {match.partition("#")[0] for match in re.findall(r'href="([^"]+)"', front)}
    assert [str(page) for page in sources if str(page) not in linked | {"index.html"}] == []
    assert (site / "packages" / "marketplace.html").is_file()


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        text = page.read_text("utf-8")
        assert LOADED.findall(text) == [], page
        assert "Content-Security-Policy\" content=\"default-src 'self'" in text, page
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text("utf-8")) == [], sheet


def test_a_fence_is_titled_with_its_file(site: Path) -> None:
    text = (site / "tutorial.html").read_text("utf-8")
    assert '<span class="filename">crmkit.toml</span>' in text
    assert '<span class="filename">crmkit.toml (added)</span>' in text
    assert "```" not in text


def test_a_link_that_leads_nowhere_fails(tmp_path: Path) -> None:
    for name in ("mkdocs.yml", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    for readme in ROOT.glob("plugins/*/README.md"):
        copy = tmp_path / readme.relative_to(ROOT)
        copy.parent.mkdir(parents=True)
        shutil.copy(readme, copy)
    with (tmp_path / "docs" / "customers.md").open("a", encoding="utf-8") as page:
        page.write("\n[no page](nowhere.md), [no part](events.md#nothing), [no file](../plugins/nowhere/README.md)\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    for dead in ("'nowhere.md'", "'#nothing'", "'../plugins/nowhere/README.md'"):
        assert dead in done.stderr, done.stderr

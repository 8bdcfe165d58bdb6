"""What mkdocs is told of our pages beyond mkdocs.yml: which there are, and how ours are written.

Pages are written to be read in the repository: they lead to READMEs and folders outside of docs/, and a fence says
which file it is (`toml crmkit.toml`). Here READMEs become pages, links to what is no page become plain words, and the
file of a fence its title.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import join, normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|`[^`]*`)+)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\S+) (.+)$", re.MULTILINE)
TESTS_ONLY = {"served", "part", "more"}


def outside() -> dict[str, str]:
    """{a file outside of docs/: the page it becomes}."""
    readmes = {f"plugins/{path.parent.name}/README.md": path.parent.name for path in ROOT.glob("plugins/*/README.md")}
    pages = {file: f"packages/{name}.md" for file, name in sorted(readmes.items())}
    return {**pages, "CHANGELOG.md": "packages/changelog.md", "CONTRIBUTING.md": "packages/contributing.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    nav: list[Any] = [spread(item, config) for item in config.nav or []]
    named = set(strings(nav))
    found = {path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob("*.md")}
    section(nav, "How-to").extend(sorted(found - named))
    section(nav, "Packages").extend(sorted(set(outside().values()) - named))
    config.nav = nav
    return config


def spread(item: Any, config: MkDocsConfig) -> Any:
    """An entry of the navigation, with folders replaced by lists of their pages."""
    if isinstance(item, str) and item.endswith("/"):
        pages = sorted(Path(config.docs_dir, item).glob("*.md"), key=lambda path: (path.stem != "index", path.name))
        return [f"{item}{path.name}" for path in pages]
    if isinstance(item, dict):
        return {title: spread(under, config) for title, under in item.items()}
    if isinstance(item, list):
        spreads: list[Any] = []
        for one in item:
            more = spread(one, config)
            spreads.extend([page for page in more if page not in spreads] if isinstance(more, list) else [more])
        named = {value for one in spreads if isinstance(one, dict) for value in one.values() if isinstance(value, str)}
        return [one for one in spreads if not (isinstance(one, str) and one in named)]
    return item


def strings(item: Any) -> Iterator[str]:
    if isinstance(item, str):
        yield item
    for one in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
        yield from strings(one)


def section(nav: list[Any], title: str) -> list[Any]:
    found: list[Any] = next(item[title] for item in nav if title in item)
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for file, page in outside().items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    pages = outside()
    here = next((file for file, target in pages.items() if target == page.file.src_uri), f"docs/{page.file.src_uri}")

    def link(found: re.Match[str]) -> str:
        text, target = found.groups()
        path, mark, anchor = target.partition("#")
        if not path or ":" in path:
            return found[0]
        file = normpath(join(here, "..", path))
        if file == "README.md":
            file = "docs/index.md"  # the site's own front page says what it says
            mark = anchor = ""
        to = pages.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
        if to is None:
            return text if (ROOT / file).exists() else found[0]
        return f"[{text}]({relpath(to, join(page.file.src_uri, '..'))}{mark}{anchor})"

    return LINK.sub(link, FENCE.sub(opening, markdown))


def opening(fence: re.Match[str]) -> str:
    """How a fence begins: with its language and its file, and without what only the tests read."""
    language, info = fence.groups()
    words = [word for word in info.split() if word not in TESTS_ONLY and not word.startswith("exit=")]
    if not words:
        return f"```{language}"
    return f'```{language} title="{words[0]}{" (added)" if "append" in words else ""}"'

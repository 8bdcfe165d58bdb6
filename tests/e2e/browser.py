"""A real browser on a real server: the pages of a made-up town on 127.0.0.1, in Debian's Chromium through Playwright.

Screenshots of every page are written into `CRMKIT_SCREENSHOTS`, else into a temporary folder whose path is printed.
"""

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn

from tests.web.conftest import Town

#: What a browser is called where there is one.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE, SMALL, DESK = (390, 844), (320, 640), (1280, 800)


def program() -> str:
    """The browser of this machine."""
    found = os.environ.get("CRMKIT_BROWSER") or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("pages are tested in a browser: apt-get install chromium, or set CRMKIT_BROWSER to one")
    return found


@contextmanager
def served(town: Town) -> Iterator[str]:
    """The town's pages on a port of 127.0.0.1; gives the address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(town.app, log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        until = time.monotonic() + 20
        while not server.started and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.02)
        try:
            assert server.started, "the server did not start"
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


@dataclass
class Reader:
    """Somebody with a browser: what they have open, and what went wrong meanwhile.

    Attributes:
        page: Playwright's.
        base: where the town is.
        troubles: errors of the console, violations of the content security policy, requests to anywhere else.
    """

    page: Any
    base: str
    troubles: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Note what goes wrong from now on."""
        self.page.on("console", lambda said: self._said(said))
        self.page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        self.page.on("request", lambda asked: self._asked(asked.url))
        self.page.on("requestfailed", lambda asked: self.troubles.append(f"failed: {asked.url}"))

    def _said(self, said: Any) -> None:
        is_answer = "the server responded with a status" in said.text  # a form that is answered 422 is no trouble
        if said.type in ("error", "warning") and not is_answer:
            self.troubles.append(f"console: {said.text}")

    def _asked(self, url: str) -> None:
        if not url.startswith((f"{self.base}/", "data:")):
            self.troubles.append(f"asked {urlsplit(url).netloc}")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def write(self, text: str) -> None:
        self.page.keyboard.insert_text(text)

    def tab_to(self, wanted: str, limit: int = 200) -> None:
        """Press Tab until what is focused has the accessible name, or the text, `wanted`; it has to be seen there."""
        for _ in range(limit):
            self.press("Tab")
            if wanted in self.focused():
                assert self.page.evaluate(SEEN), f"{wanted!r} is focused and not seen"
                return
        raise AssertionError(f"Tab does not lead to {wanted!r}")

    def focused(self) -> str:
        """What has the focus: its name as it is told to who cannot see it, and its value."""
        found: str = self.page.evaluate(FOCUSED)
        return found

    def submit(self) -> None:
        """Press Enter and wait for the answer."""
        with self.page.expect_navigation():
            self.press("Enter")


#: What the focused control is called: its labels and legend, or its text; and what it holds.
FOCUSED = """() => {
  const on = document.activeElement;
  if (!on || on === document.body) return "";
  const labels = on.labels ? [...on.labels].map(one => one.innerText) : [];
  const legend = on.closest("fieldset")?.querySelector("legend")?.innerText ?? "";
  const text = ["A", "BUTTON", "SUMMARY"].includes(on.tagName) ? on.textContent : "";
  return [...labels, legend, text, on.type === "radio" || on.type === "checkbox" ? on.value : ""].join(" ")
    .replace(/\\s+/g, " ").trim();
}"""
#: Whether the focused control is on the screen, shows its focus, and nothing lies over it.
SEEN = """() => {
  const on = document.activeElement, box = on.getBoundingClientRect();
  if (!box.width || box.bottom < 0 || box.top > innerHeight || box.right > innerWidth + 1) return false;
  return on.matches(":focus-visible") && getComputedStyle(on).outlineStyle !== "none";
}"""
#: Controls without a name, ids that are there twice, headings that skip a level, targets that are too small.
FLAWS = """() => {
  const flaws = [];
  const seen = on => on.checkVisibility() && !on.closest("details:not([open]) > :not(summary)");
  for (const on of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
    if (![...(on.labels ?? [])].some(one => one.textContent.trim()) && !on.getAttribute("aria-label"))
      flaws.push("no label: " + on.name);
  }
  for (const on of document.querySelectorAll("a, button, summary"))
    if (!on.textContent.trim()) flaws.push("no name: " + on.outerHTML.slice(0, 80));
  const ids = [...document.querySelectorAll("[id]")].map(one => one.id);
  for (const id of new Set(ids)) if (ids.filter(one => one === id).length > 1) flaws.push("twice: " + id);
  for (const on of document.querySelectorAll("[aria-describedby], [aria-labelledby]"))
    for (const name of ["aria-describedby", "aria-labelledby"])
      for (const id of (on.getAttribute(name) ?? "").split(" ").filter(Boolean))
        if (!document.getElementById(id)) flaws.push("points to nothing: " + id);
  let level = 0;
  for (const on of document.querySelectorAll("h1, h2, h3, h4")) {
    const here = Number(on.tagName[1]);
    if (here > level + 1) flaws.push("skips a level: " + on.textContent);
    level = here;
  }
  if (document.querySelectorAll("main, header").length !== 2) flaws.push("landmarks");
  for (const on of document.querySelectorAll("button, summary, select, input:not([type=hidden])")) {
    const box = (on.labels?.[0]?.contains(on) ? on.labels[0] : on).getBoundingClientRect();
    if (seen(on) && (box.height < 24 || box.width < 24)) flaws.push("too small: " + (on.name || on.textContent));
  }
  return flaws;
}"""


def shots() -> Path:
    """The folder of screenshots."""
    named = os.environ.get("CRMKIT_SCREENSHOTS")
    folder = Path(named) if named else Path(tempfile.mkdtemp(prefix="crmkit-pages-"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder

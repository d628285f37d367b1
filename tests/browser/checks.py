"""What a page must not do, each as a list of what was found; an empty list is a pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Frame, Page

Shown = Page | Frame
NO_LETTERS = ("nonBmp", "shortTextContent")

BROKEN_IMAGES = """() => [...document.images]
  .filter(image => !image.complete || image.naturalWidth === 0 || image.clientWidth === 0)
  .map(image => image.src.slice(0, 60))"""
# what sticks out of the page, and what sticks out of its own box where nothing lets a reader scroll to it
STICKING_OUT = """() => {
  const found = [], root = document.scrollingElement, wide = root.clientWidth;
  if (root.scrollWidth > wide) found.push(`page: ${root.scrollWidth} px in ${wide} px`);
  const scrolls = node => node !== root && /auto|scroll/.test(getComputedStyle(node).overflowX);
  for (const node of document.body.querySelectorAll("*")) {
    let around = node;
    while (around && !scrolls(around)) around = around.parentElement;
    if (around || getComputedStyle(node).clipPath !== "none") continue;
    const right = node.getBoundingClientRect().right, name = `${node.localName}.${node.className}`;
    if (right > wide + 1) found.push(`${name} ends at ${right} px of ${wide} px`);
    if (node.clientWidth && node.scrollWidth > node.clientWidth + 1)
      found.push(`${name} holds ${node.scrollWidth} px in ${node.clientWidth} px`);
  }
  return found;
}"""


def complaints(page: Page) -> list[str]:
    """A list that grows with every console error, script error, failed request and dialog of ``page``.

    Each begins with the address it comes from, so that a report in a frame (``blob:``) is told from what is
    around it.
    """
    heard: list[str] = []

    def say(where: str, what: str) -> None:
        heard.append(f"{where}: {what}")

    page.on("console", lambda said: said.type == "error" and say(said.location["url"], said.text))
    page.on("pageerror", lambda error: say(page.url, f"{error}"))
    page.on("requestfailed", lambda asked: say(asked.frame.url, f"{asked.url[:80]} {asked.failure}"))

    def dismiss(dialog) -> None:  # type: ignore[no-untyped-def]
        say(page.url, f"dialog {dialog.message}")
        dialog.dismiss()

    page.on("dialog", dismiss)
    return heard


def broken_images(shown: Shown) -> list[str]:
    """Pictures that did not load or take no room."""
    return shown.evaluate(BROKEN_IMAGES)


def sticking_out(shown: Shown) -> list[str]:
    """What a reader cannot see without moving the page sideways."""
    return shown.evaluate(STICKING_OUT)


def barriers(shown: Shown, *, rules: Sequence[str] = (), but: Sequence[str] = ()) -> list[str]:
    """Violations of axe's rules (WCAG 2 A and AA, good practice), of ``rules`` alone or of all ``but`` some.

    Contrast that axe could not determine counts as a violation, but of signs that are no letters.
    """
    options: dict[str, Any] = {
        "resultTypes": ["violations", "incomplete"],  # of what passes, the places are not worked out
        "rules": {rule: {"enabled": False} for rule in but},
    }
    if rules:
        options["runOnly"] = {"type": "rule", "values": rules}
    found = Axe().run(shown, options=options).response
    contrast = [rule["nodes"] for rule in found["incomplete"] if rule["id"] == "color-contrast"]
    unsure = [node for nodes in contrast for node in nodes if _reason(node) not in NO_LETTERS]
    return [
        *(f"{rule['id']} ({rule['impact']}): {_places(rule['nodes'])}" for rule in found["violations"]),
        *([f"color-contrast (cannot be determined): {_places(unsure)}"] if unsure else []),
    ]


def _reason(node: dict[str, Any]) -> str:
    return node["any"][0]["data"]["messageKey"]


def _places(nodes: list[dict[str, Any]]) -> str:
    return f"{len(nodes)} × {', '.join(str(node['target']) for node in nodes[:5])}"

"""Which runbook fits what somebody sees. The pages are docs/runbooks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALL_DARK, DOWN, CREDENTIALS = "all-sites-dark", "site-is-down", "credentials-expired"
"""Pages that `status` names."""

_COMMENT = re.compile(r"^<!--.*?-->\n\n?", re.MULTILINE | re.DOTALL)
_WORD = re.compile(r"[a-z0-9]+")
_TITLE, _SEEN, _MEANS, _TEXT = 8, 3, 2, 1
"""What a word counts that stands in the title, in what one sees, in what that means, and anywhere at all."""
_FILLING = frozenset(
    "a an and at for from has have hours in is it no not of on since the to".split()  # noqa: SIM905 - words
)


@dataclass(frozen=True, slots=True)
class Page:
    """A runbook."""

    name: str
    text: str

    @property
    def title(self) -> str:
        return self.text.partition("\n")[0].lstrip("# ").strip()

    @property
    def meaning(self) -> str:
        """What the incident is, on one line."""
        found = re.search(r"\*\*(?:What it means|When):\*\* (.*?)\n\n", self.text, re.DOTALL)
        return " ".join(found[1].split()) if found else ""

    @property
    def means(self) -> str:
        """The first sentence of that."""
        return re.split(r"(?<=[.:]) ", self.meaning)[0].rstrip(".:")

    @property
    def seen(self) -> str:
        """The part that tells what one sees."""
        _, _, rest = self.text.partition("## What you see")
        return rest.partition("\n## ")[0]

    def shown(self) -> str:
        """As a person reads it: without what only tests go by."""
        return _COMMENT.sub("", self.text)


def search(pages: Sequence[Page], words: Sequence[str]) -> list[Page]:
    """Those that have something of these words, the best first; without words all of them, by name."""
    wanted = [word for text in words for word in _WORD.findall(text.lower()) if word not in _FILLING]
    if not words:
        return sorted(pages, key=lambda page: page.name)
    scored = [(sum(_weight(page, word) for word in wanted), page) for page in pages]
    best = max((score for score, _ in scored), default=0)
    # a page with a stray word of many is no answer
    found = [(score, page) for score, page in scored if score and score * 3 >= best]
    return [page for _, page in sorted(found, key=lambda pair: (-pair[0], pair[1].name))]


def _weight(page: Page, word: str) -> int:
    parts = ((f"{page.name} {page.title}", _TITLE), (page.seen, _SEEN), (page.meaning, _MEANS), (page.text, _TEXT))
    return sum(weight for text, weight in parts if _has(text, word))


def _has(text: str, word: str) -> bool:
    """Is it one of the words, or the beginning of one? `dark`, `darkness`."""
    return any(known == word or (len(word) > 3 and known.startswith(word)) for known in _WORD.findall(text.lower()))


def fitting(site: Mapping[str, object]) -> str:
    """The page for how a site stands, as `status` shows it; empty: there is none, or nothing is wrong."""
    if site.get("state") == "silent":
        return ALL_DARK if "more likely it is us" in str(site.get("says") or "") else DOWN
    return CREDENTIALS if "credentials" in str(site.get("health") or "").partition("down:")[2] else ""

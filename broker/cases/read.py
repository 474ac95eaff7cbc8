"""Files of cases, read strictly: a key that is not known is refused with the nearest that is, and its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.cases.questions import QUESTIONS, Question
from broker.cases.values import Misfit
from broker.errors import NotFound
from broker.spec.errors import KeyPath, Wrong, nearest, quoted
from broker.spec.raw import RawDocument, read_document

OF_A_FILE = ("policy", "given", "cases", "about")
OF_A_CASE = ("name", "policy", "given", "expect", "see")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case, its arguments made."""

    name: str
    question: Question
    given: Mapping[str, Any]
    """The function's arguments."""
    expect: Mapping[str, Any]
    raw: RawDocument
    path: KeyPath
    """Of the case in its file."""

    @property
    def line(self) -> int | None:
        """Where it begins, from 1."""
        place = self.raw.locate(self.path)
        return place[0] if place is not None else None


def shipped() -> Path:
    """The folder of cases that come with crossfade."""
    import policies  # noqa: PLC0415 - only its place is wanted

    return Path(str(policies.__file__)).parent / "tests"


def files_in(paths: Sequence[Path]) -> list[Path]:
    """Every file of cases that is named, or lies in a folder that is. Raises NotFound."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.iterdir() if each.suffix in (".yaml", ".yml", ".json"))
            if not inside:
                raise NotFound(f"there is no file of cases in {path}", help="cases are files ending in .yaml")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise NotFound(f"there is no {path}", help="name a file of cases, or a folder of them")
    return found


def read_cases(path: Path) -> list[Case]:
    """The cases of a file. Raises DocumentError, with every case that cannot be read."""
    raw = read_document(path)
    _known(raw, raw.data, (), OF_A_FILE)
    listed = raw.data.get("cases")
    if not isinstance(listed, list) or not listed:
        raise raw.refuse([(("cases",), Wrong("must be a list of cases"))])
    found: list[Case] = []
    wrong: list[tuple[KeyPath, Wrong]] = []
    for i in range(len(listed)):
        try:
            found.append(_case(raw, listed[i], ("cases", i)))
        except Misfit as misfit:
            wrong.append((misfit.path, misfit.wrong))
    if wrong:
        raise raw.refuse(wrong)
    return found


def _case(raw: RawDocument, told: object, path: KeyPath) -> Case:
    if not isinstance(told, Mapping):
        raise Misfit(path, Wrong(f"expected a map, found {quoted(told)}"))
    for key in told:
        if key not in OF_A_CASE:
            raise Misfit((*path, key), Wrong("is no key of a case", nearest(str(key), OF_A_CASE)))
    name, expect = told.get("name"), told.get("expect")
    if not isinstance(name, str) or not name:
        raise Misfit(path, Wrong("has no name", "say in a sentence what must hold"))
    if not isinstance(expect, Mapping) or not expect:
        raise Misfit(path, Wrong(f"{quoted(name)} expects nothing", "write what must come of it under `expect`"))
    asked = told.get("policy", raw.data.get("policy"))
    if asked not in QUESTIONS:
        raise Misfit((*path, "policy"), Wrong(f"{quoted(asked)} is no policy", nearest(str(asked), QUESTIONS)))
    question = QUESTIONS[asked]
    given = _over(raw.data.get("given", {}), told.get("given", {}))
    if not isinstance(given, Mapping):
        raise Misfit((*path, "given"), Wrong(f"expected a map, found {quoted(given)}"))
    made = question.made(given, (*path, "given"))
    return Case(name=name, question=question, given=made, expect=expect, raw=raw, path=path)


def _over(below: object, above: object) -> object:
    """`above` laid over `below`: maps merge, all else replaces."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: _over(below[key], value) if key in below else value for key, value in above.items()}}


def _known(raw: RawDocument, told: Mapping[str, Any], path: KeyPath, known: Sequence[str]) -> None:
    strange = [key for key in told if key not in known]
    if strange:
        raise raw.refuse([((*path, key), Wrong("is not known here", nearest(str(key), known))) for key in strange])

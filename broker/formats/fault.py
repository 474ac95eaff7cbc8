"""The one error of every importer."""

from __future__ import annotations


class ImportFault(ValueError):
    """A foreign document that cannot be read. Nothing was stored.

    `place` is a path like `/workflow/specification/tasks/3/id` (a JSON pointer), `problem` says what is wrong there,
    `cure` what its author can do. All three are safe to print: foreign text in them went through `shown`.
    """

    def __init__(self, place: str, problem: str, cure: str) -> None:
        super().__init__(f"{place or 'the whole document'}: {problem}; {cure}")
        self.place = place
        self.problem = problem
        self.cure = cure

    @property
    def path(self) -> tuple[str | int, ...]:
        """`place` as keys and list positions from the top; empty where it is no place in the document."""
        _, *steps = self.place.split("/")
        return tuple(int(step) if step.isdecimal() else step for step in steps)


def shown(value: object, *, most: int = 80) -> str:
    """A foreign value for a message: quoted, without control characters, at most `most` characters of it.

    Containers are named and not printed: they may be of any size and depth.
    """
    if isinstance(value, str):
        return ascii(value if len(value) <= most else value[: most - 3] + "...")
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return "a number of more than 256 bits"  # printing it may be refused, or take minutes
    return ascii(value) if isinstance(value, bool | int | float) else kind(value)


def kind(value: object) -> str:
    """The JSON name of a value's type."""
    names = {type(None): "null", bool: "a bool", int: "a number", float: "a number", str: "a text"}
    names |= {list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")

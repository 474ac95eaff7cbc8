"""What the owner of this machine lets jobs know: values that are in no file of a job, only in its process."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress

from connectors.errors import CredentialError
from connectors.secrets import secret_from

NO_SECRETS: Mapping[str, str] = {}


class JobSecrets:
    """The references of one site (`env:NAME`, `file:PATH`), by the names that documents call them."""

    def __init__(self, site: str, references: Mapping[str, str]) -> None:
        self._site, self._references = site, references
        for reference in references.values():
            # from now on none of them is shown, whoever prints it: a job of a former process may still be writing
            with suppress(CredentialError):
                secret_from(reference, site=site)

    @property
    def variables(self) -> Collection[str]:
        """Those of this process that hold one: no job inherits them."""
        kinds = (reference.partition(":") for reference in self._references.values())
        return frozenset(name for kind, _, name in kinds if kind == "env")

    def told(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """Variables with their values. `wanted`: variables, and the name of each one's secret. Raises CredentialError,
        which names the reference and never the value."""
        found: dict[str, str] = {}
        for variable, name in wanted.items():
            if name not in self._references:
                raise CredentialError(f"site {self._site} has no secrets.{name}", site=self._site)
            value = secret_from(self._references[name], site=self._site).reveal()
            if "\0" in value or not value:
                what = "is empty" if not value else "holds a NUL character"
                raise CredentialError(f"site {self._site}: secrets.{name} {what}", site=self._site)
            found[variable] = value
        return found

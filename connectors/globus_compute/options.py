"""What only this connector knows: the `options` of its entry in the site document."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeOptions:
    """Each option by its name in the document."""

    endpoint: str
    """UUID of the endpoint that runs jobs."""
    files: str = "endpoint"
    """How small files are reached: `endpoint` (short functions at `files_endpoint`) or `mounted` (see `mount`)."""
    files_endpoint: str = ""
    """UUID of an endpoint on a login node, whose functions begin at once: one behind a queue would take hours to read a
    file."""
    mount: str = ""
    """The folder here that is the site's root."""
    base: str = "https://compute.api.globus.org"
    deadline: float = 60.0
    """Seconds for one call, and for a short function."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What every job's user_endpoint_config holds: account, queue, launcher_type, worker_init, ... as the endpoint's
    administrators have named it."""

    @classmethod
    def read(cls, site: str, options: Mapping[str, object]) -> ComputeOptions:
        """Raises ValueError, naming the option."""
        known = {"endpoint", "files", "files_endpoint", "mount", "base", "deadline", "config", "identity"}
        for name in options:
            if name not in known:
                raise ValueError(
                    f"site {site}: Globus Compute has no option {name!r} (it has {', '.join(sorted(known))})"
                )
        values: dict[str, Any] = {name: value for name, value in options.items() if name != "identity"}
        values["endpoint"] = _uuid(site, "endpoint", options.get("endpoint"))
        files = values.get("files", "endpoint")
        if files == "endpoint":
            values["files_endpoint"] = _uuid(site, "files_endpoint", options.get("files_endpoint"))
        elif files == "mounted":
            mount = options.get("mount")
            if not isinstance(mount, str) or not mount.startswith("/"):
                raise ValueError(f"site {site}: `files: mounted` needs the option `mount`, an absolute folder here")
        else:
            raise ValueError(f"site {site}: option files is {files!r}; give endpoint or mounted")
        base, deadline, config = values.get("base", ""), values.get("deadline", 1.0), values.get("config", {})
        if not isinstance(base, str) or (base and not base.startswith(("https://", "http://"))):
            raise ValueError(f"site {site}: option base is {base!r}; give an https address")
        if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not 0 < deadline <= 3600:
            raise ValueError(f"site {site}: option deadline is {deadline!r}; give seconds up to 3600")
        if not isinstance(config, Mapping):
            raise ValueError(f"site {site}: option config is {config!r}; give a map")
        return cls(**values)


def _uuid(site: str, name: str, value: object) -> str:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError as error:
        raise ValueError(f"site {site}: option {name} is {value!r}; give an endpoint's UUID") from error

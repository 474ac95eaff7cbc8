"""From a pod's template to what a facility is asked to run: containers become processes, empty volumes folders."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from sandbox.facility import Order

Secrets = Mapping[str, Mapping[str, str]]
"""Name of a Secret or ConfigMap: its keys and values."""
_UNITS = {
    "": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
}  # fmt: skip
_FORGET = "for name in $(env | sed -nE 's/^((SLURM|PBS)_[A-Za-z_]*)=.*/\\1/p'); do unset \"$name\"; done"


class Unmountable(Exception):
    """A container cannot be made: something that its environment refers to is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPlace:
    """Where a pod lives at the facility."""

    name: str
    namespace: str
    uid: str
    folder: str
    """Absolute; its volumes lie below."""
    log: str


def quantity(value: object) -> float:
    """`500m`, `2`, `4Gi`. 0 for what is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?", str(value))
    return float(found[1]) * _UNITS[found[2] or ""] if found else 0.0


def folders_of(spec: Mapping[str, Any], place: PodPlace) -> list[str]:
    """To be made before the pod starts."""
    return [f"{place.folder}/{volume['name']}" for volume in spec.get("volumes") or ()] or [f"{place.folder}/root"]


def order_of(job: Mapping[str, Any], place: PodPlace, secrets: Secrets, *, simulated_root: str = "") -> Order:
    """The pod as an order. `simulated_root`: nothing is executed; the folder of the bucket, for simulated payloads.

    Raises Unmountable.
    """
    spec = job["spec"]["template"]["spec"]
    containers = spec["containers"]
    main = containers[-1]
    env = _environment(main, place, secrets)
    if simulated_root:
        folder = f"{simulated_root}/{env.get('CROSSFADE_DIRECTORY', '')}".rstrip("/")
        script = f"#!/bin/sh\ncd {quote(folder)} || exit 1\nexec /bin/sh {quote(env.get('CROSSFADE_ENTRY', ''))}\n"
    else:
        script = "\n".join(_script(spec, place, secrets)) + "\n"
    asked = [container.get("resources") or {} for container in containers]
    requests = [{**(one.get("limits") or {}), **(one.get("requests") or {})} for one in asked]
    gpus = sum(quantity(value) for one in requests for name, value in one.items() if name.endswith("/gpu"))
    return Order(
        name=job["metadata"]["name"],
        comment=str((job["metadata"].get("annotations") or {}).get("crossfade/comment", ""))[:1000],
        script=script,
        directory=_workdir(main, spec, place),
        cores=max(1, math.ceil(sum(quantity(one.get("cpu", 0)) for one in requests))),
        memory=int(sum(quantity(one.get("memory", 0)) for one in requests)),
        gpus=int(gpus),
        qos=spec.get("priorityClassName", ""),
        walltime=spec.get("activeDeadlineSeconds"),
        requeue=False,
        env=env,
        stdout=place.log,
        extra={"open_mode": "append"},
    )


def _script(spec: Mapping[str, Any], place: PodPlace, secrets: Secrets) -> Iterator[str]:
    """Init containers one after another; then the others at once, the last one in the place of the shell."""
    yield "#!/bin/sh"
    yield _FORGET
    for container in spec.get("initContainers") or ():
        yield f"{_started(container, spec, place, secrets)} || exit $?"
    *beside, main = spec["containers"]
    for container in beside:
        yield f"{_started(container, spec, place, secrets)} &"
    yield f"cd {quote(_workdir(main, spec, place))} || exit 1"
    if beside:
        yield f"{_words(main, place, secrets)}\ncode=$?\nwait\nexit $code"
    else:
        yield f"exec {_words(main, place, secrets)}"


def _started(container: Mapping[str, Any], spec: Mapping[str, Any], place: PodPlace, secrets: Secrets) -> str:
    exports = "".join(
        f"export {name}={quote(value)}; " for name, value in _environment(container, place, secrets).items()
    )
    return f"( {exports}cd {quote(_workdir(container, spec, place))} && {_words(container, place, secrets)} )"


def _words(container: Mapping[str, Any], place: PodPlace, secrets: Secrets) -> str:
    env = _environment(container, place, secrets)
    words = [*(container.get("command") or ()), *(container.get("args") or ())] or ["true"]
    return " ".join(quote(_expanded(str(word), env)) for word in words)


def _workdir(container: Mapping[str, Any], spec: Mapping[str, Any], place: PodPlace) -> str:
    """The folder behind the container's working directory: of the volume that is mounted there."""
    wanted = str(container.get("workingDir") or "")
    for mount in container.get("volumeMounts") or ():
        path = str(mount.get("mountPath", "")).rstrip("/")
        if wanted == path or wanted.startswith(f"{path}/"):
            return f"{place.folder}/{mount['name']}{wanted[len(path) :]}"
    return folders_of(spec, place)[0]


def _environment(container: Mapping[str, Any], place: PodPlace, secrets: Secrets) -> dict[str, str]:
    env = {"HOSTNAME": place.name, "KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    for source in container.get("envFrom") or ():
        reference = source.get("secretRef") or source.get("configMapRef") or {}
        env.update(_book(secrets, reference))
    for item in container.get("env") or ():
        if "valueFrom" not in item:
            env[item["name"]] = _expanded(str(item.get("value") or ""), env)
        elif (value := _referred(item["valueFrom"], place, secrets)) is not None:
            env[item["name"]] = value
    return env


def _referred(source: Mapping[str, Any], place: PodPlace, secrets: Secrets) -> str | None:
    if "fieldRef" in source:
        values = {
            "metadata.name": place.name,
            "metadata.namespace": place.namespace,
            "metadata.uid": place.uid,
            "spec.nodeName": "node001",
            "status.podIP": "10.0.0.1",
        }
        return values.get(source["fieldRef"].get("fieldPath", ""), "")
    reference = source.get("secretKeyRef") or source.get("configMapKeyRef") or {}
    value = _book(secrets, reference).get(str(reference.get("key", "")))
    if value is None and reference and not reference.get("optional"):
        raise Unmountable(f"couldn't find key {reference.get('key')} in Secret {reference.get('name')}")
    return value


def _book(secrets: Secrets, reference: Mapping[str, Any]) -> Mapping[str, str]:
    name = str(reference.get("name", ""))
    if name not in secrets and not reference.get("optional"):
        raise Unmountable(f'secret "{name}" not found')
    return secrets.get(name, {})


def _expanded(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` of what is known; `$$` is one `$`."""

    def put(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return env.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([\w.-]+)\)", put, text)


def waits(spec: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """All containers of a pod."""
    return [*(spec.get("initContainers") or ()), *spec["containers"]]

"""How the Globus Compute SDK writes functions and arguments down. The one place that imports it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from connectors.errors import RequestRefused

NAME = "crossfade_shell"
RESULTS = ["globus_compute_sdk.serialize.JSONData"]
"""Results are asked for as JSON: a pickle from elsewhere is never opened."""
_JSON = "11\n"


@cache
def job_function() -> Mapping[str, Any]:
    """What registers the function that is a job: a ShellFunction that runs the line it is given, and answers with a
    dict."""
    sdk = _sdk()
    return _registration(sdk.ShellFunction("{line}", name=NAME, return_dict=True), sdk.serialize.ComputeSerializer())


@cache
def script_function() -> Mapping[str, Any]:
    """What registers the function that reaches files. No ShellFunction: a command line holds 128 KiB, a stdin does not
    end there. It travels as its text, so that the Python there need not be the one here."""
    strategy = _sdk().serialize.PureSourceTextInspect()
    return _registration(crossfade_script, _sdk().serialize.ComputeSerializer(strategy_code=strategy))


def crossfade_script(script, stdin):  # type: ignore[no-untyped-def]  # its text is run elsewhere, by an older Python maybe
    """Run a script of /bin/sh with that stdin, both base64 where they go in or come out."""
    import base64  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    done = subprocess.run(["/bin/sh", "-c", script], input=base64.b64decode(stdin), stdout=-1, stderr=-1, check=False)
    return {"stdout": base64.b64encode(done.stdout).decode(), "returncode": done.returncode}


def submission(function: str, given: Mapping[str, str], *, group: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The body that submits one call, with these arguments. `group`: the task group's UUID, of our choosing."""
    sdk = _sdk()
    batch = sdk.sdk.batch.Batch(
        task_group_id=group,
        user_endpoint_config=dict(config) or None,
        serializer=sdk.serialize.ComputeSerializer(strategy_data=sdk.serialize.JSONData()),
        user_runtime=sdk.sdk.batch.create_user_runtime(),
        result_serializers=RESULTS,
    )
    batch.add(function, kwargs=dict(given))
    body: dict[str, Any] = batch.prepare()
    return body


def result_of(packed: object) -> Mapping[str, Any] | None:
    """The dict that our function answered with; None: something else, which is left alone."""
    if not isinstance(packed, str) or not packed.startswith(_JSON):
        return None
    try:
        found = json.loads(packed.removeprefix(_JSON))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _registration(function: object, serializer: object) -> Mapping[str, Any]:
    data = _sdk().sdk.client.FunctionRegistrationData(function=function, serializer=serializer)
    told: dict[str, Any] = data.to_dict()
    return told


def _sdk() -> Any:
    try:
        import globus_compute_sdk  # noqa: PLC0415 - an optional extra, and slow to import
        import globus_compute_sdk.sdk.batch  # noqa: PLC0415
        import globus_compute_sdk.sdk.client  # noqa: PLC0415
        import globus_compute_sdk.serialize  # noqa: PLC0415
    except ImportError as error:
        raise RequestRefused("Globus Compute needs its SDK: pip install 'crossfade[globus-compute]'") from error
    return globus_compute_sdk

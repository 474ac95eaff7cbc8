"""Submissions as they come: JSON read with limits, and made to an order."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sandbox.faces.globus.replies import Denied
from sandbox.globus.orders import ALGORITHMS, FilterRule, Item, Kind, Order
from sandbox.globus.pace import Limits

_LONGEST_LABEL = 128
_LONGEST_PATH = 4096
_MOST_RULES = 1000
_SYMLINKS = ("ignore", "keep", "copy")
_LINE_ENDS = re.compile(r"[\x00\r\n]")


def order_of(document: object, kind: Kind, *, limits: Limits, now: int) -> Order:
    """What is asked for. Raises Denied."""
    if not isinstance(document, Mapping) or document.get("DATA_TYPE") != kind.value.lower():
        raise _bad(f"a document of DATA_TYPE {kind.value.lower()} is needed")
    items = document.get("DATA")
    if not isinstance(items, Sequence) or isinstance(items, str) or not items:
        code = f"ClientError.BadRequest.No{kind.value.title()}Items"
        raise Denied(code, f"A {kind.value.lower()} requires at least one item", 400)
    if len(items) > limits.items:
        raise Denied("ClientError.RequestTooLarge", f"at most {limits.items} items", 413)
    transfer = kind is Kind.TRANSFER
    return Order(
        kind=kind,
        submission_id=_uuid(document, "submission_id"),
        source=_text(document, "source_endpoint" if transfer else "endpoint"),
        destination=_text(document, "destination_endpoint") if transfer else "",
        items=[_transfer_item(item) if transfer else Item(source=_path(item, "path")) for item in items],
        label=label_of(document),
        deadline=deadline_of(document, now=now),
        sync_level=_level(document.get("sync_level")),
        verify_checksum=_flag(document, "verify_checksum"),
        encrypt_data=_flag(document, "encrypt_data"),
        preserve_timestamp=_flag(document, "preserve_timestamp"),
        delete_destination_extra=_flag(document, "delete_destination_extra"),
        skip_source_errors=_flag(document, "skip_source_errors"),
        fail_on_quota_errors=_flag(document, "fail_on_quota_errors"),
        recursive_symlinks=_one_of(document, "recursive_symlinks", _SYMLINKS, "ignore"),
        filter_rules=_rules(document.get("filter_rules")),
        recursive=_flag(document, "recursive"),
        ignore_missing=_flag(document, "ignore_missing"),
        interpret_globs=_flag(document, "interpret_globs"),
    )


def label_of(document: Mapping[str, Any]) -> str:
    """Its label; empty: none. Raises Denied."""
    label = document.get("label") or ""
    if not isinstance(label, str) or len(label) > _LONGEST_LABEL or label != label.strip() or _LINE_ENDS.search(label):
        raise _bad(f"label: up to {_LONGEST_LABEL} characters on one line, without space around them")
    return label


def deadline_of(document: Mapping[str, Any], *, now: int) -> int | None:
    """µs; None: there is none. Raises Denied."""
    text = document.get("deadline")
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise _bad("deadline: a time as ISO 8601 has it") from error
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    found = round(at.timestamp() * 1e6)
    if found <= now:
        raise _bad("deadline: it has passed")
    return found


def _transfer_item(item: object) -> Item:
    if not isinstance(item, Mapping) or item.get("DATA_TYPE") not in ("transfer_item", "transfer_symlink_item"):
        raise _bad("items are of DATA_TYPE transfer_item or transfer_symlink_item")
    recursive = item.get("recursive")
    if recursive is not None and not isinstance(recursive, bool):
        raise _bad("recursive: true or false")
    checksum, algorithm = item.get("external_checksum") or "", item.get("checksum_algorithm") or ""
    if not isinstance(checksum, str) or (algorithm and str(algorithm).upper() not in ALGORITHMS):
        raise _bad(f"checksum_algorithm: one of {', '.join(ALGORITHMS)}")
    return Item(
        source=_path(item, "source_path"),
        destination=_path(item, "destination_path"),
        recursive=recursive,
        checksum=checksum,
        algorithm=str(algorithm).upper(),
        link=item["DATA_TYPE"] == "transfer_symlink_item",
    )


def _rules(rules: object) -> list[FilterRule]:
    if rules is None:
        return []
    if not isinstance(rules, list) or len(rules) > _MOST_RULES:
        raise _bad(f"filter_rules: a list of up to {_MOST_RULES}")
    return [_rule(rule) for rule in rules]


def _rule(rule: object) -> FilterRule:
    if not isinstance(rule, Mapping) or rule.get("method", "exclude") not in ("include", "exclude"):
        raise _bad("filter_rules: each has a method, include or exclude")
    kind = rule.get("type") or ""
    if kind not in ("", "file", "dir"):
        raise _bad("filter_rules: type is file or dir")
    return FilterRule(name=_text(rule, "name"), include=rule.get("method") == "include", kind=kind)


def _path(item: object, name: str) -> str:
    path = item.get(name) if isinstance(item, Mapping) else None
    if not isinstance(path, str) or not path or len(path) > _LONGEST_PATH or _LINE_ENDS.search(path):
        raise _bad(f"{name}: a path on one line")
    if ".." in path.split("/"):
        raise _bad(f"{name}: a path without `..`")
    return path


def _level(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or value not in (0, 1, 2, 3):
        raise _bad("sync_level: 0, 1, 2 or 3")
    return int(str(value))


def _flag(document: Mapping[str, Any], name: str) -> bool:
    value = document.get(name)
    if value is not None and not isinstance(value, bool):
        raise _bad(f"{name}: true or false")
    return bool(value)


def _one_of(document: Mapping[str, Any], name: str, words: Sequence[str], default: str) -> str:
    value = document.get(name) or default
    if value not in words:
        raise _bad(f"{name}: one of {', '.join(words)}")
    return str(value)


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise _bad(f"{name} is needed")
    return value


def _uuid(document: Mapping[str, Any], name: str) -> str:
    try:
        return str(uuid.UUID(_text(document, name)))
    except ValueError as error:
        raise _bad(f"{name}: a UUID") from error


def _bad(text: str) -> Denied:
    return Denied("ClientError.BadRequest", text, 400)

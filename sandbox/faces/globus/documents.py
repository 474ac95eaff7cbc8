"""The documents of the Transfer API: every key of them, because clients index them."""

from __future__ import annotations

import base64
import uuid
from datetime import UTC, datetime

from sandbox.faces.globus.replies import Document, iso
from sandbox.globus.collections import GUEST, Collection, Entry
from sandbox.globus.orders import Kind
from sandbox.globus.pieces import Copied, What
from sandbox.globus.service import GlobusService
from sandbox.globus.task import Event, Skipped, Status, Task

_RECENT = 15 * 60_000_000
"""µs for which an error is told of a task that waits."""
OWNER = "user@example.org"


def username(identity: str) -> str:
    """As the service makes it of an identity's id."""
    return "u_" + base64.b32encode(uuid.UUID(identity).bytes).decode().rstrip("=").lower()


def task_document(task: Task, service: GlobusService) -> Document:
    """Of the task as it is now."""
    source, destination = service.ends(task)
    transfer = task.kind is Kind.TRANSFER
    counts, order = task.counts, task.order
    end = task.completed_at if task.completed_at is not None else service.now()
    seconds = max(1, (end - task.requested_at) // 1_000_000)
    retrying = int(task.retrying and task.current is not None)
    return {
        "DATA_TYPE": "task",
        "task_id": task.id,
        "type": task.kind.value,
        "status": task.status.value,
        "label": task.label or None,
        "owner_id": task.owner,
        "username": task.username,
        "command": "API 0.10",
        "request_time": iso(task.requested_at),
        "completion_time": iso(task.completed_at),
        "deadline": iso(service.deadline(task)),
        "source_endpoint_id": source.id,
        "source_endpoint": f"{task.username}#{source.id}",
        "source_endpoint_display_name": source.display_name,
        "destination_endpoint_id": destination.id if transfer else None,
        "destination_endpoint": f"{task.username}#{destination.id}" if transfer else None,
        "destination_endpoint_display_name": destination.display_name if transfer else None,
        "source_base_path": None,
        "destination_base_path": None,
        "source_local_user": None,
        "source_local_user_status": None,
        "destination_local_user": None,
        "destination_local_user_status": None,
        "files": counts.files,
        "directories": counts.directories,
        "symlinks": counts.symlinks,
        "files_skipped": counts.files_skipped,
        "files_transferred": counts.files_transferred if transfer else None,
        "bytes_transferred": counts.bytes,
        "bytes_checksummed": counts.checksummed,
        "effective_bytes_per_second": counts.bytes // seconds,
        "faults": counts.faults,
        "fatal_error": None if task.fatal is None else {"code": task.fatal[0], "description": task.fatal[1]},
        **_nice(task, service),
        "is_paused": task.paused_now,
        "subtasks_total": counts.subtasks,
        "subtasks_pending": task.left - retrying,
        "subtasks_retrying": retrying,
        "subtasks_succeeded": counts.succeeded,
        "subtasks_failed": counts.failed,
        "subtasks_canceled": counts.canceled,
        "subtasks_expired": counts.expired,
        "subtasks_skipped_errors": counts.skipped_errors,
        "sync_level": order.sync_level,
        "verify_checksum": order.verify_checksum,
        "encrypt_data": order.encrypt_data,
        "preserve_timestamp": order.preserve_timestamp,
        "delete_destination_extra": order.delete_destination_extra,
        "skip_source_errors": order.skip_source_errors,
        "fail_on_quota_errors": order.fail_on_quota_errors,
        "recursive_symlinks": order.recursive_symlinks,
        "filter_rules": [
            {
                "DATA_TYPE": "filter_rule",
                "method": "include" if rule.include else "exclude",
                "name": rule.name,
                "type": rule.kind or None,
            }
            for rule in order.filter_rules
        ]
        or None,
        "history_deleted": False,
        "canceled_by_admin": None,
        "canceled_by_admin_message": None,
    }


def _nice(task: Task, service: GlobusService) -> Document:
    """How it fares; nothing of a task that is over."""
    if task.status.final:
        code, short, fine, expires = None, None, None, None
    elif task.paused_now:
        code, short, fine, expires = "PAUSED", "paused", False, -1
    elif task.trouble is not None and (not task.waits or service.now() - task.trouble.at < _RECENT):
        code, short, fine, expires = task.trouble.code, task.trouble.short, False, -1
    elif task.waits:
        code, short, fine, expires = "Queued", "queued", True, -1
    else:
        code, short, fine, expires = "OK", "OK", True, -1
    expired = 0 if task.status is Status.INACTIVE else expires
    return {
        "nice_status": code,
        "nice_status_short_description": short,
        "nice_status_details": None,
        "nice_status_expires_in": expired,
        "is_ok": fine,
    }


def event_document(event: Event, task: Task) -> Document:
    return {
        "DATA_TYPE": "event",
        "code": event.code,
        "is_error": event.is_error,
        "description": event.description,
        "details": event.details,
        "time": iso(event.at),
        "parent_task_id": task.id,
    }


def copied_document(copied: Copied) -> Document:
    return {
        "DATA_TYPE": "successful_transfer",
        "source_path": copied.source,
        "destination_path": copied.destination,
        "size": copied.size,
        "checksum": copied.checksum,
        "checksum_algorithm": copied.algorithm,
        "dynamic": False,
    }


def skipped_document(skipped: Skipped) -> Document:
    piece = skipped.piece
    return {
        "DATA_TYPE": "skipped_error",
        "error_code": skipped.code,
        "error_details": skipped.details,
        "error_time": iso(skipped.at),
        "source_path": piece.source,
        "destination_path": piece.destination,
        "is_directory": piece.what is What.FOLDER,
        "is_symlink": piece.what is What.LINK,
        "is_delete_destination_extra": piece.what is What.EXTRA,
        "external_checksum": piece.item.checksum or None,
        "checksum_algorithm": piece.item.algorithm or None,
    }


def pause_document(task: Task, service: GlobusService) -> Document:
    """Why it stands still."""
    transfer = task.kind is Kind.TRANSFER
    rules = [
        {
            "DATA_TYPE": "pause_rule_limited",
            "id": str(uuid.uuid5(uuid.UUID(side.id), side.paused)),
            "message": side.paused,
            "start_time": None,
            "endpoint_id": side.id,
            "endpoint_display_name": side.display_name,
            "identity_id": None,
            "modified_time": iso(service.now()),
            "pause_ls": False,
            "pause_mkdir": False,
            "pause_symlink": False,
            "pause_rename": False,
            "pause_task_delete": not transfer,
            "pause_task_transfer_read": transfer,
            "pause_task_transfer_write": transfer,
        }
        for side in service.sides(task)
        if side.paused
    ]
    return {
        "DATA_TYPE": "pause_info_limited",
        "pause_rules": rules,
        "source_pause_message": task.paused or None,
        "destination_pause_message": None,
        "source_pause_message_share": None,
        "destination_pause_message_share": None,
    }


def file_document(entry: Entry) -> Document:
    link = entry.link_target is not None
    return {
        "DATA_TYPE": "file",
        "name": entry.name,
        "type": entry.type,
        "size": entry.size,
        "last_modified": _stamp(entry.modified_at),
        "permissions": f"{entry.mode:04o}",
        "user": "user",
        "group": "user",
        "link_target": entry.link_target,
        "link_size": entry.link_size,
        "link_user": "user" if link else None,
        "link_group": "user" if link else None,
        "link_last_modified": None if entry.link_modified_at is None else _stamp(entry.link_modified_at),
    }


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat(sep=" ")


def endpoint_document(collection: Collection, *, host: str) -> Document:
    """`host`: scheme and authority under which the client has asked."""
    guest = collection.entity_type == GUEST
    personal = collection.entity_type.startswith("GCP_")
    return {
        "DATA_TYPE": "endpoint",
        "DATA": [],
        "id": collection.id,
        "display_name": collection.display_name,
        "name": collection.id,
        "canonical_name": f"user#{collection.id}",
        "username": username(collection.id),
        "owner_id": collection.id,
        "owner_string": OWNER,
        "entity_type": collection.entity_type,
        "organization": "Rehearsal",
        "department": None,
        "keywords": None,
        "description": "A folder of this machine",
        "contact_email": None,
        "contact_info": None,
        "info_link": None,
        "user_message": collection.paused or None,
        "user_message_link": None,
        "public": True,
        "subscription_id": None,
        "default_directory": collection.default_directory,
        "host_path": None,
        "host_endpoint": None,
        "host_endpoint_id": None,
        "host_endpoint_display_name": None,
        "mapped_collection_id": None,
        "mapped_collection_display_name": None,
        "high_assurance": collection.high_assurance,
        "authentication_timeout_mins": 30 if collection.high_assurance else 15_840,
        "authentication_assurance_timeout": 30 if collection.high_assurance else 15_840,
        "acl_max_expiration_period_mins": None,
        "mfa_required": "session_required_mfa" in collection.session,
        "force_encryption": False,
        "force_verify": collection.force_verify,
        "disable_verify": collection.disable_verify,
        "disable_anonymous_writes": False,
        "french_english_bilingual": False,
        "non_functional": False,
        "non_functional_endpoint_id": None,
        "non_functional_endpoint_display_name": None,
        "https_server": https_address(collection, host) if collection.https else None,
        "tlsftp_server": f"tlsftp://{collection.id}.example.org:443",
        "gcs_manager_url": "https://manager.example.org",
        "gcs_version": "5.4.80",
        "gcp_connected": (not collection.down) if personal else None,
        "gcp_paused": False if personal else None,
        "is_globus_connect": personal,
        "globus_connect_setup_key": None,
        "network_use": "normal",
        "location": None,
        "max_concurrency": 4,
        "preferred_concurrency": 2,
        "max_parallelism": 4,
        "preferred_parallelism": 2,
        "requester_pays": False,
        "local_user_info_available": True,
        "my_effective_roles": [],
        "in_use": False,
        "last_accessed_time": None,
        "shareable": not guest,
        "acl_available": guest,
        "acl_editable": False,
        # of an age that is over; clients still have columns for them
        "activated": False,
        "expires_in": -1,
        "expire_time": None,
        "myproxy_server": None,
        "myproxy_dn": None,
        "oauth_server": None,
        "s3_url": None,
        "s3_owner_activated": False,
    }


def https_address(collection: Collection, host: str) -> str:
    """Where its files are had one by one."""
    return f"{host}/collections/{collection.id}"

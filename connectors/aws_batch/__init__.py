"""The connector for AWS Batch, with a bucket for files. See `connectors.aws_batch.site`."""

from __future__ import annotations

from typing import Any

from connectors.aws_batch.options import BatchOptions, options_of
from connectors.aws_batch.site import AwsBatchSite
from connectors.errors import RequestRefused
from connectors.files.bucket import bucket_files
from connectors.files.signing import keys_from
from connectors.registry import Clock, SiteConfig

__all__ = ["AwsBatchSite", "BatchOptions", "make"]


def make(config: SiteConfig, clock: Clock) -> AwsBatchSite:
    """From a site's entry. Raises RequestRefused and CredentialError, saying what is missing."""
    options = options_of(config)
    files = bucket_files(config, clock)
    return AwsBatchSite(
        name=config.name,
        client=_client(config, options),
        files=files,
        options=options,
        clock=clock,
        owner=config.installation,
        heartbeat=config.heartbeat,
    )


def _client(config: SiteConfig, options: BatchOptions) -> Any:
    """botocore's, with its own retries off: it would send a submission again."""
    try:
        import boto3  # noqa: PLC0415 - an extra
        from botocore.config import Config  # noqa: PLC0415
    except ImportError as error:
        what = f"site {config.name}: AWS Batch needs boto3: pip install 'crossfade[aws]'"
        raise RequestRefused(what, site=config.name) from error
    given: dict[str, str] = {}
    if "access_key" in config.credentials:
        pair = keys_from(config.credentials, site=config.name)()
        given = {"aws_access_key_id": pair.access, "aws_secret_access_key": pair.secret.reveal()}
        if pair.token:
            given["aws_session_token"] = pair.token.reveal()
    settings = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30)
    return boto3.client(
        "batch",
        region_name=options.region,
        endpoint_url=options.batch_endpoint or None,
        config=settings,
        **given,
    )

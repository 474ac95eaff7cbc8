"""Settings: read once at the entry point, passed down from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from broker.addresses import Address, read_address
from broker.errors import UsageError
from broker.people import whoami
from policies.brake import PER_MINUTE
from policies.numbers import USUAL_NUMBERS, Numbers

DATABASE = "CROSSFADE_DATABASE"
FAILOVERS = "CROSSFADE_FAILOVERS_PER_MINUTE"
POLICY = "CROSSFADE_POLICY"
PEOPLE_FILE = "CROSSFADE_PEOPLE_FILE"
REDIS = "CROSSFADE_REDIS"
REDIS_CA = "CROSSFADE_REDIS_CA_FILE"
TOKEN_FILE = "CROSSFADE_TOKEN_FILE"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where this installation's state is, and where its sites are told."""

    home: Path
    """CROSSFADE_HOME: the database, the blobs of documents, the default local site."""
    sites: Path | None = None
    """`--sites` or CROSSFADE_SITES; None: searched."""
    user: str = ""
    """As events name it: USER or LOGNAME."""
    person: str = ""
    """Who this is where two persons must agree: as the operating system knows it, whatever variables say."""
    postgres: Address | None = None
    """CROSSFADE_DATABASE: the truth of a service; None: SQLite in the home, for one process."""
    redis: Address | None = None
    """CROSSFADE_REDIS: the wake-ups of a service."""
    redis_ca: Path | None = None
    """CROSSFADE_REDIS_CA_FILE: whose certificates are believed with `rediss://`; None: the system's."""

    token_file: Path | None = None
    """CROSSFADE_TOKEN_FILE: what HTTP clients must show; None: `token` in the home."""

    failovers_per_minute: int = PER_MINUTE
    """CROSSFADE_FAILOVERS_PER_MINUTE: stages that may be carried elsewhere within a minute; 0: any number."""
    numbers: Numbers = USUAL_NUMBERS
    """CROSSFADE_POLICY: a policy file, whose numbers the policies go by."""

    people_file: Path | None = None
    """CROSSFADE_PEOPLE_FILE: who asks over HTTP under a name of his own; None: `people` in the home, if it is there."""

    @property
    def database(self) -> Path:
        return self.home / "crossfade.db"

    @property
    def is_service(self) -> bool:
        """Many processes over PostgreSQL and Redis, instead of one over SQLite."""
        return self.postgres is not None

    @property
    def where(self) -> str:
        """The installation in words, without secrets."""
        return str(self.postgres or self.home)

    @property
    def blobs(self) -> Path:
        """Contents of documents' files, by digest."""
        return self.home / "blobs"

    @property
    def token(self) -> Path:
        """The file with the installation's token."""
        return self.token_file or self.home / "token"

    @property
    def people(self) -> Path:
        """The file with the digests of persons' own tokens."""
        return self.people_file or self.home / "people"

    @property
    def socket(self) -> Path:
        """Where the server of this home listens."""
        return self.home / "serve.sock"

    @property
    def lock(self) -> Path:
        """Held by the one process that serves."""
        return self.home / "serve.lock"

    def transport(self) -> Address:
        """Redis, for those who cannot do without. Raises UsageError."""
        if self.redis is None:
            raise UsageError(
                f"{DATABASE} is set and {REDIS} is not", help=f"set {REDIS}=redis://... : workers wake each other by it"
            )
        return self.redis


def read_settings(environ: Mapping[str, str], *, sites: Path | None = None, policy: Path | None = None) -> Settings:
    """Settings from the environment; `sites` beats CROSSFADE_SITES, `policy` CROSSFADE_POLICY.

    Raises UsageError, and DocumentError for a policy file that cannot be used.
    """
    told = environ.get("CROSSFADE_SITES")
    numbers = _policy(environ, policy)
    ca, token, people = (environ.get(name) for name in (REDIS_CA, TOKEN_FILE, PEOPLE_FILE))
    settings = Settings(
        home=_home(environ),
        sites=sites or (Path(told).expanduser() if told else None),
        user=environ.get("USER") or environ.get("LOGNAME") or whoami(),
        person=whoami(),
        postgres=read_address(environ, DATABASE, ("postgresql", "postgresql+psycopg")),
        redis=read_address(environ, REDIS, ("redis", "rediss", "redis+socket")),
        redis_ca=Path(ca).expanduser() if ca else None,
        failovers_per_minute=_failovers(environ, numbers.brake.per_minute),
        numbers=numbers,
        token_file=Path(token).expanduser() if token else None,
        people_file=Path(people).expanduser() if people else None,
    )
    if settings.redis is not None and settings.postgres is None:
        raise UsageError(
            f"{REDIS} is set and {DATABASE} is not",
            help=f"set {DATABASE}=postgresql://... : SQLite serves one process, which needs no Redis",
        )
    if settings.redis is not None and settings.redis_ca is not None:
        _check_ca(settings.redis, settings.redis_ca)
    return settings


def _check_ca(redis: Address, ca: Path) -> None:
    """Raises UsageError for one that would not be used, or not be found, which the driver tells only by not working."""
    if redis.scheme != "rediss":
        raise UsageError(
            f"{REDIS_CA} is set, and {REDIS} begins with {redis.scheme}", help=f"set {REDIS}=rediss://... , or unset it"
        )
    try:
        with ca.open("rb"):
            pass
    except OSError as error:
        raise UsageError(f"{REDIS_CA}: cannot read {ca}: {error.strerror}", help="name a file in PEM form") from error


def _policy(environ: Mapping[str, str], path: Path | None) -> Numbers:
    told = environ.get(POLICY)
    path = path or (Path(told).expanduser() if told else None)
    if path is None:
        return USUAL_NUMBERS
    from broker.policy_file import read_numbers  # noqa: PLC0415 - for those who have one

    return read_numbers(path)


def _failovers(environ: Mapping[str, str], usual: int) -> int:
    told = environ.get(FAILOVERS, "").strip()
    if not told:
        return usual
    if not (told.isascii() and told.isdigit() and len(told) <= 6):
        raise UsageError(f"{FAILOVERS} is {told[:40]!r}", help="write a whole number of stages, 0 for no limit")
    return int(told)


def _home(environ: Mapping[str, str]) -> Path:
    told = environ.get("CROSSFADE_HOME")
    if told:
        return Path(told).expanduser().absolute()
    data = environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser().absolute() / "crossfade"

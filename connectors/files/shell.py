"""Small files through a site's shell: the port SiteFiles over whatever can run a script there.

`Run` is all that is asked of a connector: run this POSIX sh text at the site, with these lines as its stdin, and give
back what it printed. Whatever a login shell prints besides does no harm; a reply without its end is no reply.

As far as a shell can tell, no path leaves the root: symbolic links are looked for before each step. Between the look
and the step another program of the same user could put one there; the site's own rights are then what is left.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from connectors.errors import (
    BadReply,
    NotThere,
    QuotaError,
    RequestRefused,
    SiteError,
    SiteUnreachable,
    UnsafePath,
)
from connectors.files import shell_scripts as scripts
from connectors.model import FileInfo, SmallFile
from connectors.paths import RESERVED, clean, file_path

Run = Callable[[str, bytes], bytes]
"""Runs a script with that stdin, and answers its stdout. Raises SiteError; never runs it twice."""

MOST_SENT = 8 << 20
"""Bytes of contents in one call; more files go in several."""
MOST_TOLD = 64 << 20
"""Bytes of a reply."""
_KINDS_WITH_BODY = frozenset({"f", "l", "e"})
_TEMPORARY = (".cf-", ".tmp")


class ShellFiles:
    """The port SiteFiles, and `prepare`. `root`: absolute, at the site. `umask`: octal, for folders made there.
    `marked` False: the root has no identity, because it is no site's; that it is there is all that can be asked."""

    def __init__(
        self, run: Run, *, site: str, root: str, umask: str = "077", identity: str = "", marked: bool = True
    ) -> None:
        if not root.startswith("/") or not root.strip("/") or clean(root.lstrip("/")) != root.strip("/"):
            raise RequestRefused(f"site {site}: root {root!r} is no absolute path of a folder", site=site)
        if set(umask) - set("01234567") or not 3 <= len(umask) <= 4:
            raise RequestRefused(f"site {site}: umask {umask!r} is not three or four octal digits", site=site)
        self._run = run
        self._site = site
        self.root = "/" + root.strip("/")
        self._umask = umask
        self._identity = identity if marked else scripts.UNMARKED
        self._lock = threading.Lock()

    def prepare(self) -> str:
        """Make the root and its spool where they are not there; answers its identity. Raises RequestRefused."""
        records = list(self.ask(scripts.PREPARE, [secrets.token_hex(16)], recognise=False))
        for record in records:
            if record.kind == "i" and record.facts:
                return record.facts[0]
            if record.kind == "e":
                raise RequestRefused(f"site {self._site}: cannot make its root {self.root}: {record.text}")
        raise BadReply(f"site {self._site}: the shell did not say whether the root was made", site=self._site)

    # -- the port ------------------------------------------------------------------------------------------

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        found = self._read([path], offset=offset, limit=limit)
        if path not in found:
            raise NotThere(f"site {self._site}: {path} is not there", site=self._site)
        return found[path]

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        return self._read(paths, offset=0, limit=limit) if paths else {}

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        self.write_many([SmallFile(path=path, content=content, mode=mode)])

    def write_many(self, files: Sequence[SmallFile]) -> None:
        checked = [(writable(file.path), file) for file in files]
        batch: list[tuple[str, SmallFile]] = []
        size = 0
        for path, file in checked:
            if batch and size + len(file.content) > MOST_SENT:
                self._write(batch)
                batch, size = [], 0
            batch.append((path, file))
            size += len(file.content)
        if batch:
            self._write(batch)

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        folder = clean(path)
        records = list(self.ask(scripts.LIST, ["all" if recursive else "1", folder]))
        self.complain(records, [path])
        found = [info for record in records if record.kind == "l" for info in _entries(record.body, folder)]
        return sorted(found, key=lambda info: info.path)

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        if not paths:
            return {}
        found: dict[str, tuple[int, str]] = {}
        records = list(self.ask(scripts.DIGESTS, [file_path(path) for path in paths]))
        self.complain(records, paths)
        for record in records:
            if record.kind == "d":
                size, digest = record.number(1), record.facts[2] if len(record.facts) > 2 else ""
                if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                    raise BadReply(f"site {self._site}: the shell told no SHA-256", site=self._site)
                found[record.about(paths)] = (size, digest)
        return found

    def remove(self, paths: Sequence[str]) -> None:
        if paths:
            self.complain(list(self.ask(scripts.REMOVE, [file_path(writable(path)) for path in paths])), paths)

    # -- behind --------------------------------------------------------------------------------------------

    def _read(self, paths: Sequence[str], *, offset: int, limit: int) -> dict[str, bytes]:
        lines = [line for path in paths for line in (str(offset), str(limit), file_path(path))]
        records = list(self.ask(scripts.READ, lines))
        self.complain(records, paths)
        found: dict[str, bytes] = {}
        gone = {record.about(paths) for record in records if record.kind == "m"}
        for record in records:
            if record.kind != "f" or record.about(paths) in gone:
                continue
            start, size = record.number(1), record.number(2)
            # it may have grown since; less than there was is a read that failed
            if len(record.body) > limit or len(record.body) < min(limit, max(0, size - start)):
                what = f"site {self._site}: {record.about(paths)} was not read whole"
                raise SiteUnreachable(what, site=self._site)
            found[record.about(paths)] = record.body
        return found

    def _write(self, batch: Sequence[tuple[str, SmallFile]]) -> None:
        head = [str(3 * len(batch))]
        for path, file in batch:
            head += [f"{file.mode & 0o777:o}", str(len(file.content)), path]
        contents = b"\n".join(base64.encodebytes(file.content) for _, file in batch)
        records = list(self.ask(scripts.WRITE, head, contents))
        self.complain(records, [path for path, _ in batch])
        if not any(record.kind == "w" and record.number(0) == len(batch) for record in records):
            raise BadReply(f"site {self._site}: the shell did not say that all was written", site=self._site)

    def ask(self, script: str, lines: Sequence[str], more: bytes = b"", *, recognise: bool = True) -> Iterator[Record]:
        """The records that such a script answers with, see `shell_scripts`. Raises SiteError."""
        nonce = secrets.token_hex(8)
        head = "".join(f"{line}\n" for line in (nonce, self.root, self._umask, self._identity, *lines))
        told = self._run(f"{scripts.HEAD}{script}{scripts.TAIL}", head.encode() + more)
        for record in _records(_between(told, nonce, self._site), self._site):
            if record.kind == "x":
                raise SiteUnreachable(f"site {self._site}: {self._dark(record)}", site=self._site)
            if record.kind == "i" and recognise and record.facts:
                self._remember(record.facts[0])
            yield record

    def _remember(self, identity: str) -> None:
        with self._lock:
            self._identity = self._identity or identity

    def _dark(self, record: Record) -> str:
        return {
            "root": f"its root {self.root} is not there",
            "marker": f"{self.root} has no readable .crossfade-site: not the root we know",
            "identity": f"{self.root} is another site's root now",
        }.get(record.facts[0] if record.facts else "", "its shell could not begin")

    def complain(self, records: Sequence[Record], paths: Sequence[str]) -> None:
        """The first failure, as the error it is."""
        for record in records:
            if record.kind == "u":
                raise UnsafePath(
                    f"{record.about(paths)}: a symbolic link on the way, or one that leads out of the root"
                )
            if record.kind == "e":
                number = record.number(0)
                raise refusal(self._site, paths[number - 1] if 0 < number <= len(paths) else self.root, record.text)


def writable(path: str) -> str:
    """The cleaned path of a file, unless it belongs to the connector itself. Raises UnsafePath."""
    cleaned = file_path(path)
    if cleaned.split("/", 1)[0] in RESERVED:
        raise UnsafePath(f"path {path!r} belongs to the site's own records; choose another")
    return cleaned


def refusal(site: str, path: str, text: str) -> SiteError:
    """What a failed step at the site means, by the words that the system's programs have for it."""
    what = f"site {site}: {path}: {text.strip().splitlines()[-1][:300] if text.strip() else 'failed'}"
    plain = text.lower()
    if any(words in plain for words in ("no space left", "quota", "file too large")):
        return QuotaError(what, site=site)
    if any(word in plain for word in ("stale", "input/output", "not connected", "timed out", "read-only file")):
        return SiteUnreachable(what, site=site)
    return RequestRefused(what, site=site)


# -- the reply -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a reply with its body."""

    kind: str
    facts: tuple[str, ...]
    body: bytes
    site: str

    def number(self, at: int) -> int:
        """Raises BadReply where there is none."""
        text = self.facts[at] if at < len(self.facts) else ""
        if not text.isdecimal() or not text.isascii() or len(text) > 19:
            raise BadReply(f"site {self.site}: the shell's reply has no number where one should be", site=self.site)
        return int(text)

    def about(self, paths: Sequence[str]) -> str:
        """The path that it tells of."""
        number = self.number(0)
        if not 1 <= number <= len(paths):
            raise BadReply(
                f"site {self.site}: the shell's reply is about a file that was not asked for", site=self.site
            )
        return paths[number - 1]

    @property
    def text(self) -> str:
        """The body for a person: printable, one line."""
        plain = self.body[:2000].decode("utf-8", "replace")
        return " ".join("".join(letter if letter.isprintable() else " " for letter in plain).split())


def _between(told: bytes, nonce: str, site: str) -> list[bytes]:
    """The lines between the marks; without the second the script did not come to its end."""
    if len(told) > MOST_TOLD:
        raise BadReply(f"site {site}: the shell's reply is larger than {MOST_TOLD} bytes", site=site)
    begin, end = f"crossfade {nonce} begin\n".encode(), f"\ncrossfade {nonce} end\n".encode()
    _, found, rest = told.replace(b"\r\n", b"\n").partition(begin)
    inner, ended, _ = rest.partition(end)
    if not found:
        raise SiteUnreachable(f"site {site}: the shell there ran nothing", site=site)
    if not ended and not inner.endswith(end.rstrip(b"\n")):  # a carrier may cut the last newline off
        raise SiteUnreachable(f"site {site}: the shell's reply was cut short", site=site)
    return inner.removesuffix(end.rstrip(b"\n")).split(b"\n")


def _records(lines: Sequence[bytes], site: str) -> Iterator[Record]:
    rest = iter(lines)
    for line in rest:
        kind, *facts = line.decode("ascii", "replace").split(" ")
        if not kind:
            continue
        body = b""
        if kind in _KINDS_WITH_BODY:
            parts = []
            for part in rest:
                if part == b".":
                    break
                parts.append(part)
            else:
                raise BadReply(f"site {site}: the shell's reply has a part without an end", site=site)
            body = _decoded(b"".join(parts), site)
        yield Record(kind, tuple(facts), body, site)


def _decoded(text: bytes, site: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadReply(f"site {site}: the shell's reply is not the base64 that was asked for", site=site) from error


def _entries(listing: bytes, folder: str) -> Iterator[FileInfo]:
    """From `kind/size/seconds/./path` lines. Left out: names that cannot be asked for, files just being written."""
    for line in listing.split(b"\n"):
        kind, _, rest = line.partition(b"/")
        size, _, rest = rest.partition(b"/")
        seconds, _, name = rest.partition(b"/")
        if name in {b"", b"."} or not name.startswith(b"./"):
            continue
        try:
            path = clean(f"{folder}/{name[2:].decode()}" if folder else name[2:].decode())
            is_dir, bytes_, seconds_ = kind == b"directory", int(size), int(seconds)
        except (UnsafePath, ValueError):
            continue
        if any(part.startswith(_TEMPORARY[0]) and part.endswith(_TEMPORARY[1]) for part in path.split("/")):
            continue
        yield FileInfo(path=path, size=0 if is_dir else bytes_, is_dir=is_dir, modified_at=seconds_ * 1_000_000)

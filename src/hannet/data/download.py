"""Files of publishers: from the folder that HANNET_DATA names, else from the cache, else downloaded into it."""

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from . import DataError
from .archives import take

RETRIES = 2
_KINDS = {"sha256": "SHA-256", "md5": "MD5"}


@dataclass(frozen=True)
class Archive:
    """What a publisher packs files in: its name, where it comes from, its checksum, its bytes, and those of its members.

    by_hand: only who has agreed to the publisher's terms, at url, may download it; that is left to the user.
    """

    name: str
    url: str
    checksum: str
    size: int
    members: tuple[tuple[str, int], ...]
    by_hand: bool = False


@dataclass(frozen=True)
class File:
    """One file: FOLDER/NAME below HANNET_DATA and in the cache, where it comes from, and its checksum, "sha256:..." or "md5:...".

    archive: what has it as the member FOLDER/NAME, which is its place below HANNET_DATA and in the cache too.
    """

    folder: str
    name: str
    url: str
    checksum: str
    archive: Archive | None = None


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A data set: who published it and on what terms, its files, and what to know before believing a result."""

    name: str
    title: str
    origin: str
    files: tuple[File, ...]
    terms: str
    rows: int
    target: str
    task: str
    quirks: str

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one row."""

    @property
    def where(self) -> str:
        """Where its files are at present."""
        places = sorted({where(file) for file in self.files})
        return "partly here" if len(places) > 1 and "not here" in places else ", ".join(places)


def find(file: File) -> Path:
    """The path of a file, downloaded if it is neither in HANNET_DATA nor in the cache; what is downloaded has its checksum.

    Raises DataError if it can be had from nowhere, and for a wrong checksum in HANNET_DATA, where nothing is overwritten. Of
    an archive's file there, `is_published` asks for the checksum, and who reads it must look at its form.
    """
    given = _given(file)
    if file.archive:
        return given or _unpacked(file, file.archive)
    if not given:
        return _downloaded(file.name, file.url, file.checksum, _cache(file), file)
    if (found := _sum(given, file.checksum)) != file.checksum:
        kind, _, value = file.checksum.partition(":")
        raise DataError(
            f"{given}: its {_KINDS[kind]} is {found.partition(':')[2]} instead of {value}; "
            f"remove it, or replace it by {file.url}"
        )
    return given


def is_published(file: File, path: Path) -> bool:
    """Whether the file at that path has its checksum. Raises DataError if it cannot be read."""
    return _sum(path, file.checksum) == file.checksum


def where(file: File) -> str:
    """Where `find` would take a file from at present; its checksum is not looked at."""
    if _given(file):
        return "HANNET_DATA"
    return "cache" if (_cache(file) / file.name).exists() else "not here"


def _given(file: File) -> Path | None:
    root = os.environ.get("HANNET_DATA")
    path = Path(root or "", file.folder, file.name)
    return path if root and path.exists() else None


def _cache(file: File) -> Path:
    import pooch

    return Path(pooch.os_cache("hannet"), file.folder)


def _sum(path: Path, like: str) -> str:
    kind = like.partition(":")[0]
    try:
        with path.open("rb") as opened:
            found = hashlib.file_digest(opened, lambda: hashlib.new(kind, usedforsecurity=False))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return f"{kind}:{found.hexdigest()}"


def _unpacked(file: File, archive: Archive) -> Path:
    """The path in the cache of an archive's file, taken out of it first if it is not there or damaged."""
    path = _cache(file) / file.name
    if path.exists() and (archive.by_hand or is_published(file, path)):
        return path
    if archive.by_hand:
        raise DataError(
            f"{file.folder}/{file.name} is not here: agree to the terms at {archive.url}, download {archive.name} there, and "
            f"unpack it in {path.parents[1]} or in a folder that HANNET_DATA names"
        )
    above = path.parents[1]
    was_there = (above / archive.name).exists()
    packed = _downloaded(archive.name, archive.url, archive.checksum, above, file)
    take(packed, above, dict(archive.members))
    if not was_there:
        packed.unlink(missing_ok=True)
    return path


def _downloaded(name: str, url: str, checksum: str, folder: Path, wanted: File) -> Path:
    """The path of what is at a URL, below a folder of the cache; wanted: the file that it is or holds."""
    import pooch
    from requests.exceptions import RequestException

    store = pooch.create(path=folder, base_url="", registry={name: checksum}, urls={name: url}, retry_if_failed=RETRIES)
    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16)
    try:
        return Path(store.fetch(name, downloader=download))
    except RequestException as error:
        reason = _reason(error, urlsplit(url).netloc)
    except ValueError:  # pooch's word for a wrong checksum
        kind, _, value = checksum.partition(":")
        reason = f"{url} is not the file with the {_KINDS[kind]} {value}"
    except OSError as error:
        why = error.strerror or "Permission denied"  # the only reason that pooch drops
        raise DataError(f"{folder}: cannot hold {name} ({why}); make room there, or use HANNET_DATA") from error
    raise DataError(
        f"{name} could not be downloaded because {reason}: check the connection and try again, put the file into "
        f"{folder}, or set HANNET_DATA to a folder that holds {wanted.folder}/{wanted.name}"
    )


def _reason(error: Exception, host: str) -> str:
    from requests.exceptions import ConnectionError as Unreachable
    from requests.exceptions import HTTPError

    if isinstance(error, HTTPError) and error.response is not None:
        return f"{host} answered {error.response.status_code}"
    return f"{host} cannot be reached" if isinstance(error, Unreachable) else f"{host} broke off"

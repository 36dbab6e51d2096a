"""Files of publishers: from the folder that HANNET_DATA names, else from the cache, else downloaded into it."""

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from . import DataError, reading
from .archives import extract

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
        """The shape of one row."""

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
        return given or _unpack(file, file.archive)
    if not given:
        return _download(file.name, file.url, file.checksum, _cache(file), file)
    if (found := _digest(given, file.checksum)) != file.checksum:
        kind, _, value = file.checksum.partition(":")
        found = found.removeprefix(f"{kind}:")
        raise DataError(
            f"{given}: its {_KINDS[kind]} is {found} instead of {value}; remove it, or replace it by {file.url}"
        )
    return given


def is_published(file: File, path: Path) -> bool:
    """Whether the file at that path has its checksum. Raises DataError if it cannot be read."""
    return _digest(path, file.checksum) == file.checksum


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


def _digest(path: Path, checksum: str) -> str:
    """The checksum of a file, of the same kind as another one."""
    kind = checksum.partition(":")[0]
    with reading(path), path.open("rb") as opened:
        found = hashlib.file_digest(opened, lambda: hashlib.new(kind, usedforsecurity=False))
    return f"{kind}:{found.hexdigest()}"


def _unpack(file: File, archive: Archive) -> Path:
    """The path in the cache of an archive's file, taken out of it first if it is not there or damaged."""
    path = _cache(file) / file.name
    if path.exists() and (archive.by_hand or is_published(file, path)):
        return path
    if archive.by_hand:
        raise DataError(
            f"{file.folder}/{file.name} is not here: agree to the terms at {archive.url}, download {archive.name} there, and "
            f"unpack it in {path.parents[1]} or in a folder that HANNET_DATA names"
        )
    cache = path.parents[1]
    existed = (cache / archive.name).exists()
    packed = _download(archive.name, archive.url, archive.checksum, cache, file)
    extract(packed, cache, dict(archive.members))
    if not existed:
        packed.unlink(missing_ok=True)
    return path


def _download(name: str, url: str, checksum: str, folder: Path, wanted: File) -> Path:
    """The path of what is at a URL, below a folder of the cache; wanted: the file that it is or holds."""
    import pooch
    from requests import exceptions

    store = pooch.create(path=folder, base_url="", registry={name: checksum}, urls={name: url}, retry_if_failed=RETRIES)
    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16)
    host = urlsplit(url).netloc
    try:
        return Path(store.fetch(name, downloader=download))
    except exceptions.HTTPError as error:
        reason = f"{host} answered {getattr(error.response, 'status_code', 'an error')}"
    except exceptions.ConnectionError:
        reason = f"{host} cannot be reached"
    except exceptions.RequestException:
        reason = f"{host} closed the connection"
    except ValueError:  # pooch's word for a wrong checksum
        kind, _, value = checksum.partition(":")
        reason = f"{url} is not the file with the {_KINDS[kind]} {value}"
    except OSError as error:
        fault = error.strerror or "Permission denied"  # the only reason that pooch drops
        raise DataError(f"{folder}: cannot hold {name} ({fault}); make room there, or use HANNET_DATA") from error
    raise DataError(
        f"{name} could not be downloaded because {reason}: check the connection and try again, put the file into "
        f"{folder}, or set HANNET_DATA to a folder that holds {wanted.folder}/{wanted.name}"
    )

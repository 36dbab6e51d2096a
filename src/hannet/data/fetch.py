"""Files of publishers: from the folder that HANNET_DATA names, else from the cache, else downloaded into it."""

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from . import DataError

RETRIES = 2


@dataclass(frozen=True)
class File:
    """One file: FOLDER/NAME below HANNET_DATA and in the cache, where it comes from, and its SHA-256."""

    folder: str
    name: str
    url: str
    sha256: str


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
    """The path of a file whose checksum is right, downloaded if it is neither in HANNET_DATA nor in the cache.

    Raises DataError if it can be had from nowhere, and for a wrong checksum in HANNET_DATA, where nothing is overwritten.
    """
    if not (path := _given(file)):
        return _cached(file)
    try:
        with path.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if found != file.sha256:
        raise DataError(
            f"{path}: its SHA-256 is {found} instead of {file.sha256}; remove it, or replace it by {file.url}"
        )
    return path


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


def _cached(file: File) -> Path:
    import pooch
    from requests.exceptions import RequestException

    folder = _cache(file)
    store = pooch.create(
        path=folder,
        base_url="",
        registry={file.name: f"sha256:{file.sha256}"},
        urls={file.name: file.url},
        retry_if_failed=RETRIES,
    )
    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16)
    try:
        return Path(store.fetch(file.name, downloader=download))
    except RequestException as error:
        reason = _reason(error, urlsplit(file.url).netloc)
    except ValueError:  # pooch's word for a wrong checksum
        reason = f"{file.url} is not the file with the SHA-256 {file.sha256}"
    except OSError as error:
        why = error.strerror or "Permission denied"  # the only reason that pooch drops
        raise DataError(f"{folder}: cannot hold {file.name} ({why}); make room there, or use HANNET_DATA") from error
    raise DataError(
        f"{file.name} could not be downloaded because {reason}: check the connection and try again, put the file into "
        f"{folder}, or set HANNET_DATA to a folder that holds {file.folder}/{file.name}"
    )


def _reason(error: Exception, host: str) -> str:
    from requests.exceptions import ConnectionError as Unreachable
    from requests.exceptions import HTTPError

    if isinstance(error, HTTPError) and error.response is not None:
        return f"{host} answered {error.response.status_code}"
    return f"{host} cannot be reached" if isinstance(error, Unreachable) else f"{host} broke off"

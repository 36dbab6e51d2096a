"""Downloads from a real server on this machine."""

import hashlib
import http.server
import io
import resource
import sys
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import pooch
import pytest

from hannet.data import DataError
from hannet.data.download import RETRIES, Archive, File, find, is_published, where

CONTENT = bytes(range(256)) * 400


class Server(http.server.ThreadingHTTPServer):
    """Gives the answers in turn, the last one for ever: a status, the bytes to send, and how many to promise."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = [(200, CONTENT, len(CONTENT))]
        self.asked = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body, length = self.server.answers[min(self.server.asked, len(self.server.answers) - 1)]
        self.server.asked += 1
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def server():
    with Server() as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of the cache that belongs to `file`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HANNET_DATA", raising=False)
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)  # between two tries
    monkeypatch.setattr(pooch.get_logger().handlers[0], "stream", sys.stderr)
    return Path(pooch.os_cache("hannet"), "tables")


@pytest.fixture
def given(tmp_path, monkeypatch, cache):
    """The place of `file` in HANNET_DATA."""
    monkeypatch.setenv("HANNET_DATA", str(tmp_path / "given"))
    (tmp_path / "given" / "tables").mkdir(parents=True)
    return tmp_path / "given" / "tables" / "numbers.bin"


@pytest.fixture
def file(server):
    url = f"http://127.0.0.1:{server.server_port}/numbers.bin"
    return File("tables", "numbers.bin", url, "sha256:" + hashlib.sha256(CONTENT).hexdigest())


def test_downloads_once_into_the_cache(file, cache, server):
    assert where(file) == "not here"
    path = find(file)
    assert path == cache / "numbers.bin"
    assert path.read_bytes() == CONTENT
    assert where(file) == "cache"
    assert find(file) == path
    assert server.asked == 1
    assert list(cache.iterdir()) == [path]


def test_a_damaged_file_in_the_cache_is_downloaded_again(file, cache, server):
    find(file).write_bytes(CONTENT[:-1])
    assert find(file).read_bytes() == CONTENT
    assert server.asked == 2


def test_the_given_folder_comes_first(file, cache, given, server):
    given.write_bytes(CONTENT)
    assert where(file) == "HANNET_DATA"
    assert find(file) == given
    assert server.asked == 0
    assert not cache.exists()


def test_what_the_given_folder_lacks_comes_from_the_cache(file, cache, given):
    assert where(file) == "not here"
    assert find(file) == cache / "numbers.bin"
    assert where(file) == "cache"


def test_a_damaged_given_file_is_named_and_left_alone(file, given, server):
    given.write_bytes(b"spoilt")
    with pytest.raises(DataError) as caught:
        find(file)
    message = str(caught.value)
    for part in (str(given), hashlib.sha256(b"spoilt").hexdigest(), file.checksum.removeprefix("sha256:"), "remove it"):
        assert part in message
    assert "\n" not in message
    assert given.read_bytes() == b"spoilt"
    assert server.asked == 0


def test_a_given_folder_in_place_of_the_file_is_named(file, given):
    given.mkdir()
    with pytest.raises(DataError, match=r"numbers.bin: cannot be read \(Is a directory\)"):
        find(file)


def test_a_truncated_answer_is_asked_for_again(file, cache, server):
    server.answers.insert(0, (200, CONTENT[:999], len(CONTENT)))
    assert find(file).read_bytes() == CONTENT
    assert server.asked == 2


FAULTS = {
    "not found": ((404, b"gone", 4), r"127.0.0.1:\d+ answered 404"),
    "server error": ((503, b"", 0), r"127.0.0.1:\d+ answered 503"),
    "another file": ((200, b"<html>", 6), "is not the file with the SHA-256"),
    "always truncated": ((200, CONTENT[:999], len(CONTENT)), r"127.0.0.1:\d+ closed the connection"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_download_is_one_sentence_and_leaves_nothing(file, cache, server, fault):
    answer, message = FAULTS[fault]
    server.answers = [answer]
    with pytest.raises(DataError, match=message) as caught:
        find(file)
    assert_advises(caught, cache)
    assert list(cache.iterdir()) == []
    assert server.asked == RETRIES + 1


def test_offline_is_one_sentence(file, cache, server):
    server.server_close()
    with pytest.raises(DataError, match=r"127.0.0.1:\d+ cannot be reached: check the connection") as caught:
        find(file)
    assert_advises(caught, cache)
    assert list(cache.iterdir()) == []


def assert_advises(caught, cache):
    message = str(caught.value)
    assert f"put the file into {cache}, or set HANNET_DATA to a folder that holds tables/numbers.bin" in message
    assert "\n" not in message


@pytest.mark.parametrize(("place", "reason"), [("a file", "exists|Not a directory"), ("/proc/none", "No such file")])
def test_a_cache_that_cannot_be_written_is_one_sentence(file, cache, tmp_path, monkeypatch, place, reason):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
    with pytest.raises(DataError, match=rf"cannot hold numbers.bin \(.*({reason})") as caught:
        find(file)
    assert "\n" not in str(caught.value)


def test_a_folder_without_permission_is_one_sentence(file, cache, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    cache.mkdir(parents=True)
    monkeypatch.setattr("pooch.utils.tempfile.NamedTemporaryFile", refuse)  # root may write everywhere
    with pytest.raises(DataError, match=r"cannot hold numbers.bin \(Permission denied\)"):
        find(file)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(file, cache):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, hard))
    try:
        with pytest.raises(DataError, match=r"cannot hold numbers.bin \(File too large\); make room there"):
            find(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(cache.iterdir()) == []


def test_an_interrupted_download_leaves_nothing(file, cache, monkeypatch):
    def interrupted(self, url, output, _):
        Path(output).write_bytes(CONTENT[:999])
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find(file)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_on_a_terminal_and_one_line_elsewhere(file, cache, monkeypatch, capsys, terminal):
    monkeypatch.setattr(pooch.get_logger().handlers[0], "stream", sys.stderr)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    find(file)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Downloading file 'numbers.bin'")
    assert ("100%" in err) == terminal
    assert terminal or err.count("\n") == 1


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def md5(content):
    return "md5:" + hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_a_file_may_have_an_md5(file, cache, server):
    assert find(replace(file, checksum=md5(CONTENT))).read_bytes() == CONTENT
    server.answers = [(200, b"another", 7)]
    with pytest.raises(DataError, match="is not the file with the MD5 "):
        find(replace(file, name="other.bin", checksum=md5(CONTENT)))


MEMBERS = {"numbers.bin": CONTENT, "labels.bin": b"some labels"}


@pytest.fixture
def members(server):
    """Two files of an archive that the server has."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as opened:
        for name, content in MEMBERS.items():
            info = tarfile.TarInfo(f"tables/{name}")
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    content = held.getvalue()
    server.answers = [(200, content, len(content))]
    url = f"http://127.0.0.1:{server.server_port}/tables.tar.gz"
    sizes = tuple((f"tables/{name}", len(member)) for name, member in MEMBERS.items())
    archive = Archive("tables.tar.gz", url, md5(content), len(content), sizes)
    return [File("tables", name, url, sha256(member), archive) for name, member in MEMBERS.items()]


def test_an_archive_is_downloaded_once_and_only_its_members_stay(members, cache, server):
    assert [where(file) for file in members] == ["not here", "not here"]
    assert [find(file) for file in members] == [cache / name for name in MEMBERS]
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == MEMBERS
    assert list(cache.parent.iterdir()) == [cache]
    assert [where(file) for file in members] == ["cache", "cache"]
    assert server.asked == 1


def test_a_damaged_member_in_the_cache_is_taken_out_again(members, cache, server):
    find(members[0]).write_bytes(CONTENT[:-1])
    assert find(members[0]).read_bytes() == CONTENT
    assert server.asked == 2


def test_an_archive_that_the_user_put_there_is_used_and_left_alone(members, cache, server):
    cache.parent.mkdir(parents=True)
    (cache.parent / "tables.tar.gz").write_bytes(server.answers[0][1])
    assert find(members[1]).read_bytes() == b"some labels"
    assert (cache.parent / "tables.tar.gz").exists()
    assert server.asked == 0


def test_another_archive_is_one_sentence_and_leaves_nothing(members, cache, server):
    server.answers = [(200, b"<html>", 6)]
    with pytest.raises(
        DataError, match=r"tables.tar.gz could not be downloaded .* is not the file with the MD5"
    ) as caught:
        find(members[0])
    assert f"put the file into {cache.parent}, or set HANNET_DATA to a folder that holds tables/numbers.bin" in str(
        caught.value
    )
    assert not cache.exists()


def test_a_given_member_may_differ_which_can_be_asked(members, given, server):
    given.write_bytes(b"one pixel changed")
    assert find(members[0]) == given
    assert not is_published(members[0], given)
    given.write_bytes(CONTENT)
    assert is_published(members[0], given)
    assert server.asked == 0


def test_what_only_the_user_may_get_is_not_asked_for(members, cache, server):
    archive = replace(members[0].archive, url="https://example.org/terms", by_hand=True)
    file = replace(members[0], archive=archive)
    with pytest.raises(
        DataError, match=r"agree to the terms at https://example.org/terms, download tables.tar.gz"
    ) as caught:
        find(file)
    assert f"unpack it in {cache.parent} or in a folder that HANNET_DATA names" in str(caught.value)
    cache.mkdir(parents=True)
    (cache / "numbers.bin").write_bytes(b"anything")
    assert find(file) == cache / "numbers.bin"
    assert server.asked == 0

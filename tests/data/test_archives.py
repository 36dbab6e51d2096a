import gzip
import io
import resource
import tarfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hannet.data import DataError, archives
from hannet.data.archives import extract

CONTENTS = {"set/train.bin": bytes(range(256)) * 20, "set/test.bin": b"some pixels"}
SIZES = {path: len(content) for path, content in CONTENTS.items()}


def entry(path, content=b"", **fields):
    info = tarfile.TarInfo(path)
    info.size = len(content)
    for name, value in fields.items():
        setattr(info, name, value)
    return info, content


def packed(*entries):
    """A .tar.gz with a folder, the contents, and what is given before them."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for info, content in [*entries, entry("set", type=tarfile.DIRTYPE), *map(entry, CONTENTS, CONTENTS.values())]:
            archive.addfile(info, io.BytesIO(content))
    return held.getvalue()


@pytest.fixture
def archive(tmp_path):
    (tmp_path / "cache").mkdir()
    return tmp_path / "set.tar.gz"


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_takes_what_is_asked_for_and_nothing_else(archive, tmp_path):
    strangers = [
        entry("../escaped", b"x"),
        entry("/tmp/set/train.bin", b"x"),  # noqa: S108 nothing is written there
        entry("set/unlabeled.bin", b"x" * 5000),
        entry("set/link", type=tarfile.SYMTYPE, linkname="/etc"),
    ]
    archive.write_bytes(packed(*strangers))
    extract(archive, tmp_path / "cache", SIZES)
    assert files(tmp_path / "cache") == CONTENTS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "set.tar.gz"]


def test_names_may_begin_with_the_folder_itself(archive, tmp_path):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as opened:
        for path, content in CONTENTS.items():
            opened.addfile(entry(f"./{path}", content)[0], io.BytesIO(content))
    archive.write_bytes(held.getvalue())
    extract(archive, tmp_path / "cache", SIZES)
    assert files(tmp_path / "cache") == CONTENTS


FAULTS = {
    "a link for a file": (entry("set/train.bin", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "train.bin is not the"),
    "a hard link": (entry("set/train.bin", type=tarfile.LNKTYPE, linkname="set/test.bin"), "train.bin is not the file"),
    "a device": (entry("set/train.bin", type=tarfile.CHRTYPE), "train.bin is not the file of 5,120 bytes"),
    "a pipe": (entry("set/train.bin", type=tarfile.FIFOTYPE), "train.bin is not the file"),
    "a folder": (entry("set/train.bin", type=tarfile.DIRTYPE), "train.bin is not the file"),
    "a byte less": (entry("set/train.bin", bytes(5119)), "train.bin is not the file of 5,120 bytes"),
    "a bomb": (entry("set/train.bin", bytes(10_000_000)), "train.bin is not the file of 5,120 bytes"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_member_that_is_not_the_file_is_refused(archive, tmp_path, fault):
    wrong, message = FAULTS[fault]
    archive.write_bytes(packed(wrong))
    with pytest.raises(DataError, match=message) as caught:
        extract(archive, tmp_path / "cache", SIZES)
    assert "\n" not in str(caught.value)
    assert files(tmp_path / "cache") == {}


def test_an_archive_of_too_much_is_refused_before_it_is_passed_over(archive, tmp_path, monkeypatch):
    archive.write_bytes(packed(entry("set/other.bin", bytes(2_000_000))))
    extract(archive, tmp_path / "cache", SIZES)
    monkeypatch.setattr(archives, "LARGEST", 1_000_000)
    with pytest.raises(DataError, match=r"set.tar.gz: unpacks to more than 1,000,000 bytes"):
        extract(archive, tmp_path / "other", SIZES)
    assert files(tmp_path / "cache") == CONTENTS
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_says_gigabytes_is_not_read(archive, tmp_path, kind):
    """It would be held in memory whole."""
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, 8 << 30
    archive.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)))
    with pytest.raises(DataError, match=r"not a .tar.gz file, or damaged"):
        extract(archive, tmp_path / "cache", SIZES)


def test_a_missing_member_is_named(archive, tmp_path):
    archive.write_bytes(packed())
    with pytest.raises(DataError, match=r"set.tar.gz: does not hold set/validation.bin"):
        extract(archive, tmp_path / "cache", {**SIZES, "set/validation.bin": 4})


def test_no_archive_is_one_sentence(archive, tmp_path):
    with pytest.raises(DataError, match=r"not a .tar.gz file, or damaged"):
        extract(archive, tmp_path / "cache", SIZES)


WHOLE = packed()
CONTENT = {"packed": WHOLE, "unpacked": gzip.decompress(WHOLE)}


@given(st.sampled_from(list(CONTENT)), st.sampled_from(["cut", "flipped"]), st.integers(0, 2**20))
@example("packed", "cut", 3)  # in the middle of gzip's header
@settings(max_examples=200, deadline=None)
def test_any_cut_or_flipped_bit_gives_whole_files_or_one_sentence(tmp_path_factory, form, fault, place):
    content = bytearray(CONTENT[form])
    if fault == "flipped":
        bit = place % (8 * min(len(content), 1536))
        content[bit // 8] ^= 1 << bit % 8
    else:
        del content[place % (len(content) + 1) :]
    folder = tmp_path_factory.mktemp("any")
    (folder / "any.tar.gz").write_bytes(content if form == "packed" else gzip.compress(content))
    try:
        extract(folder / "any.tar.gz", folder / "cache", SIZES)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017
    for path, written in files(folder).items():
        assert path == "any.tar.gz" or len(written) == SIZES[path.removeprefix("cache/")]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(archive, tmp_path):
    archive.write_bytes(packed())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DataError, match=r"cannot hold train.bin \(File too large\); make room there"):
            extract(archive, tmp_path / "cache", SIZES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path / "cache") == {}


def test_a_file_in_place_of_the_folder_is_one_sentence(archive, tmp_path):
    archive.write_bytes(packed())
    (tmp_path / "cache" / "set").touch()
    with pytest.raises(DataError, match=r"cannot hold train.bin \(File exists\)"):
        extract(archive, tmp_path / "cache", SIZES)

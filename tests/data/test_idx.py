import gzip
import hashlib
import os
import struct
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hannet.data import DataError
from hannet.data import idx as module
from hannet.data.idx import parse
from hannet.data.images import SETS, mnist


def idx(array):
    """The content of an IDX file, not gzipped yet."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.numpy().tobytes()


@pytest.mark.parametrize(("part", "count", "first"), [("train", 60000, [5, 0, 4, 1]), ("test", 10000, [7, 2, 1, 0])])
def test_mnist_is_what_its_source_says(part, count, first):
    if not os.environ.get("HANNET_DATA"):
        pytest.skip("HANNET_DATA is not set")
    images = mnist(part)
    assert images.x.shape == (count, *SETS["mnist"].shape)
    assert (images.x.dtype, images.y.dtype, images.y.shape) == (torch.uint8, torch.int64, (count,))
    assert images.y[:4].tolist() == first
    assert images.y.unique().tolist() == list(range(10))
    assert images.classes == tuple("0123456789")
    assert (images.x.min(), images.x.max()) == (0, 255)
    ink = images.x.double() / 255
    for axis in (2, 3):  # each digit's centre of mass was put into the middle, and a row is a row
        mass = ink.sum((1, 5 - axis))
        assert ((mass @ torch.arange(28.0).double() / mass.sum(1) - 13.5).abs() < 1).double().mean() > 0.99
    zeros, ones = (ink[images.y == digit].mean((0, 1)) for digit in (0, 1))
    assert zeros[14, 14] < 0.1
    assert ones[14, 14] > 0.7


def test_the_counts_of_a_source_add_up():
    source = SETS["mnist"]
    assert sum(source.counts) == source.rows
    assert len({file.checksum for file in source.files}) == 4
    assert all(file.url.endswith(f"/mnist/{file.name}") for file in source.files)


def test_an_unknown_part_is_told_the_known_ones():
    with pytest.raises(ValueError, match='part must be "train" or "test", got \'dev\''):
        mnist("dev")


X, Y = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4), torch.tensor([9, 0, 3], dtype=torch.uint8)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Puts contents in place of the two test files, with the checksums that they have."""
    source = replace(SETS["mnist"], size=(1, 2, 4), counts=(7, 3))
    monkeypatch.setenv("HANNET_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()

    def put(*contents):
        files = list(source.files)
        for place, content in enumerate(contents, 2):
            (tmp_path / "mnist" / files[place].name).write_bytes(content)
            files[place] = replace(files[place], checksum="sha256:" + hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(SETS, "mnist", replace(source, files=tuple(files)))

    return put


def test_reads_the_publishers_format(write):
    write(gzip.compress(idx(X)), gzip.compress(idx(Y)))
    images = mnist("test")
    assert torch.equal(images.x, X[:, None])
    assert torch.equal(images.y, Y.long())


GOOD_X, GOOD_Y = gzip.compress(idx(X)), gzip.compress(idx(Y))
DAMAGE = {
    "empty": (b"", GOOD_Y, "t10k-images", "cut short"),
    "a web page": (b"<html>404</html>", GOOD_Y, "t10k-images", "not a gzip file"),
    "not zipped": (idx(X), GOOD_Y, "t10k-images", "not a gzip file"),
    "cut in the zipped bytes": (GOOD_X[:30], GOOD_Y, "t10k-images", "cut short"),
    "without its checksum": (GOOD_X[:-8], GOOD_Y, "t10k-images", "cut short"),
    "with a wrong checksum": (GOOD_X[:-8] + bytes(8), GOOD_Y, "t10k-images", "not a gzip file, or damaged"),
    "cut before zipping": (gzip.compress(idx(X)[:-1]), GOOD_Y, "t10k-images", "39 bytes instead of 40"),
    "a byte more": (gzip.compress(idx(X) + b"\0"), GOOD_Y, "t10k-images", "has more than its 40 bytes"),
    "something after the zipped bytes": (GOOD_X + b"\0", GOOD_Y, "t10k-images", "has more than"),
    "zipped twice over": (GOOD_X + GOOD_X, GOOD_Y, "t10k-images", "has more than"),
    "labels for images": (GOOD_Y, GOOD_Y, "t10k-images", "not an IDX file of 3 x 2 x 4"),
    "images for labels": (GOOD_X, GOOD_X, "t10k-labels", "not an IDX file of 3 unsigned bytes"),
    "an image less": (gzip.compress(idx(X[:2])), GOOD_Y, "t10k-images", "not an IDX file of 3 x 2 x 4"),
    "a label less": (GOOD_X, gzip.compress(idx(Y[:2])), "t10k-labels", "not an IDX file of 3 "),
    "a label out of range": (GOOD_X, gzip.compress(idx(Y + 1)), "t10k-labels", "label 10, but there are only 10 cl"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_in_one_sentence(write, tmp_path, damage):
    *contents, name, message = DAMAGE[damage]
    write(*contents)
    with pytest.raises(DataError, match=message) as caught:
        mnist("test")
    assert str(caught.value).startswith(str(tmp_path / "mnist" / name))
    assert "\n" not in str(caught.value)


def test_a_changed_file_is_caught_by_its_checksum(write, tmp_path):
    write(GOOD_X, GOOD_Y)
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(Y.flip(0))))
    with pytest.raises(DataError, match="SHA-256"):
        mnist("test")


def test_a_file_that_unpacks_to_much_more_is_refused_before_it_does(monkeypatch):
    asked = []

    class Watched:
        def __init__(self, bits):
            self.real = decompressobj(bits)

        def decompress(self, content, limit):
            asked.append(limit)
            return self.real.decompress(content, limit)

        def __getattr__(self, name):
            return getattr(self.real, name)

    decompressobj = module.zlib.decompressobj
    monkeypatch.setattr(module.zlib, "decompressobj", Watched)
    with pytest.raises(DataError, match="has more than its 40 bytes"):
        parse(gzip.compress(idx(X) + bytes(10_000_000)), X.shape, "bomb")
    assert asked == [41]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_any_cut_or_flipped_bit_gives_the_same_array_or_one_sentence(data):
    """Of the zipped bytes, whose checksum finds every change of the array."""
    content = bytearray(GOOD_X)
    if data.draw(st.booleans()):
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
    else:
        del content[data.draw(st.integers(0, len(content))) :]
    try:
        found = parse(bytes(content), X.shape, "file")
    except DataError as error:
        assert str(error).startswith("file: ")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert torch.equal(found, X)


@given(st.integers(0, 8 * len(idx(X)) - 1), st.integers(0, len(idx(X))))
@settings(max_examples=300, deadline=None)
def test_any_cut_or_flipped_bit_of_the_idx_file_is_seen_or_is_a_pixel(bit, end):
    """Before zipping: what a damaged publisher would give."""
    content = bytearray(idx(X))
    with pytest.raises(DataError) if end < len(content) else nullcontext():
        parse(gzip.compress(content[:end]), X.shape, "file")
    content[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DataError) if bit < 8 * 16 else nullcontext():
        assert (parse(gzip.compress(content), X.shape, "file") != X).sum() == 1

import io
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hannet.data import DataError, binary_formats

SIZE = (3, 2, 4)
X = torch.arange(6 * 24, dtype=torch.uint8).reshape(6, *SIZE)
Y = torch.tensor([0, 4, 2, 1, 3, 4])


def cifar(x, y, coarse=()):
    return b"".join(bytes([*coarse, int(label)]) + image.numpy().tobytes() for image, label in zip(x, y, strict=True))


def npz(**arrays):
    held = io.BytesIO()
    np.savez(held, **arrays)
    return held.getvalue()


def batch(x, y, **others):
    return npz(data=x.flatten(1).numpy(), labels=y.numpy() + 1, mean=np.zeros(24), **others)


@pytest.fixture
def put(tmp_path):
    def write(*contents):
        paths = [tmp_path / f"part{place}" for place in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return paths

    return write


def assert_same(found):
    x, y = found
    assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)
    assert x.is_contiguous()
    assert torch.equal(x, X)
    assert torch.equal(y, Y)


def test_reads_cifar10(put):
    assert_same(binary_formats.records(put(cifar(X[:3], Y[:3]), cifar(X[3:], Y[3:])), 6, SIZE, 5))


def test_reads_beside_another_default_device(put):
    with torch.device("meta"):  # as torch.set_default_device
        assert_same(binary_formats.records(put(cifar(X[:3], Y[:3]), cifar(X[3:], Y[3:])), 6, SIZE, 5))
        assert_same(binary_formats.batches(put(batch(X, Y)), 6, SIZE, 5))


def test_reads_the_fine_labels_of_cifar100(put):
    assert_same(binary_formats.records(put(cifar(X, Y, [7])), 6, SIZE, 5, labels=2))


def test_reads_the_columns_of_stl10(put):
    by_columns = X.transpose(2, 3).contiguous().numpy().tobytes()
    assert_same(binary_formats.columns(put(by_columns, bytes((Y + 1).tolist())), 6, SIZE, 5))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_reads_batches_of_any_sizes(put, dtype):
    seen = []
    paths = put(batch(X[:4], Y[:4].to(dtype)), batch(X[4:], Y[4:].to(dtype)))
    assert_same(binary_formats.batches(paths, 6, SIZE, 5, lambda *now: seen.append(now)))
    assert seen == [(4, 6), (6, 6)]


def test_reads_compressed_batches(put):
    held = io.BytesIO()
    np.savez_compressed(held, data=X.flatten(1).numpy(), labels=Y.numpy() + 1)
    assert_same(binary_formats.batches(put(held.getvalue()), 6, SIZE, 5))


def read_cifar(paths):
    return binary_formats.records(paths, 6, SIZE, 5)


def read_columns(paths):
    return binary_formats.columns(paths, 6, SIZE, 5)


def read_batches(paths):
    return binary_formats.batches(paths, 6, SIZE, 5)


GOOD, PIXELS, LABELS = cifar(X, Y), X.numpy().tobytes(), bytes((Y + 1).tolist())
FLAT, ONWARDS = X.flatten(1).numpy(), Y.numpy() + 1
SIMPLE = {
    "no bytes": (read_cifar, [b""], "part0: holds 0 bytes instead of 150"),
    "a byte less": (read_cifar, [GOOD[:-1]], "part0: holds 149 bytes instead of 150"),
    "a byte more": (read_cifar, [GOOD + b"\0"], "part0: holds 151 bytes instead of 150"),
    "the second file": (read_cifar, [GOOD[:75], GOOD[:50]], "part1: holds 50 bytes instead of 75"),
    "a label too large": (read_cifar, [cifar(X, Y + 1)], "part0: holds the label 5, but labels are 0 to 4"),
    "pixels short": (read_columns, [PIXELS[:-1], LABELS], "part0: holds 143 bytes instead of 144"),
    "labels long": (read_columns, [PIXELS, LABELS + b"\1"], "part1: holds 7 bytes instead of 6"),
    "label 0": (read_columns, [PIXELS, bytes(6)], "part1: holds the label 0, but labels are 1 to 5"),
    "label 6": (read_columns, [PIXELS, bytes([1, 6, 1, 1, 1, 1])], "part1: holds the label 6, but labels are 1 to 5"),
    "images less": (read_batches, [batch(X[:5], Y[:5])], "its files hold 5 images instead of 6"),
    "labels less": (read_batches, [npz(data=FLAT, labels=ONWARDS[:5])], "labels must be 6 whole numbers"),
    "labels of halves": (read_batches, [npz(data=FLAT, labels=ONWARDS / 2)], "got .6,., float64"),
    "label 0 of npz": (read_batches, [npz(data=FLAT, labels=ONWARDS - 1)], "the label 0, but labels are 1 to 5"),
    "huge labels": (read_batches, [npz(data=FLAT, labels=ONWARDS.astype(np.uint64) << 60)], "the label "),
    "floats": (read_batches, [npz(data=FLAT / 255, labels=ONWARDS)], "uint8, got .6, 24., float64"),
    "images of 3 axes": (read_batches, [npz(data=FLAT[None], labels=ONWARDS)], "data must be .n, 24., uint8"),
    "wider images": (read_batches, [npz(data=FLAT.repeat(2, 1), labels=ONWARDS)], "uint8, got .6, 48."),
    "no images": (read_batches, [npz(data=FLAT[:0], labels=ONWARDS[:0])], "uint8, got .0, 24."),
    "by columns": (read_batches, [npz(data=np.asfortranarray(FLAT), labels=ONWARDS)], "not an .npz file"),
    "other names": (read_batches, [npz(x=FLAT, y=ONWARDS)], "not an .npz file with the arrays data and labels"),
    "a pickle": (read_batches, [npz(data=FLAT, labels=np.array([print] * 6, dtype=object))], "got .6,., object"),
    "a pickle of images": (read_batches, [npz(data=np.array(["x", None]), labels=ONWARDS)], "got .2,., object"),
    "no zip": (read_batches, [b"PK\3\4 and so on"], "not an .npz file"),
    "nothing": (read_batches, [b""], "not an .npz file"),
}


@pytest.mark.parametrize("case", SIMPLE)
def test_a_damaged_file_is_named_in_one_sentence(put, case):
    read, contents, message = SIMPLE[case]
    with pytest.raises(DataError, match=message) as caught:
        read(put(*contents))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_cifar, read_columns, read_batches])
def test_a_missing_file_and_a_folder_in_its_place_are_one_sentence(tmp_path, read):
    paths = [tmp_path / "none", tmp_path / "none"][: 1 + (read is read_columns)]
    with pytest.raises(DataError, match=r"No such file|does not exist"):
        read(paths)
    with pytest.raises(DataError, match=r"Is a directory|not an .npz file"):
        read([tmp_path for _ in paths])


def header(shape, version=1, length=None):
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    size = struct.pack("<H" if version == 1 else "<I", length or len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


def zipped(data, method=zipfile.ZIP_DEFLATED):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as packed:
        packed.writestr("data.npy", data)
        packed.writestr("labels.npy", header((6,)) + bytes([1] * 6))
    return held.getvalue()


BOMBS = {
    "more bytes than its shape": zipped(header((6, 24)) + bytes(50_000_000)),
    "fewer bytes than its shape": zipped(header((6, 24)) + bytes(100)),
    "a shape beyond memory": zipped(header((10**15, 24)) + bytes(100)),
    "a negative shape": zipped(header((-6, -24)) + bytes(144)),
    "a header of gigabytes": zipped(header((6, 24), version=2, length=2**31) + b" " * 50_000_000),
    "a reader without bounds": zipped(header((6, 24)) + bytes(50_000_000), zipfile.ZIP_BZIP2),
    "deep brackets": zipped(header("[" * 9000) + bytes(144)),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_without_unpacking_it(put, bomb):
    import tracemalloc

    paths = put(BOMBS[bomb])
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            read_batches(paths)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_into_memory_is_one_sentence(put):
    with pytest.raises(DataError, match="bytes of images do not fit into memory"):
        binary_formats.batches(put(zipped(header((10**15, 24)))), 10**15, SIZE, 5)


GOOD_BATCH = batch(X, Y)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_any_cut_or_changed_bytes_of_a_batch_give_images_or_one_sentence(tmp_path_factory, data):
    content = bytearray(GOOD_BATCH)
    if data.draw(st.booleans()):
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    else:
        del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path_factory.mktemp("any") / "batch.npz"
    path.write_bytes(content)
    try:
        x, y = read_batches([path])
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert torch.equal(x, X)  # its checksum has seen every change of a pixel
        assert torch.equal(y, Y)


@given(st.binary(max_size=200), st.sampled_from([read_cifar, read_columns, read_batches]))
@settings(max_examples=200, deadline=None)
def test_random_bytes_give_images_or_one_sentence(tmp_path_factory, content, read):
    path = tmp_path_factory.mktemp("any") / "random"
    path.write_bytes(content)
    try:
        _, y = read([path] * (1 + (read is read_columns)))
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert 0 <= int(y.min()) <= int(y.max()) < 5


@given(st.text(st.characters(codec="ascii"), max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_header_gives_one_sentence(tmp_path_factory, text):
    start = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()
    path = tmp_path_factory.mktemp("any") / "batch.npz"
    path.write_bytes(zipped(start + bytes(144)))
    with pytest.raises(DataError):
        read_batches([path])

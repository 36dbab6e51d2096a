"""The sets that have a name; MNIST's files are in test_idx, the others' in test_binaries."""

import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from hannet.data import DataError, images
from hannet.data.images import SETS, load

PARTS = ("train", "test")


@pytest.mark.parametrize("name", SETS)
def test_the_facts_of_a_source_agree(name):
    source = SETS[name]
    assert sum(source.counts) == source.rows
    assert len({file.checksum for file in source.files}) == len(source.files)
    assert len(set(source.classes)) == len(source.classes)
    for part, count in zip(PARTS, source.counts, strict=True):
        files, rows = source.part(part)
        assert files
        assert rows == count
        assert rows % len(files) == 0 or name == "downsampled-imagenet"


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10"])
def test_an_archive_has_the_files_with_their_bytes(name):
    files, counts = SETS[name].files, SETS[name].counts
    archive = files[0].archive
    assert [f"{file.folder}/{file.name}" for file in files] == [path for path, _ in archive.members]
    labels = {"cifar10": 1, "cifar100": 2, "stl10": 1}[name]
    pixels = torch.tensor(SETS[name].size).prod().item()
    assert sum(size for _, size in archive.members) == sum(counts) * (pixels + labels)


@pytest.mark.parametrize(("part", "count", "first"), [("train", 50000, [6, 9, 9, 4]), ("test", 10000, [3, 8, 8, 0])])
def test_cifar10_is_what_its_source_says(part, count, first):
    if SETS["cifar10"].where != "HANNET_DATA":
        pytest.skip("HANNET_DATA has no cifar-10-batches-bin")
    found = load("cifar10", part)
    assert found.x.shape == (count, 3, 32, 32)
    assert (found.x.dtype, found.y.dtype) == (torch.uint8, torch.int64)
    assert found.y[:4].tolist() == first
    assert found.y.bincount().tolist() == [count // 10] * 10
    assert found.classes[int(found.y[0])] == {"train": "frog", "test": "cat"}[part]
    assert set(found.notes) <= ({"test_batch.bin differs from the published file"} if part == "test" else set())
    means = found.x.double().mean((0, 2, 3)) / 255  # red, green, blue, as everybody who normalises CIFAR-10 knows them
    assert torch.allclose(means, torch.tensor([0.4914, 0.4822, 0.4465]).double(), atol=0.005)
    ships = found.x[found.y == found.classes.index("ship")].double().mean((0, 2, 3))
    assert ships.argmax() == 2  # the sea is blue
    rows = (found.x[:500, :, 1:].double() - found.x[:500, :, :-1].double()).abs().mean()
    assert rows < 20  # neighbours are alike: a row is a row


def test_an_unknown_name_or_part_is_told_the_known_ones():
    with pytest.raises(ValueError, match=r"one of mnist, cifar10, cifar100, stl10, downsampled-imagenet, got 'cifar'"):
        load("cifar")
    with pytest.raises(ValueError, match='part must be "train" or "test", got \'val\''):
        load("stl10", "val")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """CIFAR-100 of four images to train on and two to test on, in HANNET_DATA."""
    monkeypatch.setenv("HANNET_DATA", str(tmp_path))
    source = replace(SETS["cifar100"], size=(3, 1, 2), counts=(4, 2))
    monkeypatch.setitem(images.SETS, "cifar100", source)
    (tmp_path / "cifar-100-binary").mkdir()
    for name, count in {"train": 4, "test": 2}.items():
        content = b"".join(bytes([19, 90 + place]) + bytes(range(place, place + 6)) for place in range(count))
        (tmp_path / "cifar-100-binary" / f"{name}.bin").write_bytes(content)
    return tmp_path / "cifar-100-binary"


def test_a_given_folder_is_read_and_its_differences_are_told(small):
    found = load("cifar100")
    assert found.x.tolist() == [[[[p, p + 1]], [[p + 2, p + 3]], [[p + 4, p + 5]]] for p in range(4)]
    assert [found.classes[place] for place in found.y] == ["train", "trout", "tulip", "turtle"]
    assert found.notes == ("train.bin differs from the published file",)


def test_a_given_file_of_another_form_is_an_error(small):
    (small / "test.bin").write_bytes(bytes(15))
    with pytest.raises(DataError, match=r"test.bin: holds 15 bytes instead of 16"):
        load("cifar100", "test")
    (small / "test.bin").write_bytes(bytes([0, 100] * 8))
    with pytest.raises(DataError, match=r"test.bin: holds the label 100, but labels are 0 to 99"):
        load("cifar100", "test")


def test_without_its_files_imagenet_says_how_they_are_got(tmp_path, monkeypatch):
    monkeypatch.setenv("HANNET_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(
        DataError, match=r"val_data.npz is not here: agree to the terms at https://image-net.org"
    ) as caught:
        load("downsampled-imagenet", "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "header", ["{'descr': (", "(" * 9, "   x\n y", "{'descr': '|u1', 'fortran_order': False, 'shape': (3, "]
)
def test_an_npz_file_with_a_damaged_header_is_one_sentence(tmp_path, header):
    """What the parser of headers says to rubbish is more than ValueError."""
    text = header.ljust(117).encode() + b"\n"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as packed:
        for name in ("x.npy", "y.npy"):
            packed.writestr(name, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(20))
    with pytest.raises(DataError, match=r"not an .npz file with the arrays x and y, or damaged"):
        images.stored(tmp_path / "x.npz")


@pytest.mark.parametrize("broken", ["x", "y"])
def test_an_npz_file_with_something_else_than_arrays_is_one_sentence(tmp_path, broken):
    np.savez(tmp_path / "x.npz", **{name: np.zeros((3, 2), np.uint8) for name in "xy" if name != broken})
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as packed:
        packed.writestr(f"{broken}.npy", b"no array")
    with pytest.raises(DataError, match=r"not an .npz file with the arrays x and y, or damaged"):
        images.stored(tmp_path / "x.npz")

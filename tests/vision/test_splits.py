import shutil

import pytest
import torch

from hannet.data import Images, images
from hannet.vision import SettingError
from hannet.vision.splits import ReadOptions, load_splits, reorder_in_place
from pictures_toy import BLUE, RED, plain, saved


@pytest.mark.parametrize("rows", [1, 2, 7, 100])
def test_rows_are_reordered_where_they_are(rows):
    x, order = torch.arange(rows * 6, dtype=torch.uint8).reshape(rows, 2, 3), torch.randperm(rows)
    expected, memory = x[order], x.data_ptr()
    reorder_in_place(x, order)
    assert torch.equal(x, expected)
    assert x.data_ptr() == memory


def test_images_that_validate_are_a_slice_not_a_copy(monkeypatch):
    """Of 20,000 pictures of 256 x 256 a copy takes 4 GB."""
    whole = {
        part: Images(torch.randint(256, (60, 1, 4, 4)).byte(), torch.arange(60) % 3, ("a", "b", "c"))
        for part in ("train", "test")
    }
    before = whole["train"].x.clone()
    monkeypatch.setattr(images, "load", lambda _, part, *__: whole[part])
    found = load_splits("mnist", 5, ReadOptions(None, 64))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(5))
    assert torch.equal(found.validation.x, before[order[:5]])
    assert torch.equal(found.training.x, before[order[5:]])
    assert torch.equal(found.training.y, whole["train"].y[order[5:]])
    storages = {part.x.untyped_storage().data_ptr() for part in (found.training, found.validation, whole["train"])}
    assert len(storages) == 1


def test_a_folder_with_three_parts_says_what_validates(tmp_path):
    for part, count in {"train": 6, "valid": 2, "test": 3}.items():
        for name, colour in (("a", RED), ("b", BLUE)):
            for place in range(count):
                saved(tmp_path / part / name / f"{place}.png", plain(colour))
    found = load_splits(str(tmp_path), 0, ReadOptions(8, 64))
    assert [len(part.y) for part in found[1:]] == [12, 4, 6]
    shutil.rmtree(tmp_path / "test")
    found = load_splits(str(tmp_path), 0, ReadOptions(8, 64))  # then it tests, and one in twelve validates
    assert [len(part.y) for part in found[1:]] == [11, 1, 4]


def test_an_archive_says_that_it_must_be_unpacked(tmp_path):
    (tmp_path / "photos.zip").touch()
    with pytest.raises(SettingError, match=r"photos.zip' is neither a folder nor one of .*: unpack it first"):
        load_splits(str(tmp_path / "photos.zip"), 0, ReadOptions(None, 64))

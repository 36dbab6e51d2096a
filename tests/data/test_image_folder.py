import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from hannet.data import BrokenPicturesError, DataError, image_folder, memory
from hannet.data.image_folder import Options, folder, read_parts
from pictures_toy import BLUE, RED, colour_of, grey16, plain, saved, tiff


@pytest.fixture
def pets(tmp_path):
    """Ten cats of red, seven dogs of blue."""
    for name, colour, count in (("dog", BLUE, 7), ("cat", RED, 10)):
        for place in range(count):
            saved(tmp_path / "pets" / name / f"{place}.png", plain(colour, (8 + place, 8)))
    return tmp_path / "pets"


def test_one_in_five_of_each_class_tests_and_always_the_same(pets):
    train, test = folder(pets, 4), folder(pets, 4, "test")
    assert train.classes == test.classes == ("cat", "dog")
    assert (train.y.tolist(), test.y.tolist()) == ([0] * 8 + [1] * 6, [0] * 2 + [1])
    assert (train.x.shape, train.y.dtype) == ((14, 3, 4, 4), torch.int64)
    for found in (train, test):
        assert [colour_of(x) for x in found.x] == [[RED, BLUE][place] for place in found.y]
        assert found.notes == ()
    assert torch.equal(folder(pets, 4, "test").x, test.x)


def test_no_picture_is_in_both_parts(tmp_path):
    for place in range(20):
        saved(tmp_path / "ab"[place % 2] / f"{place}.png", Image.new("L", (4, 4), 10 * place))
    seen = [int(x[0, 0, 0]) for part in ("train", "test") for x in folder(tmp_path, 2, part).x]
    assert sorted(seen) == [10 * place for place in range(20)]


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_folder_for_each_part(pets, tmp_path, name):
    (tmp_path / "both").mkdir()
    pets.rename(tmp_path / "both" / "train")
    saved(tmp_path / "both" / name / "cat" / "0.jpg", plain(RED))
    saved(tmp_path / "both" / name / "dog" / "0.JPEG", plain(BLUE), format="JPEG")
    assert len(folder(tmp_path / "both", 4).y) == 17
    assert folder(tmp_path / "both", 4, "test").y.tolist() == [0, 1]


def test_progress_counts_pictures(pets):
    seen = []
    folder(pets, 4, on_progress=lambda *now: seen.append(now))
    assert seen == [(done, 14) for done in range(1, 15)]


def test_an_interruption_ends_it(pets):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder(pets, 4, on_progress=interrupt)


def test_what_is_passed_over_is_counted(pets):
    (pets / "notes.txt").touch()
    (pets / "cat" / "cats.csv").touch()
    (pets / "cat" / "folder.png").mkdir()
    (pets / ".git").mkdir()
    (pets / "dog" / "._0.png").write_bytes(b"no picture")
    (pets / "dog" / "loop.png").symlink_to("loop.png")
    (pets / "dog" / "same.png").symlink_to("0.png")
    train, test = folder(pets, 4), folder(pets, 4, "test")
    assert len(train.y) + len(test.y) == 18
    assert train.classes == ("cat", "dog")
    told = (
        "3 left out that is no picture (1 .txt, 1 .csv, 1 .png)",
        "2 hidden or left by an operating system, passed over",
    )
    assert train.notes == told


def test_a_link_to_the_folder_itself_is_followed(pets, tmp_path):
    (tmp_path / "link").symlink_to(pets)
    assert len(folder(tmp_path / "link", 4).y) == 14


def test_all_broken_pictures_are_named_at_once_also_those_that_test(pets):
    whole = (pets / "dog" / "3.png").read_bytes()
    for place in range(5):
        (pets / "dog" / f"{place}.png").write_bytes(whole[:-20])
    with pytest.raises(BrokenPicturesError, match=r"5 of 17 pictures cannot be read: .*; and 2 more$") as caught:
        read_parts(pets, Options(4))
    named = {fault.partition(": a broken picture")[0] for fault in caught.value.faults}
    assert named == {str(pets / "dog" / f"{place}.png") for place in range(5)}
    assert "\n" not in str(caught.value)


def test_a_single_broken_picture_is_its_own_sentence(pets):
    (pets / "dog" / "3.png").write_bytes(b"")
    with pytest.raises(BrokenPicturesError) as caught:
        read_parts(pets, Options(4))
    assert str(caught.value) == f"{pets}/dog/3.png: not a picture of a known format, or broken"


def test_broken_pictures_are_left_out_up_to_a_share_and_told(pets):
    whole = read_parts(pets, Options(4))
    for place in (0, 9):
        (pets / "cat" / f"{place}.png").write_bytes(b"")
    found = read_parts(pets, Options(4, skip_broken=0.2))
    assert len(found.training.y) + len(found.test.y) == 15
    for part, before in ((found.training, whole.training), (found.test, whole.test)):
        assert [colour_of(x) for x in part.x] == [[RED, BLUE][place] for place in part.y]
        assert len(part.y) <= len(before.y)
    assert found.training.notes == ("2 of 17 pictures left out, which cannot be read: 0.png, 9.png",)
    assert len(found.training.broken) == 2
    with pytest.raises(BrokenPicturesError, match=r"2 of 17 .* more than the share of 0.1 that may be left out"):
        read_parts(pets, Options(4, skip_broken=0.1))
    for path in (pets / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"of the class dog no picture of the train part can be read"):
        read_parts(pets, Options(4, skip_broken=1))


def deep_pets(path):
    """Two classes of 16-bit pictures between 1030 and 1259, as an instrument gives them."""
    for name, value in (("cold", 1030), ("warm", 1259)):
        for place in range(10):
            grey16(path / name / f"{place}.png", [[value] * 4] * 4)
    return path


def test_two_classes_of_16_bits_stay_two(tmp_path):
    """Their upper 8 bits are one grey."""
    found = read_parts(deep_pets(tmp_path), Options(2))
    for part in (found.training, found.test):
        assert part.pixel_range == (1030, 1259)
        assert [colour_of(x)[0] for x in part.x] == [255 * int(label) for label in part.y]
    note = "20 pictures with 16 bits a channel: 1,030 to 1,259 become black to white, in predictions too"
    assert found.training.notes == (note,)
    alone = folder(tmp_path, 2, "test")  # which does not learn its own range
    assert (alone.pixel_range, alone.x.tolist()) == ((1030, 1259), found.test.x.tolist())
    given = folder(tmp_path, 2, pixel_range=None)
    assert set(given.x.flatten().tolist()) == {1030 >> 8}  # as earlier versions had it


def test_the_range_is_that_of_the_pictures_that_train(tmp_path):
    for part, values in (("train", (1000, 1200)), ("test", (0, 60000))):
        for name, value in zip(("a", "b"), values, strict=True):
            grey16(tmp_path / part / name / "1.png", [[value] * 4] * 4)
    found = read_parts(tmp_path, Options(2))
    assert found.test.pixel_range == found.training.pixel_range == (1000, 1200)
    assert [colour_of(x)[0] for x in found.test.x] == [0, 255]
    assert folder(tmp_path, 2, "test").pixel_range == (1000, 1200)


def test_16_bits_of_their_whole_range_are_read_as_ever(tmp_path):
    for name, value in (("a", 0x1042), ("b", 0xF042)):
        for place in range(3):
            grey16(tmp_path / name / f"{place}.png", [[value] * 4] * 4)
    found = folder(tmp_path, 2)
    assert (found.pixel_range, set(found.x.flatten().tolist())) == (None, {0x10, 0xF0})
    assert found.notes == ("4 pictures with 16 bits a channel: their upper 8 bits count",)


def test_floats_have_a_range_learned_and_told(tmp_path):
    for name, value in (("a", -3.0), ("b", 70.0)):
        for place in range(3):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{place}.tif").write_bytes(tiff(np.full((4, 4), value, np.float32), 32, kind=3))
    saved(tmp_path / "b" / "9.png", plain(BLUE))
    found = read_parts(tmp_path, Options(2))
    assert found.training.pixel_range == (-3, 70)
    assert [colour_of(x)[0] for x in found.training.x[:2]] == [0, 0]
    assert "6 pictures with numbers without a largest value: -3 to 70 become black to white, in predictions too; " in (
        note := found.training.notes[0]
    )
    assert note.endswith("1 of 8 bits beside them stay as they are")


def test_an_animation_is_told(pets):
    plain(RED).save(pets / "cat" / "10.gif", save_all=True, append_images=[plain(BLUE)])
    assert read_parts(pets, Options(4)).training.notes == ("1 with several frames or pages: the first counts",)


def test_what_does_not_fit_is_told_before_anything_is_decoded(pets, monkeypatch):
    def decode(*_):
        raise AssertionError

    monkeypatch.setattr(image_folder, "open_picture", decode)
    monkeypatch.setattr(image_folder, "free_bytes", lambda: 1_000_000)
    monkeypatch.setattr(memory, "free_bytes", lambda _: 1_000_000)
    expected = r"17 pictures of 256 x 256 do not fit into memory: they take 16.7 MB, 1.0 MB are free; --size 48 fits$"
    with pytest.raises(DataError, match=expected):
        read_parts(pets, Options(256, bytes_per_value=5))


def test_pictures_take_the_memory_of_their_bytes_once(pets, monkeypatch):
    asked = []
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, **options: asked.append(shape) or empty(*shape, **options))
    found = read_parts(pets, Options(4))
    assert asked == [(17, 3, 4, 4)]
    assert found.training.x.untyped_storage().data_ptr() == found.test.x.untyped_storage().data_ptr()


def test_links_out_of_the_folder_are_named_or_followed(pets, tmp_path):
    outside = saved(tmp_path / "outside.png", plain(RED))
    (pets / "cat" / "out.png").symlink_to(outside)
    with pytest.raises(DataError, match=r"1 link leads out of the folder, cat/out.png: --follow-links follows them"):
        folder(pets, 4)
    found = read_parts(pets, Options(4, follow_links=True))
    assert len(found.training.y) + len(found.test.y) == 18


def test_a_part_to_validate_on_is_kept_apart(pets, tmp_path):
    for part in ("Train", "valid", "Test"):
        shutil.copytree(pets, tmp_path / "all" / part)
    (tmp_path / "all" / "valid" / "dog" / "6.png").unlink()
    found = read_parts(tmp_path / "all", Options(4))
    assert [len(part.y) for part in found] == [17, 17, 16]


def faulty(tmp_path, *files, size=4, part="train"):
    for file in files:
        path = tmp_path / "set" / file
        if file.endswith("/"):
            path.mkdir(parents=True)
        else:
            saved(path, plain(RED))
    return folder(tmp_path / "set", size, part)


FAULTS = {
    "not there": ([], "set does not exist"),
    "nothing": (["/"], "no folders of classes, but a classifier needs at least two"),
    "no folders": (["a.png", "b.png"], "no folders of classes"),
    "one class": (["a/1.png", "a/2.png"], "only one class, a, but a classifier needs"),
    "an empty class": (["a/1.png", "a/2.png", "b/"], "the class b has no pictures, but needs two"),
    "one picture": (["a/1.png", "a/2.png", "b/1.png"], "the class b has 1 picture, but needs two"),
    "train alone": (["train/a/1.png", "train/b/1.png", "x/1.png"], "a folder train, but neither test nor val"),
    "only train": (["train/a/1.png", "train/b/1.png"], "a folder train, but neither test nor val"),
    "an unknown class": (["train/a/1.png", "train/b/1.png", "test/c/1.png"], "the class c is not one of those in"),
    "an untested class": (["train/a/1.png", "train/b/1.png", "test/a/1.png"], "test: the class b has no pictures"),
    "an untrained class": (["train/a/1.png", "train/b/", "val/a/1.png"], "train: the class b has no pictures"),
    "one class to train": (["train/a/1.png", "test/a/1.png"], "train: holds only one class, a"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_cannot_train_is_one_sentence(tmp_path, fault):
    files, message = FAULTS[fault]
    with pytest.raises(DataError, match=message) as caught:
        faulty(tmp_path, *[file.lstrip("/") or "./" for file in files])
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="elsewhere names of folders are text")
def test_a_class_whose_name_is_no_text_is_one_sentence(tmp_path):
    """Else it is found out when the network is saved."""
    with pytest.raises(DataError, match=r"set: the name of a class must be text in UTF-8, got '\\udcff'"):
        faulty(tmp_path, "a/1.png", "a/2.png", os.fsdecode(b"\xff/1.png"), os.fsdecode(b"\xff/2.png"))


def test_a_class_may_be_called_train(tmp_path):
    found = faulty(tmp_path, *(f"{name}/{place}.png" for name in ("bus", "train") for place in range(3)))
    assert found.classes == ("bus", "train")


def test_arguments_are_checked(pets):
    with pytest.raises(ValueError, match='part must be "train" or "test", got \'val\''):
        folder(pets, 4, "val")
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        folder(pets, 0)
    (pets / "file.png").touch()
    with pytest.raises(DataError, match=r"file.png is not a folder"):
        folder(pets / "file.png", 4)
    with pytest.raises(ValueError, match="skip_broken must be a share from 0 to 1, got 2"):
        folder(pets, 4, skip_broken=2)
    with pytest.raises(DataError, match="14 pictures of 10000000 x 10000000 do not fit into memory"):
        folder(pets, 10**7)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_one_sentence(pets):
    (pets / "dog").chmod(0)
    with pytest.raises(DataError, match=r"dog: cannot be read \(Permission denied\)"):
        folder(pets, 4)

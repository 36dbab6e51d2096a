import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hannet.data import DataError, image_folder
from hannet.data.images import folder, picture

RED, GREEN, BLUE, WHITE = [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]


def plain(colour, size=(8, 8)):
    return Image.new("RGB", size, tuple(colour))


def colour_of(tensor):
    assert tensor.dtype == torch.uint8
    assert len(tensor) == 3
    assert (tensor == tensor[:, :1, :1]).all()
    return tensor[:, 0, 0].tolist()


def saved(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def test_the_middle_square_is_taken(tmp_path):
    image = plain(BLUE, (30, 10))
    image.paste(tuple(RED), (10, 0, 20, 10))
    assert colour_of(picture(saved(tmp_path / "wide.png", image), 4)[:, :, 1:3]) == RED
    assert (
        colour_of(picture(saved(tmp_path / "tall.png", image.transpose(Image.Transpose.ROTATE_90)), 4)[:, 1:3]) == RED
    )


def test_a_picture_of_the_right_size_stays_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    path = saved(tmp_path / "noise.png", Image.fromarray(pixels))
    assert torch.equal(picture(path, 6), torch.from_numpy(pixels).permute(2, 0, 1))


def test_fine_stripes_become_grey_and_no_stripes(tmp_path):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    found = picture(saved(tmp_path / "stripes.png", Image.fromarray(stripes)), 8).int()
    assert (found[:, :, 1:-1] - 128).abs().max() <= 2


def test_a_large_jpeg_is_nearly_what_it_is_at_full_size(tmp_path):
    y, x = np.mgrid[:600, :800]
    smooth = np.stack([x * 255 // 800, y * 255 // 600, 128 + 100 * np.sin(x / 60)], 2).astype(np.uint8)
    path = saved(tmp_path / "photo.jpg", Image.fromarray(smooth), quality=95)
    whole = np.asarray(
        Image.open(path).convert("RGB").crop((100, 0, 700, 600)).resize((32, 32), Image.Resampling.BICUBIC)
    )
    assert (picture(path, 32).int() - torch.from_numpy(whole.copy()).permute(2, 0, 1).int()).abs().max() <= 3


def transparent(mode="RGBA"):
    return Image.new("RGBA", (4, 4), (255, 0, 0, 0)).convert(mode)


def palette():
    image = plain(GREEN, (4, 4)).quantize(4)
    image.info["transparency"] = int(np.asarray(image)[0, 0])
    return image


FORMS = {
    "rgb": (plain(RED), "png", {}, RED),
    "grey": (Image.new("L", (4, 4), 77), "png", {}, [77] * 3),
    "black and white": (Image.new("1", (4, 4), 1), "png", {}, WHITE),
    "palette": (plain(GREEN).quantize(4), "png", {}, GREEN),
    "gif": (plain(GREEN), "gif", {}, GREEN),
    "transparent": (transparent(), "png", {}, WHITE),
    "half transparent": (Image.new("RGBA", (4, 4), (255, 0, 0, 128)), "png", {}, [255, 127, 127]),
    "transparent grey": (transparent("LA"), "png", {}, WHITE),
    "transparent webp": (transparent(), "webp", {"lossless": True}, WHITE),
    "a palette with a hole": (palette(), "png", {"transparency": 0}, WHITE),
    "a colour that means nothing": (plain(RED), "png", {"transparency": tuple(RED)}, WHITE),
    "16 bits": (Image.fromarray(np.full((4, 4), 0x8042, np.uint16)), "png", {}, [0x80] * 3),
    "16 bits in tiff": (Image.fromarray(np.full((4, 4), 0x8042, np.uint16)), "tiff", {}, [0x80] * 3),
    "ppm": (plain(BLUE), "ppm", {}, BLUE),
    "bmp": (plain(BLUE), "bmp", {}, BLUE),
    "cmyk in tiff": (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "tiff", {}, RED),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_rgb_on_white(tmp_path, form):
    image, suffix, options, colour = FORMS[form]
    path = saved(tmp_path / f"one.{suffix}", image, **options)
    assert np.abs(np.array(colour_of(picture(path, 5))) - colour).max() <= 1


def test_a_cmyk_jpeg_has_its_colours(tmp_path):
    path = saved(tmp_path / "print.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)))
    assert (torch.tensor(colour_of(picture(path, 5))) - torch.tensor(RED)).abs().max() <= 3


@pytest.mark.parametrize(("turn", "top"), [(1, RED), (3, BLUE), (6, [0, 0, 0]), (8, [0, 0, 0])])
def test_a_turned_camera_is_turned_back(tmp_path, turn, top):
    image = plain(BLUE, (16, 16))
    image.paste(tuple(RED), (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = turn
    found = picture(saved(tmp_path / "turned.png", image, exif=exif), 16)
    if turn in (1, 3):
        assert found[:, 2, 8].tolist() == top
    else:  # lying on its side: right is red after a quarter clockwise
        assert found[:, 8, 14 if turn == 6 else 2].tolist() == RED


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width, height):
    """A PNG of few bytes that says it has that many pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_001, 20_000, 2**31 - 1])
def test_a_bomb_is_refused(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(bomb(side, side))
    with pytest.raises(DataError, match=r"bomb.png: more than 100,000,000 pixels"):
        picture(tmp_path / "bomb.png", 8)


def test_a_line_of_pixels_does_not_become_a_huge_picture(tmp_path):
    assert colour_of(picture(saved(tmp_path / "line.png", plain(RED, (60_000, 1))), 64)) == RED


def encoded(suffix):
    held = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(held, suffix)
    return held.getvalue()


def test_what_is_no_picture_is_one_sentence(tmp_path):
    path = tmp_path / "one.jpg"
    with pytest.raises(DataError, match=r"one.jpg does not exist"):
        picture(path, 8)
    for content in (b"", b"text", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"one.jpg: not a picture of a known format, or broken"):
            picture(path, 8)
    with pytest.raises(DataError, match=r"a broken picture .Is a directory."):
        picture(tmp_path, 8)
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        picture(path, 0)


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_cut_or_changed_bytes_give_a_picture_or_one_sentence(tmp_path_factory, suffix, data):
    content = bytearray(encoded(suffix))
    if data.draw(st.booleans()):
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    else:
        del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path_factory.mktemp("any") / "one"
    path.write_bytes(content)
    try:
        found = picture(path, 5)
    except DataError as error:
        assert str(error).startswith(str(path))  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert found.shape == (3, 5, 5)


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


def test_what_is_passed_over_is_counted(pets, tmp_path):
    (pets / "notes.txt").touch()
    (pets / "cat" / "cats.csv").touch()
    (pets / "cat" / "kittens").mkdir()
    (pets / "cat" / "folder.png").mkdir()
    (pets / ".git").mkdir()
    (pets / "dog" / ".hidden.png").write_bytes(b"no picture")
    (pets / "dog" / "loop.png").symlink_to("loop.png")
    outside = saved(tmp_path / "outside.png", plain(GREEN))
    (pets / "dog" / "out.png").symlink_to(outside)
    (pets / "dog" / "gone.png").symlink_to(tmp_path / "gone.png")
    (pets / "elsewhere").symlink_to(tmp_path)
    (pets / "dog" / "same.png").symlink_to("0.png")
    train, test = folder(pets, 4), folder(pets, 4, "test")
    assert len(train.y) + len(test.y) == 18
    assert train.classes == ("cat", "dog")
    assert train.notes == ("5 left out that is no picture", "3 left out that leads out of the folder")


def test_a_link_to_the_folder_itself_is_followed(pets, tmp_path):
    (tmp_path / "link").symlink_to(pets)
    assert len(folder(tmp_path / "link", 4).y) == 14


def test_broken_pictures_are_named_and_counted(pets):
    whole = (pets / "dog" / "3.png").read_bytes()
    for place in range(7):
        (pets / "dog" / f"{place}.png").write_bytes(whole[:-20])
    with pytest.raises(DataError, match=rf"{pets}/dog/\d.png: .*broken.*, and 5 more like it") as caught:
        folder(pets, 4)
    assert "\n" not in str(caught.value)


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
    with pytest.raises(DataError, match="14 pictures of 10000000 x 10000000 do not fit into memory"):
        folder(pets, 10**7)


def test_only_known_suffixes_have_readers():
    assert all(suffix in Image.registered_extensions() for suffix in image_folder.IMAGE_SUFFIXES)
    assert set(image_folder._FORMATS) <= set(Image.OPEN)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_one_sentence(pets):
    (pets / "dog").chmod(0)
    with pytest.raises(DataError, match=r"dog: cannot be read \(Permission denied\)"):
        folder(pets, 4)

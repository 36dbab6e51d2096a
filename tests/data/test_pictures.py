import io
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hannet.data import IMAGE_SUFFIXES, DataError, pictures
from hannet.data.pictures import Depth, learn_range, open_picture, picture
from pictures_toy import BLUE, GREEN, RED, WHITE, chunk, colour_of, grey16, plain, png16, saved, tiff


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


def test_only_known_suffixes_have_readers():
    assert all(suffix in Image.registered_extensions() for suffix in IMAGE_SUFFIXES)
    assert set(pictures.FORMATS) <= set(Image.OPEN)


RNG = np.random.default_rng(0)
COLOURS = RNG.integers(1030, 1260, (5, 5, 3)).astype(np.uint16)
NARROW = (1030.0, 1259.0)


def scaled(values):
    """What 1030 to 1259 become."""
    return torch.from_numpy(np.rint((values.astype(float) - 1030) * 255 / 229).astype(np.uint8)).movedim(-1, 0)


DEEP = {
    "png": png16(COLOURS),
    "tiff": tiff(COLOURS, 16),
    "big-endian tiff": tiff(COLOURS, 16, ">"),
    "packed tiff": tiff(COLOURS, 16, packed=True),
    "big-endian packed tiff": tiff(COLOURS, 16, ">", packed=True),
}


@pytest.mark.parametrize("form", DEEP)
def test_all_16_bits_of_a_colour_are_read(tmp_path, form):
    """Pillow reads the upper 8, in which all of these are one grey."""
    path = tmp_path / "deep"
    path.write_bytes(DEEP[form])
    opened = open_picture(path, 5)
    assert np.array_equal(opened.values, COLOURS)
    assert opened.depth == Depth(16, float(COLOURS.min()), float(COLOURS.max()))
    assert torch.equal(picture(path, 5, NARROW), scaled(COLOURS))
    assert set(colour_of(picture(path, 5))) == {4}  # 1030 >> 8, as earlier versions had it


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_16_bits_with_transparency_are_on_white(tmp_path, form):
    values = np.dstack([COLOURS, np.full(COLOURS.shape[:2], 0xFFFF, np.uint16)])
    values[0, 0, 3] = 0
    (tmp_path / "deep").write_bytes(png16(values) if form == "png" else tiff(values, 16))
    found = picture(tmp_path / "deep", 5, NARROW)
    assert found[:, 0, 0].tolist() == WHITE
    assert torch.equal(found[:, 1:], scaled(COLOURS[1:]))


def test_16_bits_of_grey_with_transparency_are_told(tmp_path):
    (tmp_path / "deep").write_bytes(png16(np.full((4, 4, 2), 0xFFFF, np.uint16)))
    opened = open_picture(tmp_path / "deep", 4)
    assert (opened.halved, opened.depth) == (True, None)
    (tmp_path / "flat.png").write_bytes(png16(np.full((4, 4, 1), 0xFFFF, np.uint16)))
    assert not open_picture(tmp_path / "flat.png", 4).halved


@pytest.mark.parametrize("most", [1023, 4095, 65535])
def test_a_pgm_says_what_is_white(tmp_path, most):
    values = np.array([[0, most], [most // 2, most]], ">u2")
    (tmp_path / "deep.pgm").write_bytes(b"P5 2 2 %d\n" % most + values.tobytes())
    assert picture(tmp_path / "deep.pgm", 2)[0].flatten().tolist() == pytest.approx([0, 255, 127, 255], abs=1)


def test_12_bits_are_12_bits(tmp_path):
    values = np.array([[0, 4095], [2048, 1024]], np.uint16)
    pairs = values.reshape(-1, 2).tolist()
    content = b"".join(bytes([one >> 4, (one & 15) << 4 | two >> 8, two & 255]) for one, two in pairs)
    (tmp_path / "deep.tif").write_bytes(tiff(values, 12, data=content))
    assert open_picture(tmp_path / "deep.tif", 2).depth == Depth(12, 0, 4095)
    assert learn_range([Depth(12, 0, 4095)]) == (0, 4095)
    assert picture(tmp_path / "deep.tif", 2, (0, 4095))[0].flatten().tolist() == [0, 255, 128, 64]


def test_floats_need_a_range(tmp_path):
    (tmp_path / "f.tif").write_bytes(tiff(np.array([[-1, 0], [1, 3]], np.float32), 32, kind=3))
    assert picture(tmp_path / "f.tif", 2, (-1.0, 3.0))[0].flatten().tolist() == [0, 64, 128, 255]
    with pytest.raises(DataError, match=r"f.tif: its pixels are not whole numbers from 0 to 65,535, and nothing tells"):
        picture(tmp_path / "f.tif", 2)
    (tmp_path / "f.tif").write_bytes(tiff(np.array([[-1, np.nan], [1, 3]], np.float32), 32, kind=3))
    with pytest.raises(DataError, match=r"f.tif: some of its pixels are not finite numbers"):
        picture(tmp_path / "f.tif", 2, (-1.0, 3.0))


def test_signed_bytes_are_refused(tmp_path):
    (tmp_path / "s.tif").write_bytes(tiff(np.array([[-5, 5]], np.int8), 8, kind=2))
    with pytest.raises(DataError, match=r"s.tif: its pixels may be below 0: convert it"):
        picture(tmp_path / "s.tif", 2)


RANGES = {
    "none is deep": ([], None),
    "all of 16 bits": ([Depth(16, 0, 60000)], None),
    "an eighth of 16 bits": ([Depth(16, 100, 300), Depth(16, 8000, 8300)], None),
    "less than an eighth": ([Depth(16, 1030, 1100), Depth(16, 1050, 1259)], NARROW),
    "12 bits in 16": ([Depth(16, 0, 4095)], (0, 4095)),
    "12 bits": ([Depth(12, 0, 4000)], (0, 4095)),
    "little of 12 bits": ([Depth(12, 100, 200)], (100, 200)),
    "12 and 16 bits": ([Depth(12, 0, 4000), Depth(16, 0, 60000)], None),
    "floats to 1": ([Depth(0, 0.0, 0.9)], (0, 1)),
    "little of floats to 1": ([Depth(0, 0.5, 0.51)], (0.5, 0.51)),
    "other floats": ([Depth(0, -3.0, 70.0)], (-3, 70)),
    "one value": ([Depth(16, 7, 7)], (7, 8)),
}


@pytest.mark.parametrize("case", RANGES)
def test_the_range_is_that_of_the_depth_unless_far_less_is_used(case):
    depths, expected = RANGES[case]
    assert learn_range(depths) == expected


def test_hot_pixels_do_not_make_the_range(tmp_path):
    values = np.full((100, 100), 1100)
    values[0, :5], values[1, :50], values[2, :50] = 65535, 1030, 1259
    assert open_picture(grey16(tmp_path / "hot.png", values), 8).depth == Depth(16, 1030, 1259)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("damage", ["cut", "rubbish", "endless"])
def test_a_broken_exif_block_is_no_broken_picture(tmp_path, suffix, damage):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 3, "a camera of some name"
    block = exif.tobytes()
    broken = {"cut": block[:14], "rubbish": block[:8] + bytes(range(60)), "endless": block[:10] + b"\xff" * 40}[damage]
    if suffix == "tiff":
        broken = broken.removeprefix(b"Exif\0\0")
    try:
        path = saved(tmp_path / f"one.{suffix}", plain(RED, (16, 16)), exif=broken)
    except (OSError, SyntaxError, struct.error, TypeError):
        pytest.skip("Pillow does not write such a block")
    assert np.abs(np.array(colour_of(picture(path, 4))) - RED).max() <= 2


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_of_an_animation_the_first_frame_counts(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"one.{suffix}"
    plain(RED).save(path, save_all=True, append_images=[plain(BLUE), plain(GREEN)], **options)
    opened = open_picture(path, 4)
    assert opened.animated
    assert colour_of(opened.render(4, None)) == RED
    assert not open_picture(saved(tmp_path / f"two.{suffix}", plain(RED)), 4).animated


def test_a_telephones_jpeg_with_a_second_picture_is_no_animation(tmp_path):
    path = tmp_path / "one.jpg"
    plain(RED).save(path, format="MPO", save_all=True, append_images=[plain(BLUE)])
    assert not open_picture(path, 4).animated


@pytest.mark.parametrize("name", ["IMG_1.HEIC", "renamed.jpg"])
def test_heic_says_what_to_install(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / name).write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(200))
    with pytest.raises(DataError, match=rf"{name}: to read HEIC, pip install pillow-heif, or convert it to JPEG"):
        picture(tmp_path / name, 8)


def test_lab_is_named(tmp_path):
    path = saved(tmp_path / "lab.tif", Image.new("LAB", (4, 4)))
    with pytest.raises(DataError, match=r"lab.tif: its colours are in LAB, which is not read: convert it to RGB"):
        picture(path, 4)

import json
from dataclasses import replace

import pytest
import torch

from hannet.models import FCNet, HanMixer, ModelFolderError
from hannet.vision.preprocessing import FILE, Preprocessing, probabilities

GREY = Preprocessing(1, 28, tuple("0123456789"), (0.0,), (1.0,), flat=True)
COLOUR = Preprocessing(3, 32, ("cat", "dog"), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), resize=64)


def images(told: Preprocessing, n: int = 5) -> torch.Tensor:
    return torch.randint(256, (n, told.channels, told.size, told.size), dtype=torch.uint8)


def test_rows_of_pixels():
    x = images(GREY)
    assert torch.allclose(GREY(x), x.flatten(1).double().div(255).float(), atol=1e-6)


def test_normalised_then_resized():
    x = images(COLOUR)
    out = COLOUR(x)
    assert (out.shape, out.dtype) == ((5, 3, 64, 64), torch.float32)
    mean, std = (torch.tensor(value)[:, None, None] for value in (COLOUR.mean, COLOUR.std))
    plain = (x / 255 - mean) / std
    assert torch.allclose(out.mean((2, 3)), plain.mean((2, 3)), atol=0.02)


@pytest.mark.parametrize("told", [GREY, COLOUR])
def test_from_pixels_is_the_same(told):
    x = images(told)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(told(x)[0].numel(), 2)).double()
    whole = told.from_pixels(network).double()
    pixels = x.double() / 255
    torch.testing.assert_close(
        whole(pixels.flatten(1) if told.flat else pixels), network(told(x).double()), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("told", [GREY, COLOUR])
def test_comes_back_from_its_file(tmp_path, told):
    (tmp_path / FILE).write_bytes(told.content())
    assert Preprocessing.load(tmp_path) == told


def test_the_range_of_deep_pictures_comes_back_and_earlier_folders_have_none(tmp_path):
    told = replace(COLOUR, pixel_range=(1030.0, 1259.0))
    (tmp_path / FILE).write_bytes(told.content())
    assert Preprocessing.load(tmp_path) == told
    assert b"pixel_range" not in COLOUR.content()  # so that earlier versions read it


DAMAGED = {
    "a range upside down": json.dumps({**json.loads(COLOUR.content()), "pixel_range": [2, 1]}).encode(),
    "a range of words": json.dumps({**json.loads(COLOUR.content()), "pixel_range": ["a", "b"]}).encode(),
    "half a range": json.dumps({**json.loads(COLOUR.content()), "pixel_range": [1]}).encode(),
    "nothing": b"",
    "a list": b"[]",
    "a key too many": json.dumps({**json.loads(GREY.content()), "key": 1}).encode(),
    "no classes": json.dumps({**json.loads(GREY.content()), "classes": []}).encode(),
    "classes that are no names": json.dumps({**json.loads(GREY.content()), "classes": [1, 2]}).encode(),
    "two channels": json.dumps({**json.loads(GREY.content()), "channels": 2, "mean": [0, 0], "std": [1, 1]}).encode(),
    "a std of 0": json.dumps({**json.loads(GREY.content()), "std": [0.0]}).encode(),
    "a scaled row": json.dumps({**json.loads(GREY.content()), "std": [0.5]}).encode(),
    "an infinite mean": GREY.content().replace(b"0.0\n", b"1e999\n"),
    "a size of halves": json.dumps({**json.loads(GREY.content()), "size": 28.5}).encode(),
    "cut short": GREY.content()[:-20],
    "no text": bytes(range(256)),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_one_sentence(tmp_path, case):
    (tmp_path / FILE).write_bytes(DAMAGED[case])
    with pytest.raises(ModelFolderError, match=r"preprocessing\.json: damaged, or not written by hannet$"):
        Preprocessing.load(tmp_path)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(ModelFolderError, match="cannot be read"):
        Preprocessing.load(tmp_path)


@pytest.mark.parametrize(("told", "network"), [(GREY, FCNet(784, 10, width=8, depth=1)), (COLOUR, None)])
def test_probabilities_do_not_depend_on_company(told, network):
    torch.manual_seed(0)
    network = network or HanMixer(64, 2, channels=(4, 4, 8, 8, 8), han_blocks=2, strides=(2, 2, 2, 2))
    network.train()
    x = images(told, 7)
    whole = probabilities(network, told, x)
    assert whole.shape == (7, len(told.classes))
    assert torch.allclose(whole.sum(1), torch.ones(7))
    assert torch.allclose(whole[3:4], probabilities(network, told, x[3:4]), atol=1e-5)
    assert probabilities(network, told, x[:0]).shape == (0, len(told.classes))

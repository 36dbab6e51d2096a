import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hannet.data import images
from images_toy import MIXER, TINY, launched

pytestmark = pytest.mark.usefixtures("own_folder")


def test_a_folder_of_pictures_becomes_a_classifier_of_pictures(hannet, photos):
    code, out, err = hannet("train", "images", str(photos), *MIXER, "--size", "16", "--augment", "auto", "--ema", "0.5")
    assert code == 0
    assert "HanMixer, channels [2, 4, 8, 16, 16], mlp blocks 0, han blocks 2: " in out
    assert "100% reading" in err
    assert "100% HanMixer" in err
    folder = Path("hannet-models", "photos-han-mixer")
    assert out.endswith(f"Next: hannet predict {folder} IMAGE.png\n")
    names = {"config.json", "model.safetensors", "preprocessing.json", "report.json", "curves.png", "curves.svg"}
    assert {path.name for path in folder.iterdir()} == names
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # the checkpoint is gone
    facts = json.loads((folder / "report.json").read_text())
    assert facts["images"] == {"train": 55, "validation": 5, "test": 12}
    assert facts["classes"] == ["apples", "limes", "plums"]
    assert len(facts["history"]["train_loss"]) == len(facts["validation_accuracy"]) == 6
    assert facts["test_accuracy"] > 0.8
    told = json.loads(hannet("predict", str(folder), str(photos / "limes"), "--json")[1])
    assert sum(row["classes"][0] == "limes" for row in told["pictures"]) > 18
    test = images.folder(photos, 16, "test")
    np.savez("test.npz", x=test.x.numpy(), y=test.y.numpy())
    told = json.loads(hannet("attack", str(folder), "--data", "test.npz", "--eps", "0.5", "--json")[1])
    assert told["clean_accuracy"] == facts["test_accuracy"]  # of pixels from 0 to 1, scaled as in training
    code, _, err = hannet("certify", str(folder), "--data", "test.npz")
    assert (code, err.count("\n")) == (1, 1)
    assert "HanMixer" in err


@pytest.mark.parametrize("model", ["han-mixer", "hannet"])
def test_few_pictures_make_small_batches(hannet, photos, model):
    sizes = ("--width", "16", "--depth", "2", "--size", "16", "--epochs", "1")
    facts = json.loads(hannet("train", "images", str(photos), "--model", model, *sizes, "--json")[1])
    assert facts["recipe"]["batch"] == 55 // 8


@pytest.mark.slow
def test_mobilevit_takes_pictures_of_its_size(hannet, photos):
    arguments = ("--model", "mobilevit-xxs", "--size", "64", "--epochs", "1", "--batch", "32", "--json")
    facts = json.loads(hannet("train", "images", str(photos), *arguments)[1])
    assert facts["network"] == {"model": "MobileViT", "num_classes": 3, "size": "xxs", "block": "han"}
    assert facts["recipe"]["resize"] == 256


def test_mobilevit_refuses_pictures_of_other_sizes(hannet, photos):
    code, out, err = hannet("train", "images", str(photos), "--model", "mobilevit-xxs", "--size", "300")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].endswith(
        "--size: mobilevit-xxs takes images of at most 256 pixels, or of a multiple of 64, got 300"
    )


def test_the_folder_may_be_where_we_are(hannet, photos):
    Path("here").mkdir()
    os.chdir("here")
    assert hannet("train", "images", str(photos), *MIXER, "--epochs", "1", "--size", "16", "--out", ".")[0] == 0
    assert (photos.parent / "here" / "model.safetensors").is_file()
    assert {path.name for path in photos.parent.iterdir()} == {"photos", "here"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "part"),
    [
        ((*MIXER, "--batch", "15"), "--batch: must be a multiple of 2, the number of processes, got 15"),
        (TINY, "--model: hannet trains in one process, not in 2"),
    ],
)
def test_what_several_processes_cannot_is_one_sentence(photos, options, part):
    Path("program.py").write_text("from hannet.cli import main; main()")
    arguments = ("train", "images", photos, *options, "--size", 16)
    done = launched("program.py", *arguments, processes=2, check=False)
    assert done.returncode
    assert f"hannet: {part}" in done.stderr or f"Invalid value for {part}" in done.stderr
    assert not list(Path.cwd().rglob("*.safetensors"))


@pytest.mark.gpu
def test_a_report_names_the_gpu_that_trained(hannet, photos):
    told = json.loads(hannet("train", "images", str(photos), *MIXER, "--size", "16", "--json")[1])
    assert told["device"] == f"cuda {torch.cuda.get_device_name()}"


@pytest.mark.slow
def test_a_mixer_learns_grey_images(hannet, patterns):
    facts = json.loads(hannet("train", "images", "mnist", *MIXER, "--mlp-blocks", "1", "--json")[1])
    assert facts["recipe"]["augmentation"] == {"padding": 3, "flip": False, "policy": "", "cutout": 0}
    assert facts["recipe"]["mean"] == [0.5]
    more = ("--augment", "none", "--epochs", "20", "--force", "--json")
    assert json.loads(hannet("train", "images", "mnist", *MIXER, *more)[1])["test_accuracy"] > 0.5


@pytest.mark.parametrize("loss", ["multi-margin", "hkr"])
def test_a_mixer_trains_with_every_loss(hannet, photos, loss):
    arguments = ("train", "images", str(photos), *MIXER, "--size", "16", "--loss", loss, "--margin", "0.5", "--json")
    facts = json.loads(hannet(*arguments)[1])
    assert (facts["recipe"]["loss"], facts["recipe"]["margin"]) == (loss.replace("-", "_"), 0.5)
    assert facts["test_accuracy"] > 0.6


def test_a_mixer_that_diverges_is_one_sentence(hannet, photos):
    code, out, err = hannet("train", "images", str(photos), *MIXER[:-1], "1e30", "--size", "16")
    assert (code, out) == (1, "")
    assert "diverged in epoch 1: a smaller learning rate may help; nothing is saved" in err.splitlines()[-1]


def test_a_folder_of_few_pictures_is_one_sentence(hannet, photos):
    for name in ("apples", "limes"):
        for path in sorted((photos / name).iterdir())[4:]:
            path.unlink()
    shutil.rmtree(photos / "plums")
    code, out, err = hannet("train", "images", str(photos), *MIXER)
    assert (code, out) == (2, "")
    assert "training images, at least 12 are needed" in err.splitlines()[-1]

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hannet.data import images
from images_toy import MIXER, TINY, launched
from pictures_toy import grey16

pytestmark = pytest.mark.usefixtures("own_folder")


def test_a_folder_of_pictures_becomes_a_classifier_of_pictures(hannet, photos):
    code, out, err = hannet("train", "images", str(photos), *MIXER, "--size", "16", "--augment", "auto", "--ema", "0.5")
    assert code == 0
    assert "HanMixer, channels [2, 4, 8, 16, 16], mlp blocks 0, han blocks 2: " in out
    assert "100% reading" in err
    assert "100% HanMixer" in err
    folder = Path("hannet-models", "photos-han-mixer")
    assert out.endswith(f"Next: hannet predict {folder} IMAGE.png\n")
    names = {
        "config.json",
        "model.safetensors",
        "preprocessing.json",
        "report.json",
        "report.html",
        "README.md",
        "curves.png",
        "curves.svg",
    }
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


QUICK = ("--model", "han-mixer", "--width", "16", "--depth", "1", "--epochs", "1", "--batch", "8", "--size", "16")


def test_broken_pictures_are_listed_in_a_file_and_left_out_if_asked(hannet, photos):
    for place in range(4):
        (photos / "limes" / f"{place}.png").write_bytes(b"")
    listed = Path("hannet-models", "photos-han-mixer-broken.txt")
    code, out, err = hannet("train", "images", str(photos), *QUICK)
    assert (code, out) == (1, "")
    told = err.splitlines()[-1]
    assert told.startswith(f"hannet: 4 of 72 pictures cannot be read: {photos}/limes/")
    assert told.endswith(f"and 1 more; all are listed in {listed}, --skip-broken leaves them out")
    assert [line.partition(": ")[0] for line in sorted(listed.read_text().splitlines())] == [
        f"{photos}/limes/{place}.png" for place in range(4)
    ]
    code, _, err = hannet("train", "images", str(photos), *QUICK, "--skip-broken", "0.01")
    assert (code, "more than the share of 0.01 that may be left out" in err) == (1, True)
    shutil.copy(photos / "limes" / "9.png", photos / "limes" / "0.png")
    code, out, _ = hannet("train", "images", str(photos), "--skip-broken", "--json", *QUICK)  # up to one in twenty
    facts = json.loads(out)
    assert (code, sum(facts["images"].values()), len(facts["broken"])) == (0, 69, 3)
    assert facts["notes"][0].startswith("3 of 72 pictures left out, which cannot be read: ")


def test_pictures_of_16_bits_are_learned_and_predicted_by_one_range(hannet, tmp_path):
    """Their upper 8 bits are one grey level, so that no network could tell them apart."""
    rng = np.random.default_rng(0)
    for name, value in (("cold", 1030), ("warm", 1200)):
        for place in range(24):
            grey16(tmp_path / "scans" / name / f"{place}.png", value + rng.integers(0, 60, (16, 16)))
    code, out, _ = hannet("train", "images", "scans", *MIXER, "--size", "16", "--augment", "none", "--json")
    facts = json.loads(out)
    assert (code, facts["test_accuracy"]) == (0, 1.0)
    assert facts["notes"] == [
        "48 pictures with 16 bits a channel: 1,030 to 1,259 become black to white, in predictions too"
    ]
    folder = Path(facts["folder"])
    assert json.loads((folder / "preprocessing.json").read_text())["pixel_range"] == [1030, 1259]
    told = json.loads(hannet("predict", str(folder), "scans/warm", "--json")[1])
    assert {row["classes"][0] for row in told["pictures"]} == {"warm"}
    assert told["notes"] == []


def test_links_out_of_the_folder_are_named_or_followed(hannet, photos):
    (photos / "limes" / "0.png").rename("elsewhere.png")
    (photos / "limes" / "0.png").symlink_to(Path("elsewhere.png").resolve())
    code, _, err = hannet("train", "images", str(photos), *QUICK)
    assert (code, err.count("\n")) == (1, 1)
    assert "1 link leads out of the folder, limes/0.png: --follow-links follows them" in err
    assert hannet("train", "images", str(photos), *QUICK, "--follow-links")[0] == 0


def test_the_name_of_a_class_cannot_steer_the_terminal(hannet, photos):
    for path in (photos / "limes").iterdir():
        path.unlink()
    (photos / "limes").rename(photos / "\x1b[2Jlimes")
    code, _, err = hannet("train", "images", str(photos), *QUICK)
    assert (code, "\x1b" in err, "class \\x1b[2Jlimes has no pictures" in err) == (1, False, True)

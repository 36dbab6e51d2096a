import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hannet import models
from hannet.data import images
from hannet.data.images import Images
from hannet.models import HanMixer, HanNet
from images_toy import launched

TINY = ("--width", "784", "--depth", "2", "--epochs", "3", "--batch", "16")
LIPSCHITZ = ("--lipschitz", "--reflections", "2", *TINY)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def few(monkeypatch):
    """240 images to train on and 50 to test, of ten patterns."""
    patterns = torch.randint(2, (10, 1, 28, 28))

    def draw(count, seed):
        generator = torch.Generator().manual_seed(seed)
        y = torch.arange(count) % 10
        noise = torch.randint(100, (count, 1, 28, 28), generator=generator)
        return Images((155 * patterns[y] + noise).to(torch.uint8), y, tuple("0123456789"))

    parts = {"train": draw(240, 1), "test": draw(50, 2)}
    monkeypatch.setattr(images, "load", lambda _, part, *_progress: parts[part])
    return parts


def test_help_has_an_example(hannet):
    assert "train" in hannet("--help")[1]
    assert "images" in hannet("train", "--help")[1]
    assert "Example: hannet train images" in hannet("train", "images", "-h")[1]


def test_train_then_certify_then_attack(hannet, few):
    pytest.importorskip("foolbox")
    code, out, err = hannet("train", "images", "mnist", *LIPSCHITZ)
    assert code == 0
    assert "HanNet, lipschitz, width 784, depth 2, reflections 2: " in out
    assert "220 images of mnist, 3 epochs" in out
    assert "of 20 images" in out
    assert "certified accuracy at 1.58" in out
    assert out.endswith("Go on with: hannet certify hannet-models/mnist-hannet\n")
    assert "100% HanNet [3/3] 39/39" in err
    assert "validation " in err
    folder = Path("hannet-models", "mnist-hannet")
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "preprocessing.json", "report.json"
    }  # fmt: skip
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    report = json.loads((folder / "report.json").read_text())
    assert report["test_accuracy"] > 0.9
    assert len(report["validation_accuracy"]) == 3
    certain = json.loads(hannet("certify", str(folder), "--radii", "0.5,1.58", "--json")[1])
    assert certain["accuracy"] == pytest.approx(report["test_accuracy"], abs=0.03)
    assert certain["certified_accuracy"] == report["certified_accuracy"]
    attacked = json.loads(hannet("attack", str(folder), "--eps", "1.58", "--json")[1])
    assert attacked["clean_accuracy"] == report["test_accuracy"]
    assert attacked["accuracy"] >= report["certified_accuracy"]["1.58"]


def test_the_report_as_json_holds_all_settings(hannet, few):
    code, out, _ = hannet(
        "train", "images", "mnist", *TINY, "--model", "fcnet", "--loss", "hkr", "--margin", "2", "--lr", "0.002",
        "--weight-decay", "0.001", "--seed", "7", "--out", "net", "--json",
    )  # fmt: skip
    facts = json.loads(out)
    assert code == 0
    assert facts["folder"] == "net"
    assert facts["network"] == {"model": "FCNet", "in_features": 784, "out_features": 10, "width": 784, "depth": 2}
    assert facts["recipe"] == {
        "optimizer": "adam", "lr": 0.002, "schedule": "cosine", "weight_decay": 0.001, "batch": 16, "iterations": 39,
        "loss": "hkr", "margin": 2.0, "alpha": 10.0,
    }  # fmt: skip
    assert (facts["epochs"], facts["seed"], facts["data"]) == (3, 7, "mnist")
    assert facts["images"] == {"train": 220, "validation": 20, "test": 50}
    assert facts["parameters"] == 2 * (784 + 1) * 784 + 785 * 10
    assert "certified_accuracy" not in facts
    assert {"torch", "hannet"} <= set(facts["versions"])
    assert "commit" in facts
    assert json.loads(Path("net", "report.json").read_text()) == {k: v for k, v in facts.items() if k != "folder"}


def test_the_defaults_are_those_of_the_help(hannet, few):
    told = json.loads(hannet("train", "images", "mnist", "--epochs", "1", "--batch", "220", "--lipschitz", "--json")[1])
    sizes = {"model": "HanNet", "in_features": 784, "out_features": 10}
    assert told["network"] == sizes | {"width": 1024, "depth": 4, "reflections": 32, "lipschitz": True}
    assert (told["recipe"]["lr"], told["recipe"]["temperature"]) == (3e-3, 1.0)
    told = json.loads(hannet("train", "images", "mnist", "--epochs", "1", "--batch", "220", "--force", "--json")[1])
    assert told["network"] == sizes | {"width": 784, "depth": 20, "reflections": 1, "lipschitz": False}
    assert told["recipe"]["lr"] == 1e-3


def test_the_seed_decides(hannet, few):
    def weights(seed):
        assert hannet("train", "images", "mnist", *TINY, "--seed", seed, "--force")[0] == 0
        return Path("hannet-models", "mnist-hannet", "model.safetensors").read_bytes()

    assert weights("1") == weights("1") != weights("2")


@pytest.mark.parametrize("loss", ["cross-entropy", "multi-margin", "hkr"])
def test_every_loss_teaches(hannet, few, loss):
    told = json.loads(hannet("train", "images", "mnist", *LIPSCHITZ, "--loss", loss, "--json")[1])
    assert told["recipe"]["loss"] == loss.replace("-", "_")
    assert told["test_accuracy"] > 0.9


def test_what_tests_does_not_train(hannet, few):
    """With test images of other patterns, the network knows nothing of them."""
    few["test"] = Images(
        torch.randint(256, (200, 1, 28, 28)).to(torch.uint8), torch.arange(200) % 10, few["test"].classes
    )
    told = json.loads(hannet("train", "images", "mnist", *TINY, "--json")[1])
    assert told["validation_accuracy"][-1] > 0.9
    assert told["test_accuracy"] < 0.3


USAGE = {
    "other data": (["cifar-10"], "'cifar-10' is neither a folder nor one of mnist, cifar10"),
    "no data": ([], "'data'"),
    "an unknown model": (["mnist", "--model", "transformer"], "transformer"),
    "fcnet with lipschitz": (["mnist", "--model", "fcnet", "--lipschitz"], "--lipschitz: fcnet has no such setting"),
    "fcnet with reflections": (["mnist", "--model", "fcnet", "--reflections", "2"], "--reflections: fcnet has no such"),
    "a narrow lipschitz net": (["mnist", "--lipschitz", "--width", "783"], "a width of at least in_features (784)"),
    "a shallow HanNet": (["mnist", "--depth", "1"], "depth must be at least 2"),
    "a width beyond memory": (["mnist", "--model", "fcnet", "--width", "99999999"], "does not fit into memory"),
    "a HanNet of no depth": (["mnist", "--depth", "0"], "depth must be a positive integer, got 0"),
    "an FCNet of no depth": (["mnist", "--model", "fcnet", "--depth", "0"], "depth must be a positive integer, got 0"),
    "fcnet with blocks": (
        ["mnist", "--model", "fcnet", "--mlp-blocks", "1"],
        "--mlp-blocks: fcnet has no such setting",
    ),
    "a mixer with a loss": (
        ["mnist", "--model", "han-mixer", "--loss", "hkr"],
        "--loss: han-mixer has no such setting",
    ),
    "a mixer with an odd width": (
        ["mnist", "--model", "han-mixer", "--width", "12"],
        "--width: must be a multiple of 8",
    ),
    "a grey mobilevit": (["mnist", "--model", "mobilevit-xs"], "three colours, these have 1"),
    "a size for mnist": (["mnist", "--size", "32"], "--size: the images of mnist have a size"),
    "an average of all": (["mnist", "--model", "han-mixer", "--ema", "1"], "--ema: must be between 0 and 1"),
    "no time": (["mnist", "--model", "han-mixer", "--minutes", "-1"], "--minutes: must be at least 0"),
    "no width": (["mnist", "--width", "0"], "--width"),
    "an unknown loss": (["mnist", "--loss", "multi_margin"], "multi_margin"),
    "a margin of cross entropy": (["mnist", "--margin", "1"], "the loss cross-entropy has no such setting"),
    "a temperature of hkr": (["mnist", "--loss", "hkr", "--temperature", "1"], "the loss hkr has no such setting"),
    "temperature 0": (["mnist", "--temperature", "0"], "--temperature: must be above 0 and finite, got 0"),
    "a margin that is no number": (["mnist", "--loss", "hkr", "--margin", "nan"], "--margin: must be above 0"),
    "rate 0": (["mnist", "--lr", "0"], "--lr: must be above 0 and finite, got 0"),
    "an infinite rate": (["mnist", "--lr", "inf"], "--lr: must be above 0"),
    "a negative weight decay": (["mnist", "--weight-decay", "-1"], "--weight-decay: must be at least 0"),
    "weight decay that is no number": (["mnist", "--weight-decay", "nan"], "--weight-decay: must be at least 0"),
    "no batch": (["mnist", "--batch", "0"], "--batch"),
    "a batch of too many": (["mnist", "--batch", "221"], "only 220 images train"),
    "no epochs": (["mnist", "--epochs", "0"], "--epochs"),
    "a negative seed": (["mnist", "--seed", "-1"], "--seed"),
    "a file for a folder": (["mnist", "--out", __file__], "--out"),
    "a folder that cannot be": (["mnist", "--out", "/proc/none/net"], "--out"),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_bad_command_line_is_one_sentence_and_exit_code_2(hannet, few, case):
    arguments, part = USAGE[case]
    code, out, err = hannet("train", "images", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert part in err
    assert not list(Path.cwd().rglob("*.safetensors"))


def test_only_a_network_is_ever_replaced_and_only_by_force(hannet, few):
    folder = Path("hannet-models", "mnist-hannet")
    HanNet(16, 3).save_pretrained(folder)
    arguments = ("train", "images", "mnist", *TINY)
    code, out, err = hannet(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--force replaces it" in err
    assert hannet(*arguments, "--force")[0] == 0
    assert models.load(folder)(torch.rand(2, 784)).shape == (2, 10)
    (folder / "thesis.txt").touch()
    code, _, err = hannet(*arguments, "--force")
    assert code == 2
    assert "no model's" in err


def test_a_training_that_diverges_is_one_sentence_and_saves_nothing(hannet, few):
    code, out, err = hannet("train", "images", "mnist", *TINY, "--lr", "1e30")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "hannet: the training diverged: a smaller --lr may help; nothing is saved"
    assert not list(Path.cwd().rglob("*.safetensors"))


def test_a_full_disk_keeps_the_numbers_on_the_screen_and_the_network_that_was_there(hannet, few):
    assert hannet("train", "images", "mnist", *TINY)[0] == 0
    before = {path: path.read_bytes() for path in Path("hannet-models").rglob("*.*")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        code, out, err = hannet("train", "images", "mnist", *TINY, "--seed", "1", "--force")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert "test accuracy" in out
    assert err.splitlines()[-1].startswith("hannet: ")
    assert "File too large" in err.splitlines()[-1]
    assert {path: path.read_bytes() for path in Path("hannet-models").rglob("*.*")} == before


def test_ctrl_c_says_that_nothing_is_saved():
    if not os.environ.get("HANNET_DATA"):
        pytest.skip("HANNET_DATA is not set")
    code = "from hannet.cli import main; main()"
    arguments = ["train", "images", "mnist", "--epochs", "500", "--depth", "2"]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True) as process:
        try:
            while "% HanNet [" not in (line := process.stderr.readline()):
                assert line
            process.send_signal(signal.SIGINT)
            err = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "hannet: interrupted; nothing is saved"
    assert not list(Path("hannet-models").iterdir())


def test_on_mnist(hannet):
    if not os.environ.get("HANNET_DATA"):
        pytest.skip("HANNET_DATA is not set")
    code, out, _ = hannet("train", "images", "mnist", "--epochs", "1", "--depth", "2", "--batch", "1000", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["images"] == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert facts["test_accuracy"] > 0.8


MIXER = ("--model", "han-mixer", "--width", "16", "--depth", "2", "--epochs", "6", "--batch", "16", "--lr", "0.01")


@pytest.fixture
def photos(tmp_path):
    """Three classes of 24 pictures whose colour tells the class."""
    image = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    for channel, name in enumerate(("apples", "limes", "plums")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(24):
            pixels = generator.integers(0, 120, (20, 24, 3), dtype=np.uint8)
            pixels[..., channel] += 100
            image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_a_folder_of_pictures_becomes_a_classifier_of_pictures(hannet, photos):
    code, out, err = hannet("train", "images", str(photos), *MIXER, "--size", "16", "--augment", "auto", "--ema", "0.5")
    assert code == 0
    assert "HanMixer, channels [2, 4, 8, 16, 16], mlp blocks 0, han blocks 2: " in out
    assert "100% reading" in err
    assert "100% HanMixer" in err
    folder = Path("hannet-models", "photos-han-mixer")
    assert out.endswith(f"Go on with: hannet predict {folder} PICTURE.png\n")
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


def test_mobilevit_takes_pictures_of_its_size(hannet, photos):
    arguments = ("--model", "mobilevit-xxs", "--size", "64", "--epochs", "1", "--batch", "32", "--json")
    facts = json.loads(hannet("train", "images", str(photos), *arguments)[1])
    assert facts["network"] == {"model": "MobileViT", "num_classes": 3, "size": "xxs", "block": "han"}
    assert facts["recipe"]["resize"] == 256


def test_mobilevit_refuses_pictures_of_other_sizes(hannet, photos):
    code, out, err = hannet("train", "images", str(photos), "--model", "mobilevit-xxs", "--size", "300")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].endswith(
        "--size: mobilevit-xxs takes pictures of at most 256 pixels, or of a multiple of 64, got 300"
    )


def test_the_folder_may_be_where_we_are(hannet, photos):
    Path("here").mkdir()
    os.chdir("here")
    assert hannet("train", "images", str(photos), *MIXER, "--epochs", "1", "--size", "16", "--out", ".")[0] == 0
    assert (photos.parent / "here" / "model.safetensors").is_file()
    assert {path.name for path in photos.parent.iterdir()} == {"photos", "here"}


def test_a_network_on_rows_leaves_the_state_of_another_training(hannet, photos):
    kept = Path(".net.unfinished", "checkpoint.safetensors")
    kept.parent.mkdir()
    kept.write_bytes(b"of a mixer")
    assert hannet("train", "images", str(photos), *TINY, "--size", "8", "--out", "net")[0] == 0
    assert kept.exists()


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


def test_a_checkpoint_that_no_fresh_start_mends_says_no_such_thing(hannet, photos):
    kept = Path(".net.unfinished", "checkpoint.safetensors")
    kept.mkdir(parents=True)
    code, _, err = hannet("train", "images", str(photos), *MIXER, "--size", "16", "--out", "net")
    assert code == 1
    assert err.splitlines()[-1].startswith(f"hannet: {kept}: cannot be read")
    assert "--fresh" not in err


@pytest.mark.gpu
def test_a_report_names_the_gpu_that_trained(hannet, photos):
    told = json.loads(hannet("train", "images", str(photos), *MIXER, "--size", "16", "--json")[1])
    assert told["device"] == f"cuda {torch.cuda.get_device_name()}"


def test_a_mixer_learns_grey_images(hannet, few):
    facts = json.loads(hannet("train", "images", "mnist", *MIXER, "--mlp-blocks", "1", "--json")[1])
    assert facts["recipe"]["augmentation"] == {"padding": 3, "flip": False, "policy": "", "cutout": 0}
    assert facts["recipe"]["mean"] == [0.5]
    more = ("--augment", "none", "--epochs", "20", "--force", "--json")
    assert json.loads(hannet("train", "images", "mnist", *MIXER, *more)[1])["test_accuracy"] > 0.5


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_that_was_cut_off_goes_on(hannet, photos, number, expected):
    arguments = ["train", "images", str(photos), *MIXER, "--size", "16"]
    assert hannet(*arguments, "--out", "whole")[0] == 0
    long = [*arguments[:-6], "--epochs", "2000", "--batch", "16", "--lr", "0.01", "--size", "16"]
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from hannet.cli import main; main()"
    )
    with subprocess.Popen([sys.executable, "-c", code, *long], stderr=subprocess.PIPE, text=True) as process:
        try:
            while "HanMixer" not in (line := process.stderr.readline()):
                assert line
            process.send_signal(number)
            err = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == expected
    assert "the same command goes on from there" in err.splitlines()[-1]
    assert Path("hannet-models", ".photos-han-mixer.unfinished", "checkpoint.safetensors").is_file()
    code, out, err = hannet(*arguments)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].endswith(
        "of a training with other settings, images or seed; remove it to start over (--fresh does)"
    )
    assert hannet(*arguments, "--fresh")[0] == 0
    first, second = (
        Path(name, "model.safetensors").read_bytes() for name in ("whole", "hannet-models/photos-han-mixer")
    )
    assert first == second


@pytest.mark.parametrize("model", [MIXER, TINY])
def test_one_folder_has_one_training(hannet, photos, model):
    arguments = ["train", "images", str(photos), *model, "--size", "16", "--epochs", "100000", "--out", "net"]
    with subprocess.Popen(
        [sys.executable, "-c", "from hannet.cli import main; main()", *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not ("HanMixer" in (line := process.stderr.readline()) or "HanNet" in line):
                assert line
            for more in ([], ["--fresh"], ["--force", "--seed", "1"]):
                code, out, err = hannet(*arguments, *more)
                assert (code, out, err.count("\n")) == (1, "", 1)
                assert "hannet: another process is training for net: wait until it ends, or name another folder" in err
            assert process.poll() is None
        finally:
            process.kill()
    assert hannet(*arguments, "--epochs", "1", "--fresh")[0] == 0  # a process that was killed is in nobody's way
    assert {path.name for path in Path().iterdir()} == {"photos", "net"}


@pytest.mark.parametrize("there", [False, True])
def test_a_second_ctrl_c_claims_no_more_than_is_kept(hannet, photos, monkeypatch, there):
    """It ends a training at once, in the middle of a step."""
    train = HanMixer.train

    def told(model, mode=True):
        if mode:
            signal.raise_signal(signal.SIGINT)
            if there:
                Path(".net.unfinished", "checkpoint.safetensors").touch()
            signal.raise_signal(signal.SIGINT)
        return train(model, mode)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
    monkeypatch.setattr(HanMixer, "train", told)
    try:
        code, _, err = hannet("train", "images", str(photos), *MIXER, "--size", "16", "--out", "net")
    finally:
        signal.signal(signal.SIGINT, before)
    kept = "the last checkpoint in .net.unfinished is kept" if there else "nothing is kept"
    assert (code, err.splitlines()[-1]) == (130, f"hannet: interrupted; {kept}")


def test_a_mixer_that_diverges_is_one_sentence(hannet, photos):
    code, out, err = hannet("train", "images", str(photos), *MIXER[:-1], "1e30", "--size", "16")
    assert (code, out) == (1, "")
    assert "diverged in epoch 1: a smaller rate may help; nothing is saved" in err.splitlines()[-1]


def test_a_folder_of_few_pictures_is_one_sentence(hannet, photos):
    for name in ("apples", "limes"):
        for path in sorted((photos / name).iterdir())[4:]:
            path.unlink()
    shutil.rmtree(photos / "plums")
    code, out, err = hannet("train", "images", str(photos), *MIXER)
    assert (code, out) == (2, "")
    assert "training images, at least 12 are needed" in err.splitlines()[-1]

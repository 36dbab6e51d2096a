import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hannet import models
from hannet.data import images
from hannet.data.images import Images
from hannet.models import HanNet

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
    monkeypatch.setattr(images, "load", lambda _, part: parts[part])
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
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "report.json"}
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
    assert facts["network"] == {"model": "FCNet", "width": 784, "depth": 2}
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
    assert told["network"] == {"model": "HanNet", "width": 1024, "depth": 4, "reflections": 32, "lipschitz": True}
    assert (told["recipe"]["lr"], told["recipe"]["temperature"]) == (3e-3, 1.0)
    told = json.loads(hannet("train", "images", "mnist", "--epochs", "1", "--batch", "220", "--force", "--json")[1])
    assert told["network"] == {"model": "HanNet", "width": 784, "depth": 20, "reflections": 1, "lipschitz": False}
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
    "other data": (["cifar-10"], "'cifar-10' is not one of mnist"),
    "no data": ([], "'name'"),
    "an unknown model": (["mnist", "--model", "transformer"], "transformer"),
    "fcnet with lipschitz": (["mnist", "--model", "fcnet", "--lipschitz"], "--lipschitz: fcnet has no such setting"),
    "fcnet with reflections": (["mnist", "--model", "fcnet", "--reflections", "2"], "--reflections: fcnet has no such"),
    "a narrow lipschitz net": (["mnist", "--lipschitz", "--width", "783"], "a width of at least in_features (784)"),
    "a shallow HanNet": (["mnist", "--depth", "1"], "depth must be at least 2"),
    "a width beyond memory": (["mnist", "--model", "fcnet", "--width", "99999999"], "does not fit into memory"),
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
            assert "% HanNet [" in process.stderr.readline()
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

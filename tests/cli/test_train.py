import json
import os
import resource
from pathlib import Path

import pytest
import torch

from hannet import models
from hannet.data.images import Images
from hannet.models import HanNet
from hannet.vision.presets import PRESETS
from images_toy import TINY

pytestmark = pytest.mark.usefixtures("own_folder")
LIPSCHITZ = ("--lipschitz", "--reflections", "2", *TINY)


def test_help_names_every_preset_and_has_an_example(hannet):
    assert "train" in hannet("--help")[1]
    assert "images" in hannet("train", "--help")[1]
    told = hannet("train", "images", "-h")[1]
    assert "Example: hannet train images" in told
    assert all(name in told for name in PRESETS)


def test_train_then_certify_then_attack(hannet, patterns):
    pytest.importorskip("foolbox")
    code, out, err = hannet("train", "images", "mnist", *LIPSCHITZ)
    assert code == 0
    assert "HanNet, lipschitz, width 784, depth 2, reflections 2: " in out
    assert "220 images of mnist, 3 epochs" in out
    assert "of 20 images" in out
    assert "certified accuracy at 1.58" in out
    assert out.endswith("Next: hannet certify hannet-models/mnist-hannet\n")
    assert "100% HanNet 39/39" in err
    assert "validation " in err
    folder = Path("hannet-models", "mnist-hannet")
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "preprocessing.json", "README.md", "report.html", "report.json", "curves.png", "curves.svg"
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


def test_the_report_as_json_holds_all_settings(hannet, patterns):
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


def test_a_flat_network_has_an_average_of_weights_and_autocast(hannet, patterns):
    arguments = ("train", "images", "mnist", *TINY, "--ema", "0.5", "--precision", "bf16", "--json")
    facts = json.loads(hannet(*arguments)[1])
    assert (facts["recipe"]["ema"], facts["recipe"]["precision"]) == (0.5, "bf16")
    assert facts["test_accuracy"] > 0.9


def test_the_defaults_are_those_of_the_help(hannet, patterns):
    told = json.loads(hannet("train", "images", "mnist", "--epochs", "1", "--batch", "220", "--lipschitz", "--json")[1])
    sizes = {"model": "HanNet", "in_features": 784, "out_features": 10}
    assert told["network"] == sizes | {"width": 1024, "depth": 4, "reflections": 32, "lipschitz": True}
    assert (told["recipe"]["lr"], told["recipe"]["temperature"]) == (3e-3, 1.0)
    told = json.loads(hannet("train", "images", "mnist", "--epochs", "1", "--batch", "220", "--force", "--json")[1])
    assert told["network"] == sizes | {"width": 784, "depth": 20, "reflections": 1, "lipschitz": False}
    assert told["recipe"]["lr"] == 1e-3


@pytest.mark.slow
def test_the_seed_decides(hannet, patterns):
    def weights(seed):
        assert hannet("train", "images", "mnist", *TINY, "--seed", seed, "--force")[0] == 0
        return Path("hannet-models", "mnist-hannet", "model.safetensors").read_bytes()

    assert weights("1") == weights("1") != weights("2")


@pytest.mark.parametrize("loss", ["cross-entropy", "multi-margin", "hkr"])
def test_every_loss_teaches(hannet, patterns, loss):
    told = json.loads(hannet("train", "images", "mnist", *LIPSCHITZ, "--loss", loss, "--json")[1])
    assert told["recipe"]["loss"] == loss.replace("-", "_")
    assert told["test_accuracy"] > 0.9


def test_what_tests_does_not_train(hannet, patterns):
    """With test images of other patterns, the network knows nothing of them."""
    patterns["test"] = Images(
        torch.randint(256, (200, 1, 28, 28)).to(torch.uint8), torch.arange(200) % 10, patterns["test"].classes
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
    "a hannet with augmentation": (["mnist", "--augment", "flip"], "--augment: hannet has no such setting"),
    "a mixer with reflections": (
        ["mnist", "--model", "han-mixer", "--reflections", "2"],
        "--reflections: han-mixer has no such setting",
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
def test_a_bad_command_line_is_one_sentence_and_exit_code_2(hannet, patterns, case):
    arguments, part = USAGE[case]
    code, out, err = hannet("train", "images", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert part in err
    assert not list(Path.cwd().rglob("*.safetensors"))


def test_only_a_network_is_ever_replaced_and_only_by_force(hannet, patterns):
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


def test_a_training_that_diverges_is_one_sentence_and_saves_nothing(hannet, patterns):
    for _ in range(2):  # nor does it leave a state that the next training could not resume from
        code, out, err = hannet("train", "images", "mnist", *TINY, "--lr", "1e30", "--minutes", "0")
        assert (code, out) == (1, "")
        fault = "the training diverged in epoch 1: a smaller learning rate may help"
        assert err.splitlines()[-1] == f"hannet: {fault}; nothing is saved"
        assert not list(Path("hannet-models").iterdir())


@pytest.mark.slow
def test_a_full_disk_keeps_the_numbers_on_the_screen_and_the_network_that_was_there(hannet, patterns):
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
    assert {path: path.read_bytes() for path in Path("hannet-models").rglob("*.*") if path.is_file()} == before


@pytest.mark.slow
def test_on_mnist(hannet):
    if not os.environ.get("HANNET_DATA"):
        pytest.skip("HANNET_DATA is not set")
    code, out, _ = hannet("train", "images", "mnist", "--epochs", "1", "--depth", "2", "--batch", "1000", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["images"] == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert facts["test_accuracy"] > 0.8

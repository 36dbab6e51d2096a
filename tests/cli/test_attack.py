import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from hannet import FCNet, HanNet, models
from hannet.certify import certified_accuracy, certified_radius, lipschitz_bound
from hannet.data import DataError, memory
from hannet.data.images import stored

pytest.importorskip("foolbox")


def save(net, folder):
    """What a trained network is kept as."""
    net.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def model(tmp_path):
    """It gives every class to some images."""
    net = HanNet(in_features=16, out_features=3, width=12, depth=3)
    with torch.no_grad():
        logits = net(torch.rand(500, 16))
        net.layers[-1].bias -= logits.mean(0)
        assert len(net(torch.rand(40, 16)).argmax(1).unique()) == 3
    return save(net, tmp_path / "net")


@pytest.fixture
def data(tmp_path, model):
    """40 images; the network is right on 30."""
    net = models.load(model)
    x = torch.rand(40, 1, 4, 4)
    with torch.no_grad():
        y = net(x.flatten(1)).argmax(1)
    y[::4] = (y[::4] + 1) % 3
    np.savez(tmp_path / "images.npz", x=x.numpy(), y=y.numpy())
    return str(tmp_path / "images.npz")


def test_help_has_an_example(hannet):
    for command in ("attack", "certify"):
        assert command in hannet("--help")[1]
        assert f"Example: hannet {command}" in hannet(command, "-h")[1]


@pytest.mark.parametrize(
    ("arguments", "norm", "settings"),
    [
        ([], "l2", {"norm": "l2", "eps": 1.0, "steps": 30, "loss": "cross-entropy"}),
        (
            ["--norm", "linf", "--steps", "5", "--loss", "margin"],
            "linf",
            {"norm": "linf", "eps": 0.1, "steps": 5, "loss": "margin"},
        ),
        (["--attack", "fgsm", "--eps", "0.3"], "l2", {"norm": "l2", "eps": 0.3}),
        (["--attack", "cw", "--c", "3", "--steps", "50"], "l2", {"c": 3.0, "steps": 50, "lr": 0.01}),
    ],
)
def test_attack_as_json(hannet, model, data, arguments, norm, settings):
    code, out, err = hannet("attack", model, "--data", data, "--json", *arguments)
    facts = json.loads(out)
    assert code == 0
    assert "100%" in err
    assert facts["clean_accuracy"] == 0.75
    assert 0 <= facts["accuracy"] < 0.75
    assert facts["median_norm"] > 0
    assert (facts["norm"], facts["settings"], facts["points"], facts["seed"]) == (norm, settings, 40, 0)
    assert facts["seconds"] > 0


@pytest.mark.slow
def test_attack_in_words_with_files(hannet, model, data, tmp_path):
    out_file = tmp_path / "found.npz"
    arguments = ("attack", model, "--data", data, "--points", "20", "--out", str(out_file))
    code, out, _ = hannet(*arguments)
    assert code == 0
    assert "pgd (norm l2, eps 1.0, steps 30, loss cross-entropy) on 20 points" in out
    assert "accuracy under attack" in out
    for suffix in (".npz", ".png", ".svg"):
        assert str(out_file.with_suffix(suffix)) in out
    assert out_file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in out_file.with_suffix(".svg").read_text()
    with np.load(out_file, allow_pickle=False) as kept, np.load(data) as given:
        assert np.array_equal(kept["original"], given["x"][kept["rows"]])
        assert np.array_equal(kept["y"], given["y"][kept["rows"]])
        norms = np.linalg.norm((kept["x"].astype(float) - kept["original"]).reshape(20, -1), axis=1)
        assert np.allclose(norms[kept["success"]], kept["norms"][kept["success"]])
        assert np.isinf(kept["norms"][~kept["success"]]).all()
        success = kept["success"]
    code, out, err = hannet(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "exists already: --force replaces it" in err
    assert hannet(*arguments, "--force")[0] == 0
    again = json.loads(hannet("attack", model, "--data", str(out_file), "--json")[1])
    assert again["clean_accuracy"] == pytest.approx(1 - success.mean())


def test_without_success_there_is_no_picture(hannet, model, data, tmp_path):
    out_file = tmp_path / "found.npz"
    code, out, _ = hannet("attack", model, "--data", data, "--eps", "1e-9", "--out", str(out_file))
    assert code == 0
    assert "none was found" in out
    assert out.endswith(f"Saved: {out_file}\n")


def test_the_seed_decides(hannet, model, data):
    def norms(seed):
        return json.loads(hannet("attack", model, "--data", data, "--seed", seed, "--json")[1])["median_norm"]

    assert norms("1") == norms("1") != norms("2")


@pytest.mark.parametrize("shape", [(4, 4), (16,), (1, 4, 4)])
def test_images_of_uint8_in_other_shapes(hannet, model, tmp_path, shape):
    x = torch.randint(256, (10, *shape), dtype=torch.uint8)
    np.savez(tmp_path / "some.npz", x=x.numpy(), y=np.arange(10) % 3)
    out_file = tmp_path / "found.npz"
    code, _, _ = hannet("attack", model, "--data", str(tmp_path / "some.npz"), "--eps", "5", "--out", str(out_file))
    assert code == 0
    with np.load(out_file) as kept:
        assert kept["x"].shape == x.shape
    assert out_file.with_suffix(".png").exists()


def test_on_mnist(hannet, tmp_path):
    if not os.environ.get("HANNET_DATA"):
        pytest.skip("HANNET_DATA is not set")
    folder = save(FCNet(in_features=784, out_features=10, width=20, depth=1), tmp_path / "net")
    code, out, _ = hannet("attack", folder, "--points", "200", "--eps", "3", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["points"] == 200
    assert facts["accuracy"] <= facts["clean_accuracy"] < 0.4
    facts = json.loads(hannet("attack", folder, "--attack", "cw", "--steps", "2", "--json")[1])
    assert facts["points"] == 1000


USAGE = {
    "cw with eps": (["--attack", "cw", "--eps", "1"], "cw has no such setting"),
    "cw with a norm": (["--attack", "cw", "--norm", "l2"], "cw has no such setting"),
    "fgsm with steps": (["--attack", "fgsm", "--steps", "1"], "fgsm has no such setting"),
    "pgd with c": (["--c", "1"], "pgd has no such setting"),
    "fgsm with a loss": (["--attack", "fgsm", "--loss", "margin"], "fgsm has no such setting"),
    "eps 0": (["--eps", "0"], "eps must be above 0"),
    "eps that is no number": (["--eps", "nan"], "eps must be above 0"),
    "a negative c": (["--attack", "cw", "--c", "-1"], "c must be above 0"),
    "no steps": (["--steps", "0"], "--steps"),
    "more points than there are": (["--points", "41"], "there are only 40"),
    "other data": (["--data", "imagenet"], "'imagenet' is neither one of mnist, cifar10"),
    "an unknown attack": (["--attack", "banana"], "banana"),
    "an output that is no npz": (["--out", "found.png"], "does not end in .npz"),
    "an output nowhere": (["--out", "/nowhere/found.npz"], "in a folder that does not exist"),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_bad_command_line_is_one_sentence_and_exit_code_2(hannet, model, data, case):
    arguments, part = USAGE[case]
    code, out, err = hannet("attack", model, "--data", data, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert part in err


CERTIFY_USAGE = {
    "words for radii": (["--radii", "banana"], "'banana' are not distances above 0, such as 0.5,1.58"),
    "no radii": (["--radii", ","], "--radii"),
    "radius 0": (["--radii", "0.5,0"], "--radii"),
    "a radius that is no number": (["--radii", "nan"], "--radii"),
    "an infinite radius": (["--radii", "inf"], "--radii"),
    "more points than there are": (["--points", "41"], "there are only 40"),
    "other data": (["--data", "imagenet"], "'imagenet' is neither one of mnist, cifar10"),
    "an output that is no csv": (["--out", "found.npz"], "does not end in .csv"),
    "an output nowhere": (["--out", "/nowhere/found.csv"], "in a folder that does not exist"),
}


@pytest.mark.parametrize("case", CERTIFY_USAGE)
def test_a_bad_command_line_to_certify_is_one_sentence_and_exit_code_2(hannet, model, data, case):
    arguments, part = CERTIFY_USAGE[case]
    code, out, err = hannet("certify", model, "--data", data, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert part in err


def certified(model, data, radii, dtype=torch.float64):
    """What the library says of the model and the data: bound, accuracy and certified accuracies."""
    net = models.load(model).to(dtype)
    x, y = stored(data)
    x = x.flatten(1).to(dtype)
    right = net(x).argmax(1) == y
    median = certified_radius(net, x)[right].median().item()
    return lipschitz_bound(net), certified_accuracy(net, x, y, [0, *radii]), median


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_certify_says_what_the_library_says(hannet, model, data, dtype):
    arguments = ["--radii", "0.0001,0.02,9"] + ["--float32"] * (dtype == torch.float32)
    code, out, err = hannet("certify", model, "--data", data, "--json", *arguments)
    facts = json.loads(out)
    bound, shares, median = certified(model, data, [0.0001, 0.02, 9.0], dtype)
    assert (code, err) == (0, "")
    assert facts["lipschitz_bound"] == bound
    assert [facts["accuracy"], *facts["certified_accuracy"].values()] == shares
    assert list(facts["certified_accuracy"]) == ["0.0001", "0.02", "9"]
    assert shares[0] == 0.75
    assert shares[1] > shares[3] == 0
    assert facts["median_radius"] == median
    assert (facts["points"], facts["computed_in"]) == (40, str(dtype).removeprefix("torch."))
    assert facts["seconds"] > 0


def test_certify_in_words_with_files(hannet, model, data, tmp_path):
    out_file = tmp_path / "radii.csv"
    arguments = ("certify", model, "--data", data, "--points", "30", "--out", str(out_file))
    code, out, _ = hannet(*arguments)
    assert code == 0
    assert "30 points of" in out
    assert "as computed in float64" in out
    assert "certified accuracy at 1.58" in out
    for suffix in (".csv", ".png", ".svg"):
        assert str(out_file.with_suffix(suffix)) in out
    assert out_file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "certified accuracy" in out_file.with_suffix(".svg").read_text()
    head, *lines = (line.split(",") for line in out_file.read_text().splitlines())
    assert head == ["row", "class", "predicted", "radius"]
    x, y = stored(data)
    net, rows = models.load(model).double(), [int(line[0]) for line in lines]
    assert len(set(rows)) == 30
    assert [int(line[1]) for line in lines] == y[rows].tolist()
    assert [int(line[2]) for line in lines] == net(x[rows].flatten(1).double()).argmax(1).tolist()
    assert [float(line[3]) for line in lines] == certified_radius(net, x[rows].flatten(1).double()).tolist()
    code, out, err = hannet(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "exists already: --force replaces it" in err
    assert hannet(*arguments, "--force")[0] == 0


def test_a_damaged_report_costs_certify_its_page_only(hannet, model, data, tmp_path):
    Path(model, "report.json").write_text("{")
    code, out, err = hannet("certify", model, "--data", data, "--points", "9", "--out", str(tmp_path / "radii.csv"))
    assert (code, err.count("\n")) == (0, 1)
    assert "Saved: " in out
    assert "Note: no report is written, since" in err
    assert "report.json: damaged" in err
    assert len((tmp_path / "radii.csv").read_text().splitlines()) == 10
    assert Path(model, "certificate.json").exists()


@pytest.mark.slow
def test_no_attack_within_the_radius_changes_a_class(hannet, model, data, tmp_path):
    assert hannet("certify", model, "--data", data, "--out", str(tmp_path / "radii.csv"))[0] == 0
    lines = [line.split(",") for line in (tmp_path / "radii.csv").read_text().splitlines()[1:]]
    certain = {int(row): float(radius) for row, of, predicted, radius in lines if of == predicted}
    assert hannet("attack", model, "--data", data, "--eps", "0.05", "--out", str(tmp_path / "found.npz"))[0] == 0
    with np.load(tmp_path / "found.npz") as found:
        turned = {int(row): norm for row, norm in zip(found["rows"], found["norms"], strict=True) if 0 < norm < np.inf}
    assert turned
    assert all(norm > certain[row] for row, norm in turned.items() if row in certain)


def test_where_no_point_is_right_certify_says_so(hannet, model, tmp_path):
    x = torch.rand(5, 16)
    wrong = (models.load(model)(x).argmax(1) + 1) % 3
    np.savez(tmp_path / "some.npz", x=x.numpy(), y=wrong.numpy())
    arguments = ("certify", model, "--data", str(tmp_path / "some.npz"))
    code, out, _ = hannet(*arguments, "--out", str(tmp_path / "some.csv"))
    assert code == 0
    assert "no point is right" in out
    facts = json.loads(hannet(*arguments, "--json")[1])
    assert (facts["accuracy"], facts["median_radius"]) == (0, None)


def test_what_cannot_be_certified_is_one_sentence_and_exit_code_1(hannet, data, tmp_path):
    net = HanNet(16, 3, width=12, depth=3)
    with torch.no_grad():
        net.layers[-1].bias[0] = torch.inf
    code, out, err = hannet("certify", save(net, tmp_path / "net"), "--data", data)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "holds numbers that are not finite" in err


def test_a_lipschitz_net_takes_images_as_vectors(hannet, tmp_path, data):
    folder = save(HanNet(16, 3, width=20, depth=2, lipschitz=True, reflections=2), tmp_path / "net")
    facts = json.loads(hannet("certify", folder, "--data", data, "--json")[1])
    assert 1 <= facts["lipschitz_bound"] < 3**0.5 + 1e-6
    assert hannet("attack", folder, "--data", data, "--steps", "2")[0] == 0


def test_a_net_that_does_not_take_the_images_is_told(hannet, data, tmp_path):
    faults = {
        (15, 3): "does not take x of 1 x 4 x 4, as it is or as a vector of 16",
        (16, 2): "gives (2,) for a point, and y, up to 2, needs a logit for each class",
    }
    for sizes, fault in faults.items():
        folder = save(HanNet(*sizes), tmp_path / f"net{sizes}")
        code, out, err = hannet("attack", folder, "--data", data)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert fault in err


def spoil(path, keep=-1):
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: spoil(folder / "config.json", -2),
        lambda folder: (folder / "config.json").write_text('{"model": "os.system"}'),
        lambda folder: (folder / "config.json").write_text('{"model": []}'),
        lambda folder: (folder / "config.json").write_text("[]"),
        lambda folder: (folder / "config.json").write_text('{"model": "HanNet", "in_features": -1}'),
        lambda folder: (folder / "config.json").write_text(CONFIG.replace("}", ', "width": 10000000000000}')),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: spoil(folder / "model.safetensors"),
        lambda folder: spoil(folder / "model.safetensors", 4),
        lambda folder: save(HanNet(17, 3), folder) and (folder / "config.json").write_text(CONFIG),
    ],
)
def test_a_damaged_model_is_one_sentence_and_exit_code_1(hannet, model, data, tmp_path, damage):
    damage(tmp_path / "net")
    code, out, err = hannet("attack", model, "--data", data)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"hannet: {model}/")


CONFIG = '{"model": "HanNet", "in_features": 16, "out_features": 3}'
X, Y = np.full((4, 2), 0.5), np.arange(4)
DAMAGE = {
    "no x": ({"y": Y}, "with the arrays x and y"),
    "pickled objects": ({"x": np.array([[{}]] * 4), "y": Y}, "with the arrays x and y"),
    "no points": ({"x": X[:0], "y": Y[:0]}, r"x must be \(n, ...\)"),
    "a vector": ({"x": X[:, 0], "y": Y}, r"x must be \(n, ...\)"),
    "words": ({"x": X.astype(str), "y": Y}, r"x must be \(n, ...\)"),
    "more than 1": ({"x": 2 * X + 0.1, "y": Y}, "numbers from 0 to 1"),
    "bytes of 0 and 1": ({"x": np.eye(4, dtype=np.uint8), "y": Y}, "holds only 0 and 1: multiply it by 255"),
    "divided twice": ({"x": X / 255, "y": Y}, "x ends at 0.002, but 1 is white: it was divided by 255 twice"),
    "nan": ({"x": X * np.nan, "y": Y}, "numbers from 0 to 1"),
    "a label less": ({"x": X, "y": Y[:3]}, "y must be 4 whole numbers"),
    "labels with points": ({"x": X, "y": Y * 1.0}, "y must be 4 whole numbers"),
    "negative labels": ({"x": X, "y": Y - 1}, "classes from 0 on, got -1 to 2"),
    "labels too large": ({"x": X, "y": Y.astype(np.uint64) + np.uint64(2**63)}, "classes from 0 on"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_npz_is_one_sentence(tmp_path, damage):
    arrays, message = DAMAGE[damage]
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        stored(tmp_path / "x.npz")
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_by_what_it_says_it_holds(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((4, 1_000_000), np.uint8), y=Y)
    monkeypatch.setattr(memory, "free_bytes", lambda _: 3_000_000)
    with pytest.raises(
        DataError, match=r"bomb.npz: its arrays do not fit into memory: they take 4.0 MB, 3.0 MB are free"
    ):
        stored(tmp_path / "bomb.npz")


def test_a_file_that_is_no_npz_is_one_sentence(hannet, model, tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random((50, 16)), y=np.arange(50) % 3)
    whole = path.read_bytes()
    np.save(tmp_path / "one.npy", X)
    for content in (b"", b"PK", b"text", (tmp_path / "one.npy").read_bytes(), whole[:-30], whole[:2000]):
        path.write_bytes(content)
        code, out, err = hannet("attack", model, "--data", str(path))
        assert (code, out, err) == (1, "", f"hannet: {path}: not an .npz file with the arrays x and y, or damaged\n")
    rng = np.random.default_rng(0)
    for place in rng.integers(len(whole), size=200):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.integers(8))]) + whole[place + 1 :])
        try:
            stored(path)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017
    path.unlink()
    assert hannet("attack", model, "--data", str(path))[::2] == (1, f"hannet: {path} does not exist\n")


def test_a_full_disk_keeps_the_numbers_on_the_screen(hannet, model, data, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        code, out, err = hannet("attack", model, "--data", data, "--json", "--out", str(tmp_path / "found.npz"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert json.loads(out)["points"] == 40
    assert err.endswith("found.npz: File too large\n")
    assert not (tmp_path / "found.npz").exists()

import io
import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from hannet import FCNet, HanMixer, HanNet
from hannet.models import ModelFolderError, registry


@pytest.fixture
def folder(tmp_path):
    HanNet(3, 2, width=10, depth=3).double().save_pretrained(tmp_path / "net")
    return tmp_path / "net"


def test_a_folder_gives_its_network_in_its_dtype_and_says_nothing(folder, capfd):
    net = HanNet.from_pretrained(folder)
    assert not net.training
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), registry.load(folder).parameters(), strict=True))
    assert next(net.parameters()).dtype == torch.float64
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("wrong", [FCNet, HanMixer])
def test_the_network_of_another_class_is_refused(wrong, folder):
    with pytest.raises(ModelFolderError, match=rf"holds a HanNet, not a {wrong.__name__}$"):
        wrong.from_pretrained(folder)


class Own(HanNet):
    """A user's own network."""


def test_a_subclass_finds_itself_again(tmp_path):
    Own(3, 2, width=10, depth=3).save_pretrained(tmp_path)
    assert type(Own.from_pretrained(tmp_path)) is Own


@pytest.mark.parametrize("name", ["nope", "./no/such", "/no/such/folder", "a/b/c", "../up/there", "~/net"])
def test_no_such_folder_is_said_and_not_looked_for_elsewhere(name):
    with pytest.raises(ModelFolderError, match=f"^{name}: no such folder$"):
        HanNet.from_pretrained(name)


def test_what_the_hub_does_not_give_is_one_sentence():
    with pytest.raises(
        ModelFolderError, match=r"^owner/name: no such folder, and not available from the Hugging Face Hub$"
    ):
        HanNet.from_pretrained("owner/name", local_files_only=True)


def without_a_tensor(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors.popitem()
    save_file(tensors, path)


def with_config(**changes):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


FAULTS = {
    "a tensor is missing": (without_a_tensor, "damaged, or not of the network"),
    "another shape": (with_config(width=12), "damaged, or not of the network"),
    "cut": (lambda folder: (folder / "model.safetensors").write_bytes(b"{}"), "damaged, or not of the network"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "cannot be read"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json: cannot be read"),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json: damaged"),
    "no size": (with_config(width="x"), "config.json: (does not describe a HanNet|names none)"),
    "a size beyond all memory": (
        with_config(depth=10**12),
        "of the network that config.json|config.json: (does not|names none)",
    ),
    "a list": (lambda folder: (folder / "config.json").write_text("[]"), "config.json: damaged"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("read", [HanNet.from_pretrained, registry.load])
def test_a_damaged_folder_is_one_sentence(read, fault, folder):
    damage, message = FAULTS[fault]
    damage(folder)
    with pytest.raises(ModelFolderError, match=message) as caught:
        read(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [registry.load, HanMixer.from_pretrained])
@pytest.mark.parametrize("wrong", [{"han_blocks": 10**9}, {"channels": [4, 4, 4, 10**9]}, {"mlp_blocks": -(10**30)}])
def test_a_network_that_takes_for_ever_to_build_is_one_sentence(read, wrong, tmp_path):
    HanMixer(8, 2, channels=(4, 4, 4, 4, 4), mlp_blocks=0, han_blocks=1).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    with pytest.raises(ModelFolderError, match=r"config\.json: (names none|does not describe)"):
        read(tmp_path)


def test_a_config_that_lacks_a_size_is_one_sentence(folder):
    path = folder / "config.json"
    path.write_text(json.dumps({"model": "HanNet", "width": 10}))
    with pytest.raises(ModelFolderError, match=r"config.json: does not describe a HanNet \(.*in_features"):
        HanNet.from_pretrained(folder)


def test_what_the_caller_got_wrong_is_not_the_folders_fault(folder):
    with pytest.raises(TypeError, match="from_pretrained takes no nonsense"):
        HanNet.from_pretrained(folder, nonsense=8)
    with pytest.raises(ValueError, match="strict must be True"):
        HanNet.from_pretrained(folder, strict=False)
    with pytest.raises(RuntimeError, match="nowhere"):
        HanNet.from_pretrained(folder, map_location="nowhere")


def test_the_card_tells_what_it_is(folder):
    card = (folder / "README.md").read_text()
    for said in (
        "library_name: hannet",
        "# HanNet",
        "`HanNet(in_features=3, out_features=2, width=10, depth=3",
        "HanNet.from_pretrained(",
    ):
        assert said in card
    assert "More Information" not in card


def test_strict_may_be_said(folder):
    assert isinstance(HanNet.from_pretrained(folder, strict=True), HanNet)


class Half(nn.Module):
    """A parametrization that acts differently in training."""

    def forward(self, weight):
        return weight / (3 if self.training else 2)


def pruned(net):
    prune.l1_unstructured(net.layers[0], "weight", 5)
    prune.random_unstructured(net.layers[2], "u", 4)
    with torch.no_grad():
        net.layers[0].weight_orig.mul_(2)  # what the module computes with is renewed by its next call


def parametrised(net):
    parametrize.register_parametrization(net.layers[0], "weight", Half())
    parametrizations.weight_norm(net.layers[3])
    parametrizations.spectral_norm(net.layers[2], "u")


def tied(net):
    net.layers[2].b = net.layers[2].u


@pytest.mark.parametrize("change", [pruned, parametrised, tied])
@pytest.mark.parametrize("training", [True, False])
def test_a_net_whose_weights_are_computed_is_read_back_as_what_it_computes(change, training, tmp_path):
    net, x = HanNet(3, 2, width=10, depth=3).train(training), torch.randn(5, 3)
    change(net)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net.save_pretrained(tmp_path)
    assert net.layers[0].training == training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    torch.testing.assert_close(HanNet.from_pretrained(tmp_path)(x), net.eval()(x))
    torch.testing.assert_close(registry.load(tmp_path)(x), net(x))


OTHERS = {
    "another activation": (
        lambda net: net.layers.__setitem__(1, nn.ReLU()),
        "layers.1 is of class ReLU, not Abs",
    ),
    "one module more": (lambda net: net.layers.append(nn.ReLU()), "layers.4 is a module that"),
    "another size": (
        lambda net: net.layers.__setitem__(3, nn.Linear(10, 4)),
        r"layers.3.weight is of shape \(4, 10\), not",
    ),
    "one module less": (lambda net: net.layers.pop(1), "layers.1 is of class HanStack"),
    "a tensor more": (
        lambda net: net.layers[0].register_buffer("more", torch.ones(1)),
        "layers.0.more is a tensor that",
    ),
    "weight norm by hooks": (lambda net: nn.utils.weight_norm(net.layers[0]), "layers.0.weight is missing"),
    "a compiled part": (
        lambda net: setattr(net, "layers", torch.compile(net.layers)),
        "layers is of class OptimizedModule",
    ),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`:FutureWarning")
@pytest.mark.parametrize("case", OTHERS)
def test_what_could_not_be_read_is_refused_and_the_folder_stays(case, folder):
    change, message = OTHERS[case]
    net = HanNet(3, 2, width=10, depth=3)
    change(net)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ModelFolderError, match=message) as caught:
        net.save_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def bombs(path) -> dict[str, bytes]:
    """What torch.save and pickle make of a Bomb, alone and as a tensor of a state dict."""
    state = {"layers.0.weight": Bomb(path)}
    saved = io.BytesIO()
    torch.save(state, saved)
    return {"pickle": pickle.dumps(state), "torch.save": saved.getvalue()}


@pytest.mark.parametrize("kind", ["pickle", "torch.save"])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("read", [HanNet.from_pretrained, registry.load])
def test_a_folder_that_would_be_unpickled_is_refused(read, name, kind, folder, tmp_path):
    (folder / name).write_bytes(bombs(tmp_path / "exploded")[kind])
    with pytest.raises(ModelFolderError, match=rf"{name}: damaged"):
        read(folder)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("read", [HanNet.from_pretrained, registry.load])
def test_other_weights_beside_missing_ones_are_not_read(read, folder, tmp_path):
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pt", "model.pkl"):
        (folder / name).write_bytes(bombs(tmp_path / "exploded")["torch.save"])
    with pytest.raises(ModelFolderError, match=r"model.safetensors: cannot be read"):
        read(folder)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "model", ["../net", "/etc/passwd", "os.system", "hannet.HanNet", "__class__", "", None, 3, ["HanNet"], {}]
)
def test_only_the_name_of_a_network_is_one(model, folder):
    with_config(model=model)(folder)
    with pytest.raises(ModelFolderError, match="names none of the networks"):
        registry.load(folder)
    with pytest.raises(ModelFolderError, match="not a HanNet"):
        HanNet.from_pretrained(folder)


@pytest.mark.parametrize(
    "net", [HanNet(3, 2, width=10, depth=3), FCNet(3, 2), HanMixer(32, 4)], ids=lambda net: type(net).__name__
)
def test_a_state_dict_needs_nothing_unsafe(net, tmp_path):
    optimizer = torch.optim.AdamW(net.parameters())
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    assert torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "state.pt") == []

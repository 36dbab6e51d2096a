import json

import pytest
import torch
from safetensors.torch import load_file, save_file

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


def test_a_config_that_lacks_a_size_is_one_sentence(folder):
    path = folder / "config.json"
    path.write_text(json.dumps({"model": "HanNet", "width": 10}))
    with pytest.raises(ModelFolderError, match=r"config.json: does not describe a HanNet \(.*in_features"):
        HanNet.from_pretrained(folder)


def test_what_the_caller_got_wrong_is_not_the_folders_fault(folder):
    with pytest.raises(TypeError, match="from_pretrained takes no nonsense, strict"):
        HanNet.from_pretrained(folder, strict=False, nonsense=8)
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

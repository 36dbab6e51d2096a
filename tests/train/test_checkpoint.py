import io
import json
import os
import pickle
import struct

import pytest
import torch
from torch import nn

from hannet.train import checkpoint
from hannet.train.errors import CheckpointError
from hannet.vision.recipe import ImageRecipe

TENSORS = {"model.weight": torch.arange(6.0).reshape(2, 3).T, "count": torch.tensor(3)}


def test_comes_back(tmp_path):
    assert checkpoint.read(tmp_path / "new") is None
    checkpoint.write(tmp_path / "new", TENSORS, {"epoch": 1, "history": {"loss": [0.1]}})
    checkpoint.write(tmp_path / "new", TENSORS, {"epoch": 2, "history": {"loss": [0.1, 0.05]}})
    tensors, entries = checkpoint.read(tmp_path / "new")
    assert entries == {"format": 3, "epoch": 2, "history": {"loss": [0.1, 0.05]}}
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["checkpoint.safetensors"]


def test_damaged_files_are_one_sentence(tmp_path):
    checkpoint.write(tmp_path, TENSORS, {"epoch": 1})
    path = checkpoint.path_in(tmp_path)
    whole = path.read_bytes()
    header = json.dumps({"__metadata__": {"hannet": "[" * 50_000}}).encode()
    faults = [whole[:length] for length in range(0, len(whole), 17)]
    faults += [b"PK\x03\x04" + whole, struct.pack("<Q", 1 << 60) + whole[8:], struct.pack("<Q", len(header)) + header]
    faults += [whole.replace(b"epoch", b"ep\xffch"), whole.replace(b'\\"format\\": 3', b'\\"format\\": x')]
    for content in faults:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"damaged, or not a checkpoint; remove it to start over$"):
            checkpoint.read(tmp_path)
    path.write_bytes(whole.replace(b'\\"format\\": 3', b'\\"format\\": 1'))
    with pytest.raises(CheckpointError, match="of format 1"):
        checkpoint.read(tmp_path)


def test_nothing_is_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    saved = io.BytesIO()
    torch.save({"model.weight": Bomb()}, saved)
    for content in (saved.getvalue(), pickle.dumps(Bomb())):
        checkpoint.path_in(tmp_path).write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged, or not a checkpoint"):
            checkpoint.read(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_every_flipped_bit_is_noticed(tmp_path):
    checkpoint.write(tmp_path, TENSORS, {"epoch": 1})
    path = checkpoint.path_in(tmp_path)
    whole = path.read_bytes()
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    for place in range(start, len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.read(tmp_path)


def test_what_a_killed_process_left_goes_and_nothing_else(tmp_path):
    checkpoint.write(tmp_path, TENSORS, {"epoch": 1})
    (tmp_path / ".checkpoint.safetensors.123").write_bytes(b"half")
    (tmp_path / ".checkpoint.safetensors.45").mkdir()
    (tmp_path / "checkpoint.safetensors.old").touch()
    checkpoint.tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".checkpoint.safetensors.45",
        "checkpoint.safetensors",
        "checkpoint.safetensors.old",
    ]
    checkpoint.tidy(tmp_path / "none")


def test_tensors_may_share_memory(tmp_path):
    one = torch.arange(4.0)
    checkpoint.write(tmp_path, {"a": one, "b": one, "c": one[1:]}, {})
    tensors, _ = checkpoint.read(tmp_path)
    assert torch.equal(tensors["a"], one)
    assert torch.equal(tensors["b"], one)
    assert torch.equal(tensors["c"], one[1:])


def fingerprint(model, x, y, recipe, seed):
    return checkpoint.fingerprint([model], [recipe], [seed], [x, y])


def test_a_fingerprint_differs_where_trainings_do():
    x, y = torch.randint(256, (20, 3, 4, 4), dtype=torch.uint8), torch.arange(20)
    model, recipe = nn.Linear(3, 2), ImageRecipe()
    first = fingerprint(model, x, y, recipe, 0)
    assert first == fingerprint(nn.Linear(3, 2), x.clone(), y.clone(), ImageRecipe(), 0)
    other = x.clone()
    other[7, 1, 2, 3] += 1
    changed = [
        (nn.Linear(3, 3), x, y, recipe, 0),
        (model, other, y, recipe, 0),
        (model, x, y.flip(0), recipe, 0),
        (model, x, y, ImageRecipe(lr=2e-3), 0),
        (model, x, y, recipe, 1),
    ]
    assert len({first, *(fingerprint(*case) for case in changed)}) == 6


@pytest.mark.parametrize(
    ("device", "fused"), [("cpu", False), ("cpu", True), pytest.param("cuda", True, marks=pytest.mark.gpu)]
)
def test_an_optimizer_comes_back(tmp_path, device, fused):
    """Bit for bit, by way of a file, also where parameters lie channels last; fused steps go through memory in its order."""

    def trained(optimizer, model, steps):
        for _ in range(steps):
            model(torch.ones(4, 3, 5, 5, device=device)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    torch.manual_seed(0)
    model, copy = (nn.Conv2d(3, 2, 3).to(device, memory_format=torch.channels_last) for _ in range(2))
    optimizer, other = (torch.optim.AdamW(net.parameters(), lr=0.1, fused=fused) for net in (model, copy))
    trained(optimizer, model, 3)
    copy.load_state_dict(model.state_dict())
    checkpoint.write(tmp_path, checkpoint.optimizer_state(optimizer), {})
    checkpoint.restore_optimizer(other, checkpoint.read(tmp_path)[0])
    for net, one in ((model, optimizer), (copy, other)):
        trained(one, net, 3)
    assert torch.equal(model.weight, copy.weight)
    for name, value in checkpoint.optimizer_state(optimizer).items():
        again = checkpoint.optimizer_state(other)[name]
        assert torch.equal(again, value)
        assert (again.stride(), again.device) == (value.stride(), value.device)


def test_a_plain_optimizer_goes_on_from_a_fused_one():
    """As a training does that began on a GPU and goes on where there is none."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    fused, plain = (torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused) for fused in (True, False))
    model(torch.ones(4, 3)).square().sum().backward()
    fused.step()
    checkpoint.restore_optimizer(plain, checkpoint.optimizer_state(fused))
    assert plain.state_dict()["param_groups"][0]["fused"] is False
    assert float(plain.state[model.weight]["step"]) == 1
    plain.step()

import pytest
import torch

from hannet import FCNet, HanMixer, HanNet, MobileViT
from hannet.models import registry

NETS = {
    "HanNet": lambda: HanNet(5, 3, width=8, depth=4),
    "HanNet, lipschitz": lambda: HanNet(5, 3, width=8, depth=4, lipschitz=True, reflections=2),
    "FCNet": lambda: FCNet(5, 3, width=8, depth=2),
    "HanMixer": lambda: HanMixer(8, 3, channels=(4, 4, 4, 8, 8), mlp_blocks=1, han_blocks=1),
    "MobileViT": lambda: MobileViT(3, "xxs", "han"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NETS)
def test_a_saved_network_comes_back_as_it_was(name, dtype, tmp_path):
    net = NETS[name]().to(dtype)
    net.save_pretrained(tmp_path)
    state = torch.random.get_rng_state()
    again = registry(tmp_path)
    assert torch.equal(state, torch.random.get_rng_state())
    assert type(again) is type(net)
    assert not again.training
    assert all(p.requires_grad for p in again.parameters())
    for (key, tensor), (other, loaded) in zip(net.state_dict().items(), again.state_dict().items(), strict=True):
        assert key == other
        assert torch.equal(tensor, loaded)
        assert tensor.dtype == loaded.dtype

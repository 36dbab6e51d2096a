import pytest
import torch

from hannet.models.baselines import FourierNet, OrthogonalNet, Siren, frozen_hannet
from hannet.train.recipe import Recipe
from hannet.train.trainer import predict, train

NETS = [frozen_hannet, OrthogonalNet, Siren, FourierNet]


@pytest.fixture(params=NETS, ids=lambda kind: kind.__name__)
def nets(request):
    return [request.param(2, 3, width=8, depth=4) for _ in range(2)]


def test_members_train_as_autograd_does(nets):
    x, y = torch.randn(10, 2), torch.randn(10, 3)
    expected = []
    for net in nets:
        loss = (net(x) - y).square().mean()
        learnt = {name: p for name, p in net.named_parameters() if p.requires_grad}
        gradients = torch.autograd.grad(loss, list(learnt.values()))
        expected.append({name: p - 0.1 * g for (name, p), g in zip(learnt.items(), gradients, strict=True)})
    train(nets, [Recipe(lr=0.1, momentum=0, batch=10, iterations=1)] * 2, [0, 1], x, y)
    for net, parameters in zip(nets, expected, strict=True):
        for name, value in parameters.items():
            assert torch.allclose(net.get_parameter(name), value, atol=1e-5), name
    assert torch.allclose(predict(nets, x)[0], nets[0](x), atol=1e-5)


def test_of_a_frozen_hannet_only_the_reflections_stay():
    net = frozen_hannet(2, 1, width=8, depth=4)
    before = {name: p.clone() for name, p in net.named_parameters()}
    train([net], [Recipe(iterations=3)], [0], torch.randn(100, 2), torch.randn(100, 1))
    same = [name for name, p in net.named_parameters() if torch.equal(p, before[name])]
    assert [name.rpartition(".")[2] for name in same] == ["u"]


def test_orthogonal_layers_stay_orthogonal_under_training():
    net = OrthogonalNet(2, 1, width=8, depth=4)
    before = net.hidden.weight.clone()
    train([net], [Recipe(lr=0.1, iterations=5)], [0], torch.randn(100, 2), torch.randn(100, 1))
    assert torch.allclose(net.hidden.weight @ net.hidden.weight.mT, torch.eye(8).expand(3, 8, 8), atol=1e-5)
    assert not torch.allclose(net.hidden.weight, before, atol=1e-4)


def test_a_siren_starts_with_the_spread_of_its_paper():
    net = Siren(2, 1, width=500, depth=3, omega=20.0)
    x = torch.rand(200, 2) * 2 - 1
    assert net.hidden[0].weight.abs().max() <= 0.5
    waves = torch.sin(20 * net.hidden[0](x)) @ (20 * net.hidden[1].weight.mT)
    assert waves.std().item() == pytest.approx(1, rel=0.1)


def test_fourier_features_spread_by_sigma_and_are_not_learnt():
    nets = [FourierNet(2, 1, width=8, depth=1, frequencies=2000, sigma=sigma) for sigma in (1.0, 4.0)]
    assert nets[1].B.std() / nets[0].B.std() == pytest.approx(4, rel=0.1)
    assert not any(name == "B" for name, _ in nets[0].named_parameters())

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hannet import Abs, GroupSort, HanLinear, HanNet, HanStack
from hannet.certify import certified_radius
from hannet.cli.export import load_model
from hannet.export import ExportError, describe, to_c, verify
from hannet.export.c_integers import can_certify
from hannet.export.integers import IntLinear
from hannet.export.program import TensorInput
from hannet.export.quantisation import quantise

pytestmark = pytest.mark.usefixtures("needs_compiler")
FIXTURES = Path(__file__).parents[1] / "fixtures" / "saved_by_0_1_0"
SANITIZED = (*verify.FLAGS, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def lipschitz_net():
    """One whose outputs differ much more than integers may be off."""
    torch.manual_seed(0)
    net = HanNet(6, 4, width=10, depth=3, lipschitz=True, reflections=3)
    for module in net.modules():
        if getattr(module, "b", None) is not None:
            module.b.data.normal_()
    return net


@pytest.mark.parametrize("dtype", ["int16", "int8"])
def test_a_network_gives_the_integers_of_python(dtype, tmp_path):
    net = nn.Sequential(
        nn.Linear(7, 9),
        nn.ReLU(),
        HanStack(9, 3, bias=False),
        GroupSort(3),
        nn.Linear(9, 12),
        Abs(),
        HanLinear(12, 14, reflections=2),
        HanLinear(14, 2),
    )
    (check,) = to_c(net, tmp_path / "net", dtype=dtype, bounds=(-2.0, 2.0)).checks
    assert check.passed
    assert check.largest_error <= check.limit
    assert "proven for any row" in check.sentence


@pytest.mark.parametrize("folder", ["classifier", "regressor", "images-hannet"])
def test_saved_models(folder, tmp_path):
    report = to_c(load_model(FIXTURES / folder), tmp_path / "net", dtype="int16")
    assert report.target == "C99 in int16"
    assert report.checks[0].passed


@pytest.mark.parametrize("target", ["price", "color"])
def test_tables(target, table_models, tmp_path):
    report = to_c(table_models[target], tmp_path / "net", dtype="int16")
    assert report.checks[0].passed
    assert (
        report.facts["flash_bytes"]
        < to_c(table_models[target], tmp_path / "float", verified=False).facts["flash_bytes"]
    )


@pytest.mark.parametrize(("width", "flash"), [(100, "NET_FLASH __flash"), (400, "NET_FLASH\n")])
def test_only_what_pointers_of_16_bits_reach_stays_in_flash(width, flash, tmp_path):
    net = nn.Sequential(nn.Linear(100, width), Abs(), nn.Linear(width, 2))
    report = to_c(net, tmp_path / "net", name="net", dtype="int16", bounds=(-1.0, 1.0), verified=False)
    assert (report.facts["flash_bytes"] < 65536) == (width == 100)
    weights = (tmp_path / "net" / "net_weights.h").read_text()
    assert f"#define {flash}" in weights
    assert ("__flash" in weights) == (width == 100)


def test_other_integers_are_not_written(tmp_path, monkeypatch):
    right = verify.Integers.outputs
    monkeypatch.setattr(verify.Integers, "outputs", lambda made, x: right(made, x) + 1)
    with pytest.raises(ExportError, match="gives other integers than Python"):
        to_c(HanNet(3, 2, width=4, depth=2), tmp_path / "net", dtype="int16", bounds=(-1.0, 1.0))
    assert not list(tmp_path.iterdir())


def test_a_fault_says_what_its_row_is_allowed():
    check = verify.IntegerCheck("C in integers, cc", 10, 0.75, 3, limit=0.25, allowed=0.5, passed=False)
    with pytest.raises(ExportError, match=r"differs from the model by 0\.75 in row 3, where 0\.5 is allowed"):
        verify.require_passed([check])


def test_what_only_one_kind_takes(tmp_path):
    net = HanNet(3, 2, width=4, depth=2)
    with pytest.raises(ExportError, match="bounds of the features are for integers"):
        to_c(net, tmp_path / "net", bounds=(-1.0, 1.0))
    with pytest.raises(ExportError, match="dtype must be float32, int16 or int8, got 'int4'"):
        to_c(net, tmp_path / "net", dtype="int4")
    with pytest.raises(ExportError, match="known bounds: give none"):
        to_c(load_model(FIXTURES / "regressor"), tmp_path / "net", dtype="int8", bounds=(-1.0, 1.0))


CERTIFY = """#include "net.h"
#include <stdio.h>
int main(void)
{
    static net_workspace w;
    float row[NET_INPUTS] = {0.0f}, out[NET_OUTPUTS], radius = 0.0f;
    if (net_certify(row, out, 0, &w) != NET_ERROR_NULL)
        return 1;
    while (fread(row, sizeof row, 1, stdin) == 1) {
        const int code = net_certify(row, out, &radius, &w);
        radius = code == NET_ERROR_NOT_FINITE ? -1.0f : radius;
        fwrite(w.integers, sizeof w.integers, 1, stdout);
        fwrite(&radius, sizeof radius, 1, stdout);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def certifying(tmp_path_factory):
    """A net, its integers, and a function that gives integers and radii for rows."""
    folder, net = tmp_path_factory.mktemp("certify") / "net", lipschitz_net()
    to_c(net, folder, name="net", dtype="int16", bounds=(-2.0, 2.0), verified=False)
    (folder / "main.c").write_text(CERTIFY)
    program = verify.build(folder, ["net.c", "main.c"], "certify", SANITIZED)

    def certify(x):
        done = subprocess.run([program], input=x.astype(np.float32).tobytes(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        raw = np.frombuffer(done.stdout, np.int32).reshape(len(x), 5)
        return raw[:, :4], raw[:, 4].copy().view(np.float32)

    return net, quantise(describe(net), "int16", (-2.0, 2.0)), certify


def test_radii_are_those_of_the_network_less_a_little(certifying):
    net, _, certify = certifying
    x = np.random.default_rng(0).uniform(-2, 2, (200, 6)).astype(np.float32)
    _, radii = certify(x)
    expected = certified_radius(net.double(), torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(radii, expected, atol=2e-3)
    assert (radii > 0).mean() > 0.9


def test_no_row_within_the_radius_has_another_class(certifying):
    net, made, certify = certifying
    rng = np.random.default_rng(1)
    x = rng.uniform(-1.5, 1.5, (100, 6)).astype(np.float32)
    integers, radii = certify(x)
    assert np.array_equal(integers, made.outputs(x)[0])
    classes = integers.argmax(1)
    rows = torch.from_numpy(x).requires_grad_()
    logits = net.float()(rows)
    for other in range(4):  # towards each other class along the gradient, and in random directions
        margin = logits.gather(1, torch.from_numpy(classes)[:, None])[:, 0] - logits[:, other]
        (gradient,) = torch.autograd.grad(margin.sum(), rows, retain_graph=True)
        for step in (-gradient.numpy(), rng.normal(size=x.shape), rng.normal(size=x.shape)):
            length = np.linalg.norm(step, axis=1, keepdims=True)
            moved = x + step / np.where(length > 0, length, 1) * radii[:, None] * 0.9999
            assert np.array_equal(certify(moved)[0].argmax(1)[radii > 0], classes[radii > 0])


def test_rows_that_are_not_finite_are_refused(certifying):
    x = np.zeros((3, 6), np.float32)
    x[1, 2], x[2, 0] = np.nan, np.inf
    assert certifying[2](x)[1].tolist()[1:] == [-1.0, -1.0]


def test_a_tie_is_not_certified(certifying):
    _, made, _ = certifying
    (member,) = made.members
    last = member.layers[-1]
    assert isinstance(last, IntLinear)
    assert (member.slopes.diagonal() == 0).all()
    assert (member.slopes == member.slopes.T).all()


def test_only_networks_of_unit_slope_certify():
    program = describe(lipschitz_net())
    assert can_certify(quantise(program, "int16", (-1.0, 1.0)))
    pixels = replace(program, inputs=TensorInput((6,), pixels=True))
    assert can_certify(quantise(pixels, "int16"))
    steep = nn.Sequential(nn.Linear(3, 8), Abs(), nn.Linear(8, 2))
    steep[0].weight.data.fill_(3.0)
    assert not can_certify(quantise(describe(steep), "int16", (-1.0, 1.0)))
    assert not can_certify(quantise(describe(HanNet(3, 1, width=4, depth=2)), "int16", (-1.0, 1.0)))

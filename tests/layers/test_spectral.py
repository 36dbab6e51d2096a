import pytest
import torch
from torch.testing import assert_close

from hannet.functional import householder
from hannet.layers import spectral


@pytest.mark.parametrize("count", [1, 3, 4, 7])
@pytest.mark.parametrize("columns", [1, 3])
def test_reflections_of_orthonormal_columns(columns, count):
    if count < columns:
        pytest.skip("fewer reflections than columns")
    wanted = torch.linalg.qr(torch.randn(5, columns, dtype=torch.double))[0]
    u = spectral.reflections_of(wanted, count)
    made = householder(torch.eye(5, dtype=torch.double), u.flip(0)).mT[
        :, :columns
    ]  # column i is H(u_1) ... H(u_count) e_i
    assert_close(made.abs(), wanted.abs())
    assert_close((made * wanted).sum(0).abs(), torch.ones(columns, dtype=torch.double))


def test_unit_vectors_leave_no_row_of_zeros():
    u = spectral.reflections_of(torch.eye(4, dtype=torch.double)[:, :3], 3)
    assert (u.norm(dim=1) > 0).all()


@pytest.mark.parametrize("steps", [0, 5, 60])
def test_more_steps_are_never_worse(steps):
    weight = torch.randn(12, 10)
    start, u_s_v = spectral.fit(weight, 2, 0), spectral.fit(weight, 2, steps)
    assert u_s_v[1].norm() >= start[1].norm() * (1 - 1e-6)

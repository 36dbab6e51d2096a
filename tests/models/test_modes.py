import pytest
from torch import nn

from hannet.models.modes import modes_kept


def test_modes_come_back_whatever_happens():
    model = nn.Sequential(nn.Dropout(), nn.Dropout()).train()
    model[1].eval()

    def interrupted():
        with modes_kept(model):
            model.eval()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [module.training for module in model.modules()] == [True, True, False]

"""Which tile a pass takes."""

import pytest
import torch

pytest.importorskip("triton")
from hannet.ops.cuda import launch, tiles


@pytest.fixture
def table(monkeypatch):
    found = {"9.0": {"backward 64x8 float32": [32, 4, 2]}}
    monkeypatch.setattr(tiles, "measured", lambda: found)


def test_what_was_measured_comes_before_the_rule(table):
    call = (65536, 1, 64, 8, torch.float32)
    assert tiles.choose("backward", *call, "9.0") == (32, 4, 2)
    assert tiles.choose("backward", *call, "8.0") == tiles.choose("forward", *call, "9.0") == tiles.large(64, 8)
    assert tiles.choose("backward", *call[:4], torch.float64, "9.0") == tiles.large(64, 8, tiles.HELD // 2)


def test_few_rows_take_small_tiles(table):
    assert tiles.choose("backward", 64 * 32 - 32, 1, 64, 8, torch.float32, "9.0") == tiles.small(64)
    assert tiles.choose("backward", 1024, 2, 64, 8, torch.float32, "9.0") == (32, 4, 2)


def test_the_packages_table_holds_tiles_of_forms_that_there_are():
    forms = {f"{columns}x{chunks}" for columns, chunks in map(launch.chunks_of, range(1, 8193))}
    for passes in tiles.measured().values():
        for key, tile in passes.items():
            direction, form, kind = key.split()
            assert direction in ("forward", "backward")
            assert form in forms
            assert kind in ("float32", "float64")
            rows, held, warps = tile
            assert rows > 0 == rows & (rows - 1)
            assert rows % held == 0
            assert warps in (1, 2, 4, 8, 16)

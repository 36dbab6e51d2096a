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


def assert_tile(rows, held, warps):
    """Powers of two, as Triton asks of a tensor's shape, and no more threads than a program may have."""
    assert rows >= held >= 1
    for number in (rows, held, warps):
        assert number & (number - 1) == 0
    assert 1 <= warps <= 16


FORMS = {launch.chunks_of(width) for width in range(1, 8193)}


def test_the_packages_table_holds_tiles_of_forms_that_there_are():
    forms = {f"{columns}x{chunks}" for columns, chunks in FORMS}
    for passes in tiles.measured().values():
        for key, tile in passes.items():
            direction, form, kind = key.split()
            assert direction in ("forward", "backward")
            assert form in forms
            assert kind in ("float32", "float64")
            assert_tile(*tile)


@pytest.mark.parametrize("most", [tiles.HELD, tiles.HELD // 2])
def test_the_rule_gives_every_form_a_tile_that_can_be(most):
    for columns, chunks in FORMS:
        assert_tile(*tiles.small(columns))
        assert_tile(*tiles.large(columns, chunks, most))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_few_narrow_rows_are_one_tile(kind):
    for columns, chunks in FORMS:
        levels = (chunks - 1).bit_length()
        for rows in (1, 7, 100, 128, 1000, 4000):
            tile = tiles.alone(rows, columns, chunks, levels, kind)
            if tile:
                assert_tile(*tile)
                assert tile.rows >= rows
                assert tile.held * 4 * chunks * kind.itemsize <= 4 * tiles.HELD
                assert columns << levels <= 256
    assert tiles.alone(100, 16, 7, 3, torch.float32) == (128, 2, 8)
    assert tiles.alone(129, 16, 7, 3, torch.float32) is None
    assert tiles.alone(1, 128, 8, 3, torch.float32) is None

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from hannet.data import DataError
from hannet.data.synthetic import SIDE, TRAIN, checkerboard, sines


def authors_files() -> Path:
    root = os.environ.get("HANNET_DATA")
    if not root:
        pytest.skip("HANNET_DATA is not set")
    return Path(root, "checkerboard")


@pytest.mark.parametrize(("name", "part"), [("trainset.txt", "train"), ("testset.txt", "test")])
def test_equals_the_authors_files_row_by_row(name, part):
    table = torch.from_numpy(np.loadtxt(authors_files() / name)).float()
    board = checkerboard(split="authors")
    assert torch.equal(getattr(board, f"x_{part}"), table[:, :2])
    assert torch.equal(getattr(board, f"y_{part}"), table[:, 2:])


def test_shapes_types_and_class_balance():
    board = checkerboard()
    shapes = [
        tuple(t.shape) for t in (board.x_train, board.y_train, board.x_test, board.y_test, board.mesh, board.target)
    ]
    assert shapes == [(1640, 2), (1640, 2), (4921, 2), (4921, 2), (6561, 2), (6561,)]
    assert {t.dtype for t in vars(board).values()} == {torch.float32}
    assert board.target.sum() == 72 * 72 / 2  # 39.5% of the points
    assert torch.equal(board.y_train[:, 0], board.y_train[:, 1])


@pytest.mark.parametrize("squares", [1, 2, 3, 12, 72])
def test_the_target_alternates_and_its_margin_is_zero(squares):
    grid = checkerboard(squares).target.reshape(SIDE, SIDE)
    inner = grid[4:76, 4:76]
    size = 72 // squares
    assert grid.sum() == inner.sum()
    assert inner[0, 0] == 0
    assert torch.equal(inner[size:], 1 - inner[:-size])
    assert torch.equal(inner, inner.T)


def test_the_split_is_a_seeded_partition_of_the_mesh():
    first, again, other = checkerboard(), checkerboard(), checkerboard(split_seed=1)
    assert torch.equal(first.x_train, again.x_train)
    assert not torch.equal(first.x_train, other.x_train)
    points = torch.cat([other.x_train, other.x_test])
    assert torch.equal(points.unique(dim=0), other.mesh.unique(dim=0))


def test_the_sines_share_mesh_and_split_with_the_checkerboard():
    board, waves = checkerboard(split_seed=2), sines(split_seed=2)
    for name in ("x_train", "x_test", "mesh"):
        assert torch.equal(getattr(waves, name), getattr(board, name))
    assert waves.y_train.shape == (TRAIN, 1)
    assert waves.y_test.shape == (SIDE * SIDE - TRAIN, 1)
    assert {t.dtype for t in vars(waves).values()} == {torch.float32}


def test_the_sines_are_odd_symmetric_and_mix_two_frequencies():
    grid = sines().target.reshape(SIDE, SIDE)
    assert torch.allclose(grid, -grid.flip(0), atol=1e-6)
    assert torch.allclose(grid, grid.T)
    assert grid[:: SIDE // 2].abs().max() < 1e-5  # x1 = -1, 0, 1
    spectrum = torch.fft.rfft2(grid[:-1, :-1].double()).abs() / grid[:-1, :-1].numel()
    high = [[2, 2], [10, 10], [70, 10], [78, 2]]  # periods in the length 2
    assert (spectrum > 0.01).nonzero().tolist() == high
    assert torch.allclose(spectrum[spectrum > 0.01], torch.tensor(0.25).double())


def test_validation_parts_the_training_points_by_a_seed():
    whole = checkerboard()
    part, again, other = (whole.validation(seed) for seed in (0, 0, 1))
    assert torch.equal(part.x_test, again.x_test)
    assert not torch.equal(part.x_test, other.x_test)
    assert len(part.x_test) == TRAIN // 5
    rows = torch.cat([torch.cat([part.x_train, part.y_train], 1), torch.cat([part.x_test, part.y_test], 1)])
    assert torch.equal(rows.unique(dim=0), torch.cat([whole.x_train, whole.y_train], 1).unique(dim=0))


@pytest.mark.parametrize("arguments", [{"squares": 0}, {"squares": 5}, {"squares": -12}, {"split": "theirs"}])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must .* got"):
        checkerboard(**arguments)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A split of our own in the authors' format."""
    board = checkerboard(split_seed=3)
    path = tmp_path / "checkerboard"
    path.mkdir()
    np.savetxt(path / "trainset.txt", torch.cat([board.x_train, board.y_train], 1))
    np.savetxt(path / "testset.txt", torch.cat([board.x_test, board.y_test], 1))
    monkeypatch.setenv("HANNET_DATA", str(tmp_path))
    return path


def test_reads_the_authors_format(folder):
    assert torch.equal(checkerboard(split="authors").x_train, checkerboard(split_seed=3).x_train)


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


DAMAGE = {
    "missing": (lambda path: path.unlink(), "cannot be read"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    "empty": (lambda path: path.write_text(""), "expected 1640 rows"),
    "cut between lines": (
        lambda path: path.write_text("\n".join(path.read_text().splitlines()[:99])),
        "expected 1640 rows",
    ),
    "cut inside a line": (lambda path: path.write_bytes(path.read_bytes()[:-60]), "cut off"),
    "not text": (lambda path: path.write_bytes(b"\xff\xfe" * 999), "not a table of numbers"),
    "a web page": (lambda path: path.write_text("<html>\n<p>404"), "not a table of numbers"),
    "off the mesh": (lambda path: edit(path, "e-01", "e-02"), "points off the"),
    "nan": (lambda path: path.write_text("nan nan 0 0\n" * TRAIN), "numbers that are not finite"),
    "other targets": (lambda path: path.write_text(path.read_text()[:-25] + "3.000000000000000000e+00\n"), "targets"),
    "repeated points": (
        lambda path: path.write_text(path.read_text().splitlines()[0].join(["", "\n"]) * TRAIN),
        "share",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_in_one_sentence(folder, damage):
    spoil, message = DAMAGE[damage]
    spoil(folder / "trainset.txt")
    with pytest.raises(DataError, match=message) as caught:
        checkerboard(split="authors")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_variable_the_message_says_so(monkeypatch):
    monkeypatch.delenv("HANNET_DATA", raising=False)
    with pytest.raises(DataError, match="HANNET_DATA"):
        checkerboard(split="authors")

"""The five tables that the paper's regression experiments learn from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import DataError
from .download import File, Source, find

_URL = (
    "https://raw.githubusercontent.com/yyy32/HanNet/09f8dc0c8ecf2f72969198ce002ffaf852a773c6/"
    "regession_experiments/dataset/"  # the misspelling is theirs
)


@dataclass(frozen=True, kw_only=True)
class TableSource(Source):
    """A table: its columns beside the last one, the target."""

    features: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """How many features a row has."""
        return (len(self.features),)


@dataclass(frozen=True)
class Regression:
    """x: (n, d) and y: (n,), float64; groups: (n,), int64, whose rows belong to one subject, or None."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    groups: NDArray[np.int64] | None
    source: TableSource


def _file(name: str, sha256: str) -> File:
    return File("regression", f"{name}.csv", f"{_URL}{name}.csv", f"sha256:{sha256}")


_SOURCES = (
    TableSource(
        name="bikesharing",
        title="Bike rentals by the hour in Washington, D.C., 2011 and 2012",
        origin="UCI repository, Bike Sharing (Fanaee-T and Gama 2013)",
        files=(_file("bikesharing", "282e3dbd3dd7d57d0d9ff4823bdb2cad8bc8b3e7a4de0221269e343b44183bd3"),),
        terms="CC BY 4.0",
        rows=17379,
        features=(
            *("season", "yr", "mnth", "hr", "holiday", "weekday", "workingday", "temp", "atemp", "hum", "windspeed"),
            *("weather1", "weather2", "weather3", "weather4"),
        ),
        target="rentals in an hour, standardised",
        task="regression",
        quirks="Rentals are y * 183.66336 + 190.49046.",
    ),
    TableSource(
        name="calhousing",
        title="House values in the districts of California, 1990",
        origin="StatLib (Pace and Barry 1997)",
        files=(_file("calhousing", "b2d229a00235fa044765d63f54b174b36ac0a0a743a1c101c9aabebb4cdb8855"),),
        terms="none stated",
        rows=20640,
        features=("longitude", "latitude", "age", "rooms", "bedrooms", "population", "households", "income"),
        target="median house value, standardised",
        task="regression",
        quirks="Dollars are y * 115597.48 + 206503.53, capped at 500001 in 965 rows.",
    ),
    TableSource(
        name="elevators",
        title="Control of the elevators of an F16 aircraft",
        origin="L. Torgo's collection",
        files=(_file("elevators", "b0bb077a7b59214ad763e38ef2ba06209ebc5e8f91f3de2117ecbfc61f453bb5"),),
        terms="none stated",
        rows=16599,
        features=(
            *("climbRate", "Sgz", "p", "q", "curRoll", "absRoll", "diffClb", "diffRollRate", "diffDiffClb"),
            *("SaTime1", "SaTime2", "SaTime3", "SaTime4"),
            *("diffSaTime1", "diffSaTime2", "diffSaTime3", "diffSaTime4", "Sa"),
        ),
        target="log of Goal, centred",
        task="regression",
        quirks="Columns are centred but not scaled, some around 1e-8: standardise them with float64 statistics.",
    ),
    TableSource(
        name="parkinsons",
        title="Voices of 42 people with Parkinson's disease",
        origin="UCI repository, Parkinsons Telemonitoring (Tsanas and Little 2009)",
        files=(_file("parkinsons", "30e8a60d30859fe6c82ea56f936f03620474053615c6e36998e57ec5b0ada213"),),
        terms="CC BY 4.0",
        rows=5875,
        features=(
            *("subject", "age", "sex", "test_time", "jitter", "jitter_abs", "jitter_rap", "jitter_ppq5", "jitter_ddp"),
            *("shimmer", "shimmer_db", "shimmer_apq3", "shimmer_apq5", "shimmer_apq11", "shimmer_dda"),
            *("nhr", "hnr", "rpde", "dfa", "ppe"),
        ),
        target="total UPDRS, a score of the disease",
        task="regression",
        quirks="The subject alone gives R-squared 0.93, so a random split of rows leaks identity: split by `groups` too.",
    ),
    TableSource(
        name="skillcraft",
        title="StarCraft II players' games",
        origin="UCI repository, SkillCraft1 (Thompson et al. 2013)",
        files=(_file("skillcraft", "ff535833c293a56d0724c80dfb945a8ff1dd0341643cf50657c81f10b6d76ab1"),),
        terms="CC BY 4.0",
        rows=3338,
        features=(
            *("game_id", "league", "age", "hours_per_week", "total_hours", "apm", "select_by_hotkeys"),
            *("assign_to_hotkeys", "unique_hotkeys", "minimap_attacks", "minimap_right_clicks", "number_of_pacs"),
            *("action_latency", "actions_in_pac", "total_map_explored", "workers_made", "unique_units_made"),
            *("complex_units_made", "complex_abilities_used"),
        ),
        target="log of the gap between perception-action cycles, centred",
        task="regression",
        quirks="Column 0 is the game's id; one player claims 1,000,000 hours of practice.",
    ),
)

SETS = {source.name: source for source in _SOURCES}


def regression(name: str) -> Regression:
    """One of the paper's tables, as its authors publish it, downloaded at first use.

    parkinsons has `groups`: its column 0, the subject, which stays in x as in the paper.
    Raises ValueError for an unknown name, DataError if the file cannot be had or is damaged.

    >>> sorted(SETS)
    ['bikesharing', 'calhousing', 'elevators', 'parkinsons', 'skillcraft']
    """
    if name not in SETS:
        raise ValueError(f"name must be one of {', '.join(SETS)}, got {name!r}")
    source = SETS[name]
    table = _read(find(source.files[0]), source.rows, len(source.features) + 1)
    x, y = table[:, :-1], table[:, -1]
    groups = x[:, source.features.index("subject")].astype(np.int64) if "subject" in source.features else None
    return Regression(x, y, groups, source)


def standardise(x: NDArray[np.float64]) -> Tensor:
    """(x - mean) / std of every column, without the constant ones.  x: (n, d) -> (n, d or fewer), float32.

    The paper's protocol: the statistics are those of the whole table. They look at test rows, though at no target, which
    is harmless with thousands of rows but is not how a network in use meets new ones. Raises ValueError if x is no table.

    >>> standardise(np.array([[1.0, 7.0], [3.0, 7.0]]))
    tensor([[-1.],
            [ 1.]])
    """
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"x must be (n, d), finite, with at least one row, got {x.shape}")
    x = np.asarray(x, np.float64)  # float32 statistics lose columns around 1e-8
    x = x[:, x.max(0) > x.min(0)]
    return torch.from_numpy(((x - x.mean(0)) / x.std(0)).astype(np.float32))


def _read(path: Path, rows: int, columns: int) -> NDArray[np.float64]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        table = np.array([line.split(",") for line in lines], dtype=np.float64)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: not a table of numbers, or cut off in the middle of a line") from error
    if table.shape != (rows, columns):
        raise DataError(f"{path}: expected {rows} rows of {columns} numbers, got shape {table.shape}")
    if not np.isfinite(table).all():
        raise DataError(f"{path}: holds numbers that are not finite")
    return table

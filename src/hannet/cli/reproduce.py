"""`hannet reproduce`: compute the experiments of the paper, and show ours beside theirs."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from .console import exit_with_error, print_table, rich_table, say, stdout_console
from .options import complete_experiments, complete_image_sets
from .progress_bar import progress_bar

if TYPE_CHECKING:
    from ..experiments.base import Experiment
    from ..experiments.record import Run
    from ..experiments.store import Store
Named = Annotated[
    str,
    typer.Argument(
        help="What to reproduce, of --list; all --as-is: one page of the whole paper.",
        autocompletion=complete_experiments,
    ),
]
RESULTS = Path("hannet-results")
ALL = "all"  # experiments
MAX_SEEDS = 10_000
SEED_LIMIT = 2**31


def parse_seeds(text: str) -> tuple[int, ...]:
    """`5` is seeds 0 to 4; `0,3` is these two; `4,` is one."""
    try:
        seeds = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        seeds = ()
    if seeds and "," not in text:
        seeds = tuple(range(min(seeds[0], MAX_SEEDS + 1)))
    if len(seeds) > MAX_SEEDS:
        raise typer.BadParameter(f"{text!r} are more than {MAX_SEEDS:,} seeds", param_hint="--seeds")
    if not seeds or min(seeds) < 0 or max(seeds) >= SEED_LIMIT or len(set(seeds)) < len(seeds):
        raise typer.BadParameter(
            f"{text!r} is neither a number of seeds such as 5 nor a list of them such as 0,3 (4, is seed 4 alone)",
            param_hint="--seeds",
        )
    return seeds


def parse_shard(text: str) -> tuple[int, int]:
    """`2/8` is the second of eight parts."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    shard = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= shard[0] <= shard[1]:
        raise typer.BadParameter(f"{text!r} is not a part such as 2/8, from 1/8 to 8/8", param_hint="--shard")
    return shard


class SweepOptions(NamedTuple):
    """Where a sweep computes, and which part of it."""

    jobs: int
    shard: tuple[int, int]
    cluster: str | None


def reproduce(
    experiment: Named = "",
    seeds: Annotated[
        str | None, typer.Option(help="How many seeds (5: 0 to 4), or which (0,3).  [default: the experiment's own]")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few iterations, to see it work; kept apart.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", "--config", help="Parts of it, such as bikesharing,skillcraft of table9."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="The images of table12 and table14.  [default: cifar10]", autocompletion=complete_image_sets),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Fewer epochs for table12 and table14 than the paper has.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for results.  [default: hannet-results/EXPERIMENT]")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes to train in.  [default: one a thread of PyTorch]")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="The I-th of N parts alone, for the N tasks of a job array.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Train on a Dask cluster: tcp://host:port or a scheduler file. Trust it!"),
    ] = None,
    as_is: Annotated[bool, typer.Option("--as-is", help="Train nothing: show what is there.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="Show the experiments there are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON instead of a table.")] = False,
) -> None:
    """Reproduce a figure or table of the paper: train what is missing, print ours beside theirs, save a picture.

    Several commands may work on one folder at once, and any may be killed: the same command goes on from there.
    """
    import torch

    if shard is not None and as_is:
        raise typer.BadParameter("nothing is trained, so leave --shard out", param_hint="--as-is")
    if list_all:
        return _list(as_json=as_json)
    if experiment == ALL:
        given = {"--seeds": seeds, "--only": only, "--dataset": dataset, "--epochs": epochs, "--cluster": cluster}
        return _show_all(out or RESULTS, given, as_is=as_is and not quick, as_json=as_json)
    plan = _load_experiment(experiment, seeds, quick=quick, only=",".join(only or ()), dataset=dataset, epochs=epochs)
    part = parse_shard(shard) if shard is not None else (1, 1)
    sweep_options = SweepOptions(jobs or torch.get_num_threads(), part, _scheduler(cluster, jobs))
    store = _open_store(out or RESULTS / plan.name, "--out", write=not as_is)
    runs = {run.key: run for group in plan.groups() for run in group}
    new = 0 if as_is else _train(plan, store, sweep_options, runs)
    missing = len(store.missing(runs.values(), models=plan.needs_weights))
    if missing and not (as_is and plan.partial and missing < len(runs)):
        counts = {"new": new, "there": len(runs) - missing, "missing": missing}
        counts["without_weights"] = missing - len(store.missing(runs.values()))
        return _print_unfinished(part, counts, as_json=as_json)
    return _report(plan, store, runs, new, missing, as_json=as_json)


def _list(*, as_json: bool) -> None:
    from ..experiments import base

    about = {name: base.describe_experiment(name) for name in base.EXPERIMENTS}
    if as_json:
        print(json.dumps(about))
    else:
        print_table(("name", "what it shows"), about.items())


def _show_all(root: Path, options: Mapping[str, Any], *, as_is: bool, as_json: bool) -> None:
    """Write the page of the whole paper into a folder whose folders hold results. options: those that mean nothing here."""
    from ..experiments import page

    if not as_is or any(given is not None for given in options.values()):
        wrong = next((name for name, given in options.items() if given is not None), None)
        fault = (
            f"all has no {wrong}" if wrong else "all trains nothing: give --as-is, or train each experiment by itself"
        )
        raise typer.BadParameter(fault, param_hint="experiment")
    if not root.is_dir():
        raise typer.BadParameter(f"{root} is no folder of results", param_hint="--out")
    shown = page.paper_page(root)
    path, rows = shown.save(root), shown.sections[0].tables[0].rows
    if as_json:
        print(json.dumps({"report": str(path), "result": shown.result, "experiments": rows}))
        return
    print_table(("experiment", "verdict"), ((row["name"], row["verdict"]) for row in rows))
    say(f"{shown.result} {shown.about[0]}", f"Saved: {path}")


def _load_experiment(name: str, seeds: str | None, *, quick: bool, only: str, **settings: Any) -> "Experiment":
    from ..experiments import base

    if name not in base.EXPERIMENTS:
        wrong = f"{name!r} is not one of" if name else "missing; there are"
        raise typer.BadParameter(f"{wrong} {', '.join(base.EXPERIMENTS)}", param_hint="experiment")
    parts = [part.strip() for part in only.split(",") if part.strip()]
    try:
        return base.load_experiment(name, parse_seeds(seeds) if seeds is not None else None, quick, parts, **settings)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _scheduler(address: str | None, jobs: int | None) -> str | None:
    if address is None:
        return None
    if jobs:
        raise typer.BadParameter("the cluster has its own processes: leave --jobs out", param_hint="--cluster")
    if not re.fullmatch(r"[a-z+]+://\S+", address) and not Path(address).is_file():
        raise typer.BadParameter(
            f"{address!r} is neither an address such as tcp://host:8786 nor a scheduler file", param_hint="--cluster"
        )
    if "tls://" not in (Path(address).read_text(errors="replace") if Path(address).is_file() else address):
        say(
            "Note: without TLS, whoever reaches the cluster's network can run code on its machines and on this one",
            to_stderr=True,
        )
    return address


def _open_store(folder: Path, option: str, *, write: bool) -> "Store":
    from ..experiments.store import Store
    from ..storage.files import StoreError

    try:
        return Store(folder, write=write)
    except StoreError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _train(plan: "Experiment", store: "Store", options: SweepOptions, runs: "Mapping[str, Run]") -> int:
    """Computes what is missing of the plan. Returns how many runs that were."""
    from ..experiments.runner import run_sweep

    try:
        with progress_bar() as bar:
            return run_sweep(
                plan, store, bar, options.jobs, on_failure=bar.fail, shard=options.shard, cluster=options.cluster
            )
    except KeyboardInterrupt:
        kept = len(runs) - len(store.missing(runs.values(), models=plan.needs_weights))
        exit_with_error(
            f"interrupted; {kept} of {len(runs)} runs are kept in {store.folder}, the same command goes on from there",
            130,
        )


def _report(
    plan: "Experiment", store: "Store", runs: "Mapping[str, Run]", new: int, missing: int, *, as_json: bool
) -> None:
    from ..experiments import page, report

    records = {key: record for key, record in store.records().items() if key in runs}
    table = plan.table(records)
    paths = report.save(store.folder / plan.name, table, records, plan.picture(store), plan)
    paths.append(page.folder_page(store.folder).save(store.folder))
    if as_json:
        print(
            json.dumps(report.summary(table, records, plan) | {"files": [str(path) for path in paths]}, allow_nan=False)
        )
        return
    stdout_console().print(rich_table(table))
    lacking = f" {missing} of {len(runs)} runs are missing." if missing else ""
    names = ", ".join(path.name for path in paths)
    print(f"{new} of {len(records)} runs were new.{lacking} Saved in {store.folder}: {names}")


def _print_unfinished(shard: tuple[int, int], counts: dict[str, int], *, as_json: bool) -> None:
    mine, number = shard
    if as_json:
        print(json.dumps({"shard": f"{mine}/{number}", **counts}))
        return
    done = f"Part {mine}/{number} is done: {counts['new']} runs were new. " if number > 1 else ""
    some = f" ({counts['without_weights']} have records, but not the weights that the picture draws)"
    missing = f"{counts['missing']} are missing{some if counts['without_weights'] else ''}"
    print(
        f"{done}{counts['there']} runs of all parts are there, {missing}; when they are there too, "
        "the same command without --shard or --as-is shows the table."
    )

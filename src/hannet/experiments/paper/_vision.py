"""What Tables 12 and 14 share: networks on sets of images, trained as sections 5.3 and 5.4 say, and what is shown of them.

The last epoch counts, and nothing is chosen by the test images: a curve of their error is drawn, never looked at by the training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, ClassVar, NamedTuple

from ...data import Images, images
from ...models.registry import build_model
from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress, ProgressEvent
from ...reporting.tables import Table
from ...train import checkpoint
from ...vision import pipeline
from ...vision.recipe import ImageRecipe
from ..base import BaseExperiment, Result, format_seeds, mean_and_std
from ..record import Record, Run
from ..store import Store, scratch_folder
from ..verdicts import Comparison

QUICK_EPOCHS, QUICK_IMAGES = 1, 512
TESTED = {
    "validation_error": "test_error",
    "validation_top5_error": "test_top5_error",
}  # the images held out are the test images
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "stl10": "STL10", "downsampled-imagenet": "ImageNet, 32x32"}


class Network(NamedTuple):
    """A row: its name, what builds it, and the paper's millions of parameters and errors in %, by set of images."""

    label: str
    options: Mapping[str, Any]
    parameters: Mapping[str, float] = {}
    errors: Mapping[str, Sequence[float]] = {}


@dataclass(frozen=True)
class Experiment(BaseExperiment):
    """Some networks on one set of images. epochs: fewer than the protocol has, or None for as many."""

    dataset: str = "cifar10"
    epochs: int | None = None

    title: ClassVar[str]
    datasets: ClassVar[tuple[str, ...]]
    networks: ClassVar[Mapping[str, Network]]
    partial: ClassVar[bool] = True
    comparisons: ClassVar[tuple[Comparison, ...]] = (
        Comparison("error", "paper", 1.0, ["network"], "error %", "std", higher_is_better=False),
        Comparison("top5", "paper_top5", 1.0, ["network"], "top-5 error %", higher_is_better=False),
    )

    def __post_init__(self) -> None:
        if self.dataset not in self.datasets:
            raise ValueError(f"dataset must be one of {', '.join(self.datasets)}, got {self.dataset!r}")

    @property
    def name(self) -> str:
        """The stem, with the set of images, the parts if not all of them, the epochs if fewer, and quick if it is."""
        epochs = [f"{self.epochs}-epochs"] if self.epochs else []
        return "-".join([self.stem, self.dataset, *self.only, *epochs, *(["quick"] if self.quick else [])])

    @property
    def comparable(self) -> bool:
        """Whether it is trained in full, for as many epochs as in the paper."""
        return super().comparable and not self.epochs

    def protocol(self) -> ImageRecipe:
        """How the set's networks are trained in the paper."""
        raise NotImplementedError

    def options(self, part: str) -> dict[str, Any]:
        """What builds a part's network for the set."""
        raise NotImplementedError

    def recipe(self) -> ImageRecipe:
        """The protocol, as long as it was asked for."""
        if self.quick:
            return replace(self.protocol(), epochs=QUICK_EPOCHS, batch=64)
        return replace(self.protocol(), epochs=self.epochs or self.protocol().epochs)

    def chosen(self) -> dict[str, Network]:
        """The networks asked for that there are for the set."""
        return {part: network for part, network in self.networks.items() if part in self.chosen_parts}

    def run(self, part: str, seed: int) -> Run:
        """A network's training."""
        config = {"network": self.options(part), "recipe": self.recipe().differences(), "data": self.dataset}
        return Run("images" + "-quick" * self.quick, config, seed)

    def groups(self) -> list[list[Run]]:
        """Every run by itself."""
        return [[self.run(part, seed)] for part in self.chosen() for seed in self.seeds]

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        return 1.0 + 0.1 * run.config["network"].get("mlp_blocks", 0)

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Train one network. It is kept now and then in the cache, so that a training that was cut off goes on from there."""
        (run,) = group
        part = next(part for part in self.chosen() if self.run(part, run.seed) == run)
        label = f"{self.networks[part].label}, {TITLES[self.dataset]}, seed {run.seed}"
        training, test = self._images("train"), self._images("test")
        network = build_model(**run.config["network"], seed=run.seed)

        def watch(event: ProgressEvent) -> None:
            on_progress(replace(event, label=label))

        with scratch_folder(run) as folder:
            checkpoint.clear_unreadable(folder)
            options: dict[str, Any] = {"validation": test, "checkpoint": folder, "on_progress": watch}
            history = pipeline.train_classifier(network, training, self.recipe(), run.seed, **options)
        metrics: dict[str, float] = {TESTED.get(name, name): value for name, value in history.last().items()}
        curves = {TESTED.get(name, name): values for name, values in asdict(history).items()}
        metrics["parameters"] = sum(p.numel() for p in network.parameters())
        trained_on = next(network.parameters()).device.type
        return [Result(metrics, network.cpu(), curves, trained_on)]

    def _images(self, part: images.Part) -> Images:
        whole = images.load(self.dataset, part)
        return replace(whole, x=whole.x[:QUICK_IMAGES], y=whole.y[:QUICK_IMAGES]) if self.quick else whole

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row per network: parameters and test error, mean and std over seeds, beside the paper's."""
        columns = {"network": ("network", ""), "parameters": ("params M", "{:.3f}")}
        published = any(network.errors for network in self.networks.values())
        columns |= {"paper_parameters": ("paper M", "{:.2f}")} if published else {}
        columns |= {"error": ("error %", "{:.2f}"), "std": ("std", "{:.2f}")}
        columns |= {"paper": ("paper %", "{:.1f}")} if published else {}
        if self.dataset == "downsampled-imagenet":
            columns |= {"top5": ("top-5 error %", "{:.2f}"), "paper_top5": ("paper %", "{:.1f}")}
        columns |= {"rate": ("images/s", "{:,.0f}"), "seeds": ("seeds", "{}")}
        rows = [self._row(part, network, records) for part, network in self.chosen().items()]
        recipe = self.recipe()
        notes = [
            f"{format_seeds(self.seeds)}; {recipe.epochs} of {self.protocol().epochs} epochs; the last one counts; std: over seeds",
            "images/s: that train, median of the epochs",
            *sorted({f"trained on {record.device}" for record in records.values()}),
            *self._told_of_data(),
        ]
        return self.make_table(f"{self.title}, {TITLES[self.dataset]}", columns, rows, notes)

    def _told_of_data(self) -> tuple[str, ...]:
        """What to know of the test images, if they are here: a table downloads nothing."""
        here = images.SETS[self.dataset].where in ("HANNET_DATA", "cache")
        return images.load(self.dataset, "test").notes if here else ()

    def _row(self, part: str, network: Network, records: Mapping[str, Record]) -> dict[str, Any]:
        found = [records[run.key] for seed in self.seeds if (run := self.run(part, seed)).key in records]
        count = sum(p.numel() for p in build_model(**self.options(part), seed=0).parameters())
        row: dict[str, Any] = {"network": network.label, "parameters": count / 1e6, "seeds": len(found)}
        row["paper_parameters"] = network.parameters.get(self.dataset)
        published = (*network.errors.get(self.dataset, ()), None, None)
        row["paper"], row["paper_top5"] = published[:2]
        for key, metric in (("error", "test_error"), ("top5", "test_top5_error")):
            values = [100 * error for record in found if (error := record.metrics.get(metric)) is not None]
            mean, std = mean_and_std(values)
            row |= {key: mean} | ({"std": std} if key == "error" else {})
        if found:
            row["rate"] = fmean(record.metrics["images_per_second"] or 0.0 for record in found)
        return row

    def picture(self, store: Store) -> Figure:
        """Error on training and test images over the epochs, a line a network, mean over seeds; the paper's errors at the end."""
        records = store.records()
        figure = new_figure(10.5, 4.2)
        panels = figure.subplots(1, 2, sharey=True)
        for colour, (part, network) in enumerate(self.chosen().items()):
            found = [records[run.key] for seed in self.seeds if (run := self.run(part, seed)).key in records]
            for axis, curve in zip(panels, ("train_error", "test_error"), strict=True):
                lines = [[100 * (value or 0.0) for value in record.curves[curve]] for record in found]
                means = [fmean(values) for values in zip(*lines, strict=True)]
                if means:
                    axis.plot(range(1, len(means) + 1), means, color=f"C{colour}", label=network.label)
            if found and (published := network.errors.get(self.dataset)):
                panels[1].plot([self.recipe().epochs], published[:1], "x", color=f"C{colour}")
        panels[0].set(title="training images, augmented", xlabel="epoch", ylabel="error in %")
        panels[1].set(title="test images (crosses: the paper's)", xlabel="epoch")
        panels[1].legend()
        figure.suptitle(TITLES[self.dataset])
        return self.annotate_quick(figure)

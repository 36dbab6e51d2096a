"""A classifier of images trained from a preset: its report, and the folder that it is saved as."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from ..reporting.figures import figure_as_bytes
from ..reporting.progress import OnProgress
from ..storage import model_dir
from ..storage.files import StoreError, write_atomic
from ..storage.provenance import commit, describe_device, versions
from . import page
from .card import image_evaluation
from .figures import plot_history
from .pipeline import evaluate, train_classifier
from .preprocessing import FILE
from .presets import ModelPreset, Settings, preprocessing_of, report_recipe
from .splits import DataSplits

MODEL_FILES = ("config.json", "model.safetensors")
OTHER_FILES = ("README.md", "report.json", FILE, "curves.png", "curves.svg", *page.FILES)


@dataclass(frozen=True)
class TrainedClassifier:
    """A network, what was measured of it, and contents of files to save beside both, by name."""

    network: nn.Module
    report: Mapping[str, Any]
    files: Mapping[str, bytes]

    def save(self, folder: Path) -> list[str]:
        """Write all of it to a folder, in place of what was there. Returns the names of the files beside the network; raises StoreError."""
        shown = page.trained_page(self.report, str(folder), self.files).render()
        report = json.dumps(self.report, indent=1, allow_nan=False) + "\n"
        files = {**self.files, "report.json": report.encode(), page.FILE: shown.encode()}
        try:
            with model_dir.replace_folder(folder) as temporary:
                card: dict[str, Any] = {"model_card_kwargs": {"evaluation": image_evaluation(self.report)}}
                self.network.save_pretrained(temporary, **card)  # type: ignore[operator]
                for name, content in files.items():
                    write_atomic(temporary / name, content)
        except SafetensorError as error:
            raise StoreError(f"{folder}: {error}") from error
        return list(files)


def train(
    preset: ModelPreset,
    settings: Settings,
    splits: DataSplits,
    seed: int,
    *,
    checkpoint: Path | None = None,
    fresh: bool = False,
    on_progress: OnProgress | None = None,
) -> TrainedClassifier:
    """Build the network of a preset, train it, and measure it.

    settings: what `preset.resolve` gave, with the size of the batches. checkpoint: folder for the state of the training, from which it
    resumes, unless `fresh`. Raises SettingError if the network cannot be built, and what `train_classifier` raises.
    """
    network, arguments = preset.build_network(settings, splits.training, seed)
    recipe = preset.trainer(settings, splits)
    if fresh and checkpoint:
        shutil.rmtree(checkpoint, ignore_errors=True)
    began = time.perf_counter()
    options: dict[str, Any] = {"flat": preset.flat, "validation": splits.validation, "on_progress": on_progress}
    options |= {"checkpoint": checkpoint, "minutes": settings["minutes"]}
    history = train_classifier(network, splits.training, recipe, seed, **options)
    report = {
        **_describe(splits, network, seed),
        "network": {"model": type(network).__name__, **arguments},
        "device": describe_device(next(network.parameters()).device.type),
        "recipe": report_recipe(recipe),
        "epochs": settings["epochs"],
        "seconds": round(time.perf_counter() - began, 3),
        "validation_accuracy": [1 - error for error in history.validation_error],
        "history": asdict(history),
    }
    preprocessing = preprocessing_of(recipe, splits.training)
    report |= evaluate(network, preprocessing, splits.test)
    figure = plot_history(report["history"])
    files = {FILE: preprocessing.content()}
    files |= {f"curves.{form}": figure_as_bytes(figure, form) for form in ("png", "svg")}
    return TrainedClassifier(network, report, files)


def _describe(splits: DataSplits, network: nn.Module, seed: int) -> dict[str, Any]:
    parts = {"train": splits.training, "validation": splits.validation, "test": splits.test}
    return {
        "data": splits.name,
        "seed": seed,
        "images": {name: len(part.y) for name, part in parts.items()},
        "classes": list(splits.training.classes),
        "training_counts": splits.training.y.bincount(minlength=len(splits.training.classes)).tolist(),
        "broken": list(splits.training.broken),
        "notes": list(dict.fromkeys((*splits.training.notes, *splits.test.notes))),
        "parameters": sum(p.numel() for p in network.parameters()),
        "versions": dict(versions()),
        "commit": commit(),
    }

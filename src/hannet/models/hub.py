"""Networks as folders: what save_pretrained writes, with a model card, and how it is read back, strictly and without pickle."""

import json
import re
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelCard, ModelCardData, PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from ..storage.files import atomic_writer, read_json_object
from .card import Evaluation
from .modes import modes_kept

_SMALL = 10_000  # what a number in a config may be, however few the weights
_HUB_OPTIONS = ("revision", "cache_dir", "force_download", "local_files_only", "token")
WEIGHTS, CONFIG = "model.safetensors", "config.json"
_CARD = """---
{{ card_data }}
---

# {{ name }}

{{ what }} {{ parameters }} parameters.
{{ task }}

{{ results }}A model of the Python package `hannet`: Han-layers, `y = |H(u) x + b|` with the Householder reflection `H(u)`, have 2d
parameters and gradients of constant norm. The package is independent of the authors of the paper.

```python
from hannet import {{ name }}

model = {{ name }}.from_pretrained("FOLDER")  # in evaluation mode
```

License: MIT. The layer and this way of using it are from the paper; please cite it if you use the model:

```bibtex
@article{yu2024lightweight,
  title = {A Lightweight and Gradient-Stable Neural Layer},
  author = {Yu, Y. and Zhang, Y.},
  journal = {Neural Networks},
  volume = {175},
  pages = {106269},
  year = {2024}
}
```
"""


class ModelFolderError(RuntimeError):
    """A folder that holds no network, or a damaged one; the message is one sentence for the user."""


def read_config(folder: str | Path) -> dict[str, Any]:
    """What `config.json` says. Raises ModelFolderError if there is no such folder or file, or for what is no JSON object."""
    path = Path(folder, CONFIG)
    if not Path(folder).is_dir():
        raise ModelFolderError(f"{folder}: no such folder")
    return read_json_object(path, ModelFolderError)


def describe_classifier(what: str, classes: int, image: str) -> dict[str, str]:
    """The card's details of a classifier of images, from the shape of an `image`."""
    shape = f"images (n, {image}, scaled and normalised as in training"
    return {"what": what, "task": f"Task: one score for each of {classes} classes from {shape}."}


def require_bounded(options: Any, weights: Path) -> None:
    """Raises ValueError for numbers that no network with so few weights has: to build it would take for ever."""
    limit = max(_SMALL, weights.stat().st_size if weights.is_file() else 0)
    for value in options.values() if isinstance(options, dict) else options:
        if isinstance(value, dict | list | tuple):
            require_bounded(value, weights)
        elif isinstance(value, int | float) and not abs(value) <= limit:
            raise ValueError(f"{value} is more than {weights.name} can hold")


def restore(model: nn.Module, weights: Path, device: str | torch.device = "cpu") -> nn.Module:
    """The model with these weights, all of them, in their dtype; in eval mode. Raises ModelFolderError if they do not fit."""
    try:
        model.load_state_dict(load_file(weights, str(device)), assign=True)
    except OSError as error:
        raise ModelFolderError(f"{weights}: cannot be read ({error.strerror or error})") from error
    except (SafetensorError, RuntimeError) as error:
        raise ModelFolderError(f"{weights}: damaged, or not of the network that {CONFIG} describes") from error
    return model.eval()


@torch.no_grad()
def plain_state(model: nn.Module, described: nn.Module) -> dict[str, Tensor]:
    """The state dict that gives `described`, a network of the same config, what `model` computes in eval mode.

    Parametrised and pruned tensors become what they are computed as. Raises ModelFolderError for a model that is another network
    than its config describes.
    """
    with modes_kept(model):
        model.eval()  # parametrizations may differ in training, and change as they are asked
        modules = {name: part for name, part in model.named_modules() if "parametrizations" not in name.split(".")}
        _require_same(modules, dict(described.named_modules()))
        state = {key: _tensor_of(modules, key, like) for key, like in described.state_dict().items()}
        if extra := {key for key in model.state_dict() if _stem(key) not in state}:
            raise _unlike(min(extra), "a tensor that its config does not describe")
    return state


def _unlike(name: str, what: str) -> ModelFolderError:
    return ModelFolderError(f"{name} is {what}: from_pretrained could not read the network, so nothing is saved")


def _require_same(modules: dict[str, nn.Module], described: dict[str, nn.Module]) -> None:
    for name, module in modules.items():
        kind = type_before_parametrizations(module)
        if name not in described:
            raise _unlike(name, "a module that its config does not describe")
        if kind is not type(described[name]):
            raise _unlike(
                name, f"of class {kind.__name__}, not {type(described[name]).__name__} as its config describes"
            )
    if missing := described.keys() - modules.keys():
        raise _unlike(min(missing), "missing")


def _tensor_of(modules: dict[str, nn.Module], key: str, like: Tensor) -> Tensor:
    """The tensor that a module computes with; torch.nn.utils.prune renews its own only as the module is called."""
    path, _, name = key.rpartition(".")
    module = modules[path]
    found = {**module._parameters, **module._buffers}
    original, mask = found.get(f"{name}_orig"), found.get(f"{name}_mask")
    if original is not None and mask is not None:
        value: Any = original * mask
    else:
        value = getattr(module, name) if is_parametrized(module, name) else found.get(name)
    if not isinstance(value, Tensor) or value.shape != like.shape:
        raise _unlike(key, "missing" if value is None else f"of shape {tuple(value.shape)}, not {tuple(like.shape)}")
    return value.detach().contiguous()


def _stem(key: str) -> str:
    """The tensor that one of this name is a part of, by a parametrization or by pruning."""
    path, parametrized, rest = key.partition("parametrizations.")
    return path + rest.partition(".")[0] if parametrized else key.removesuffix("_orig").removesuffix("_mask")


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, each in memory of its own, as safetensors wants them."""
    first = {value.untyped_storage().data_ptr(): key for key, value in reversed(state.items())}
    return {key: value if key in first.values() else value.clone() for key, value in state.items()}


class PretrainedMixin(
    PyTorchModelHubMixin,
    library_name="hannet",
    license="mit",
    paper_url="https://arxiv.org/abs/2106.04088",
    model_card_template=_CARD,
    tags=["han-layer"],
):
    """save_pretrained and from_pretrained; `config.json` also names the class, so that `hannet.models.load` knows it."""

    _hub_mixin_config: dict[str, object]

    def card_details(self) -> dict[str, str]:
        """Entries of the model card: `what` the network is made of, its `task`."""
        config, order = self._hub_mixin_config, self._hub_mixin_init_parameters
        given = ", ".join(f"{name}={config[name]!r}" for name in order if name in config)
        return {"what": f"`{type(self).__name__}({given})`.", "task": "Input and output: (..., features)."}

    def generate_model_card(self, *args: Any, evaluation: Evaluation | None = None, **kwargs: Any) -> ModelCard:
        """The card that save_pretrained and push_to_hub write.

        Args:
            args: those of huggingface_hub's generate_model_card.
            evaluation: what was measured, which the card then also states in the Hub's format.
            kwargs: those of huggingface_hub's generate_model_card.
        """
        assert isinstance(self, nn.Module)
        count = sum(p.numel() for p in self.parameters())
        details = {"name": type(self).__name__, "parameters": f"{count:,}", "results": "", **self.card_details()}
        if evaluation:
            details["results"] = f"{evaluation.markdown()}\n\n"
        card = super().generate_model_card(*args, **details, **kwargs)
        if evaluation:
            data = {**card.data.to_dict(), "model_name": type(self).__name__, "eval_results": evaluation.results()}
            card.data = ModelCardData(**data)
        return card

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write the network as a folder that from_pretrained reads; parametrised and pruned weights as what they are computed as.

        Args:
            save_directory: the folder.
            options: those of huggingface_hub's save_pretrained.

        Returns:
            With push_to_hub, the address of the commit on the Hub.

        Raises:
            ModelFolderError: for a network that is no longer what its config describes; the folder stays as it is.
        """
        self._plain_state()
        return super().save_pretrained(save_directory, **options)

    def _plain_state(self) -> dict[str, Tensor]:
        assert isinstance(self, nn.Module)
        with torch.device("meta"):
            described: Any = type(self)(**self._hub_mixin_config)
        return plain_state(self, described)

    def _save_pretrained(self, save_directory: Path) -> None:
        with atomic_writer(Path(save_directory, WEIGHTS)) as file:
            save_file(_apart(self._plain_state()), file.name, {"format": "pt"})
        config = {"model": type(self).__name__, **self._hub_mixin_config}
        Path(save_directory, CONFIG).write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """The network in a folder, or of that name (owner/name) on the Hugging Face Hub, in eval mode and in the dtype of its weights.

        Args:
            pretrained_model_name_or_path: the folder, or owner/name.
            options: those of huggingface_hub's from_pretrained. Weights are loaded strictly, so `strict` can only be True.

        Raises:
            ModelFolderError: if there is none, or one of another class, or it is damaged.
            ValueError: for strict=False.
        """
        if not options.pop("strict", True):
            raise ValueError(
                f"strict must be True: all weights of a {cls.__name__} are in its folder, or it is damaged"
            )
        source = str(pretrained_model_name_or_path)
        if source and Path(source).is_dir():
            saved = read_config(source).get("model", cls.__name__)
            if saved != cls.__name__:
                raise ModelFolderError(f"{source}: holds a {saved}, not a {cls.__name__}")
        elif not re.fullmatch(r"\w[\w.-]*/[\w.-]+", source):
            raise ModelFolderError(f"{source}: no such folder")
        torch.empty(0, device=options.get("map_location", "cpu"))  # a missing device is not the folder's fault
        if unknown := sorted(options.keys() - {*_HUB_OPTIONS, "config", "map_location"}):
            raise TypeError(f"from_pretrained takes no {', '.join(unknown)}")
        try:
            return super().from_pretrained(source, **options)
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
            raise ModelFolderError(f"{source}: no such folder, and not available from the Hugging Face Hub") from error

    @classmethod
    def _from_pretrained(cls, *, model_id: str, map_location: str | torch.device = "cpu", **options: Any) -> Self:
        """Load the weights, from safetensors only, and all of them."""
        hub = {name: options.pop(name) for name in _HUB_OPTIONS}
        local = Path(model_id).is_dir()
        weights = Path(model_id, WEIGHTS) if local else Path(hf_hub_download(model_id, WEIGHTS, **hub))
        try:
            require_bounded(options, weights)
            with torch.device("meta"):  # no memory, and no initialisation that the weights replace
                model: Any = cls(**options)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise ModelFolderError(f"{Path(model_id, CONFIG)}: does not describe a {cls.__name__} ({error})") from error
        restore(model, weights, map_location)
        return model

"""How pictures become what a network was trained on, kept beside it as `preprocessing.json`."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import PixelRange
from ..layers.affine import Standardise
from ..models import ModelFolderError
from .augmentation import normalise

FILE = "preprocessing.json"
EVALUATION_BATCH = 500  # images in one forward pass: it bounds memory


def normalise_and_resize(x: Tensor, mean: Sequence[float], std: Sequence[float], resize: int | None) -> Tensor:
    """What networks take, in training and evaluation alike.  x: (n, channels, h, w), uint8 -> float32; h = w = resize if given."""
    x = normalise(x, mean, std)
    return F.interpolate(x, size=resize, mode="bilinear") if resize else x


@dataclass(frozen=True)
class Preprocessing:
    """Images (channels, size, size), uint8, become (x / 255 - mean) / std; then resized to `resize`, if any; then flat, if it is.

    mean and std: a number a channel. classes: their names, in the order of the network's outputs. pixel_range: what became 0 and
    255 of training pictures of more than 8 bits a channel; None for the upper 8 of 16 bits, as in all earlier versions.
    """

    channels: int
    size: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None
    flat: bool = False
    pixel_range: PixelRange | None = None

    def __post_init__(self) -> None:
        if self.channels not in (1, 3) or self.size < 1 or len(self.classes) < 1 or (self.resize or 1) < 1:
            raise ValueError("channels must be 1 or 3, size and resize positive, and there must be a class")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std must have {self.channels} numbers")
        if self.flat and (any(self.mean) or set(self.std) != {1.0}):
            raise ValueError("what is flat has mean 0 and std 1")
        if not all(map(math.isfinite, (*self.mean, *self.std))) or not all(value > 0 for value in self.std):
            raise ValueError("mean and std must be finite, std above 0")
        if self.pixel_range and not -math.inf < self.pixel_range[0] < self.pixel_range[1] < math.inf:
            raise ValueError("the range of pixels must be two finite numbers, the larger one last")

    def __call__(self, x: Tensor) -> Tensor:
        """x: (n, channels, size, size), uint8 -> what the network takes, float32."""
        out = normalise_and_resize(x, self.mean, self.std, self.resize)
        return out.flatten(1) if self.flat else out

    def from_pixels(self, network: nn.Module) -> nn.Module:
        """The network with the scaling before it, in eval mode.  x: (n, channels, size, size), from 0 to 1; flat if this is."""
        if self.flat:
            return network.eval()  # its pixels are not scaled
        before: list[nn.Module] = [Standardise(self.mean, self.std)]
        if self.resize:
            before.append(nn.Upsample(self.resize, mode="bilinear"))
        return nn.Sequential(*before, network).eval()

    def content(self) -> bytes:
        """What the file holds."""
        values = asdict(self)
        if not self.pixel_range:
            del values["pixel_range"]  # earlier versions do not know it
        return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def load(cls, folder: Path) -> "Preprocessing":
        """From the file in a model's folder. Raises ModelFolderError if it is missing, damaged or of another version."""
        path = folder / FILE
        try:
            values = json.loads(path.read_bytes())
            for name in ("classes", "mean", "std"):
                values[name] = tuple(values[name])
            if values.get("pixel_range") is not None:
                low, high = values["pixel_range"]
                values["pixel_range"] = float(low), float(high)
            return _require_types(cls(**values))
        except OSError as error:
            raise ModelFolderError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelFolderError(f"{path}: damaged, or not written by hannet") from error


def _require_types(found: Preprocessing) -> Preprocessing:
    integers = (found.channels, found.size, *([] if found.resize is None else [found.resize]))
    if not all(isinstance(number, int) for number in integers) or not isinstance(found.flat, bool):
        raise TypeError("numbers of pixels are integers")
    if not all(isinstance(name, str) for name in found.classes):
        raise TypeError("classes are names")
    return found


@torch.no_grad()
def logits(network: nn.Module, preprocessing: Preprocessing, x: Tensor) -> Tensor:
    """What the network, in eval mode, makes of images.  x: (n, channels, size, size), uint8 -> (n, classes)."""
    network.eval()
    return torch.cat([network(preprocessing(part)) for part in x.split(EVALUATION_BATCH)])


def probabilities(network: nn.Module, preprocessing: Preprocessing, x: Tensor) -> Tensor:
    """The probability of each class.  x: (n, channels, size, size), uint8 -> (n, classes)."""
    return logits(network, preprocessing, x).softmax(1)


def grey(x: Tensor) -> Tensor:
    """Luma (ITU-R BT.601).  x: (n, 3, h, w), uint8 -> (n, 1, h, w), uint8."""
    weights = torch.tensor([299, 587, 114], device=x.device)[:, None, None]
    return ((x.long() * weights).sum(1, keepdim=True) + 500).div(1000, rounding_mode="floor").to(torch.uint8)

"""What the networks for images share: the check of their input and the model card saved beside them."""

from typing import Any

from torch import Tensor, nn

_TEMPLATE = """---
{{ card_data }}
---

# {{ name }}

{{ what }} {{ parameters }} parameters.
Task: one score for each of {{ classes }} classes from images (n, {{ image }}, scaled and normalised as in training.

A model of the Python package `hannet`: Han-layers, `y = |H(u) x + b|` with the Householder reflection `H(u)`, have 2d parameters
and gradients of constant norm. The package is independent of the authors of the paper.

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

CARD: dict[str, Any] = {
    "model_card_template": _TEMPLATE,
    "library_name": "hannet",
    "license": "mit",
    "pipeline_tag": "image-classification",
    "paper_url": "https://arxiv.org/abs/2106.04088",
}


def facts(model: nn.Module, what: str, classes: int, image: str) -> dict[str, Any]:
    """What the card says of one model: `what` it is made of, its number of `classes`, the shape of an `image`."""
    count = sum(p.numel() for p in model.parameters())
    return {
        "name": type(model).__name__,
        "what": what,
        "parameters": f"{count:,}",
        "classes": classes,
        "image": image,
    }


def require_images(x: Tensor, shape: str, fits: bool) -> None:
    """Raises ValueError for images that do not fit, with the `shape` that was expected; TypeError for images of integers."""
    if x.dim() != 4 or not fits:
        raise ValueError(f"images must be {shape}, got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"images must be floating point, got {x.dtype}; scale and normalise them as in training")


def require_integers(values: Any, name: str, count: int) -> tuple[int, ...]:
    """The values as a tuple. Raises ValueError unless they are `count` positive integers."""
    given = tuple(values) if isinstance(values, list | tuple) else ()
    if len(given) != count or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in given):
        raise ValueError(f"{name} must be {count} positive integers, got {values!r}")
    return given

"""Examples in docstrings stand as they are, without a heading: in the API reference they become blocks of code."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> (?:.|\n(?!\n|\Z))*", re.MULTILINE)  # up to the next empty line


class Examples(griffe.Extension):
    """Fences around the examples of every docstring."""

    def on_object(self, *, obj: griffe.Object, **_kwargs: Any) -> None:
        """What griffe calls for every object."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(lambda code: f"```pycon\n{code[0]}\n```", obj.docstring.value)

"""Text to model character by character, as its publisher gives it."""

from . import reading
from .download import File, find

_COMMIT = "d1d7aa34fdb3626174bce1d753e6cc6845ce7087"
_SHAKESPEARE = File(
    "tinyshakespeare",
    "input.txt",
    f"https://raw.githubusercontent.com/karpathy/char-rnn/{_COMMIT}/data/tinyshakespeare/input.txt",
    "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)


def shakespeare() -> str:
    """1,115,394 characters of plays, in the public domain, downloaded at first use.

    Raises DataError if the file cannot be had or is damaged.
    """
    path = find(_SHAKESPEARE)
    with reading(path):
        return path.read_text(encoding="ascii")

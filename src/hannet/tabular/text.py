"""Free text as a few numbers: hashed n-grams of characters, weighted by how rare they are, projected on what varies most."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from . import missing
from .columns import Blocks
from .missing import DEFAULT_MISSING, Tokens
from .table import evenly_spaced

HASHED = 2**12  # n-grams that are told apart
COMPONENTS = 16
SAMPLE = 20_000  # rows that the projection is learned from, at most
DIGITS = 6  # of a weight that is kept
_WORDS = re.compile(
    r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]|[^\W\d_]{3,}"
)  # a character of East Asia says as much as a word


def is_text(cells: pd.Series) -> bool:
    """Whether the cells, nearly all different, say something in words that come again; else they are identifiers."""
    sample = evenly_spaced(cells, 1000)
    if sample.nunique() < 0.5 * len(sample):
        return False
    found = [_WORDS.findall(text.lower()) for text in sample]
    skeletons = {tuple(words) for words in found}  # row 1, row 2
    counts = Counter(word for words in found for word in words)
    again = sum(count for count in counts.values() if count > 1)
    return (
        len(skeletons) > 0.1 * len(sample) and sum(map(len, found)) >= 2 * len(sample) and again >= 0.3 * counts.total()
    )


@dataclass(frozen=True)
class Text:
    """Free text; weights: (components, HASHED), what turns hashed n-grams into the columns of the matrix."""

    kind: str
    name: str
    weights: Sequence[Sequence[float]]

    @classmethod
    def fit(cls, name: str, cells: pd.Series, tokens: Tokens = DEFAULT_MISSING) -> "Text":
        """Learn from the training rows."""
        from sklearn.decomposition import TruncatedSVD

        present = cells[~missing.missing_mask(cells, tokens)]
        sample = present.iloc[:: -(-len(present) // SAMPLE)]
        hashed = _hash(sample)
        rows = np.bincount(hashed.indices, minlength=HASHED)
        rarity = np.where(rows > 1, np.log((1 + len(sample)) / (1 + rows)), 0.0)
        count = max(1, min(COMPONENTS, len(sample) // 10, int((rows > 1).sum()) - 1))
        svd = TruncatedSVD(count, random_state=0).fit(hashed.multiply(rarity).tocsr())
        weights = svd.components_ * rarity
        spread = (hashed @ weights.T).std(0) + 1e-12
        return cls("text", name, [[float(f"{value:.{DIGITS}g}") for value in row] for row in weights / spread[:, None]])

    @property
    def inputs(self) -> list[str]:
        """Names of its columns of the matrix."""
        return [f"{self.name} text {number}" for number in range(1, len(self.weights) + 1)]

    @cached_property
    def _matrix(self) -> np.ndarray:
        return np.array(self.weights, float).T

    def encode(self, cells: pd.Series, tokens: Tokens = DEFAULT_MISSING) -> Blocks:
        """The columns, all 0 where a cell is missing."""
        codes, texts = pd.factorize(cells.mask(missing.missing_mask(cells, tokens), ""))
        return list((_hash(texts) @ self._matrix)[codes].T), []


def _hash(texts: Any) -> Any:
    """A sparse row of n-grams for each text, of length 1."""
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(n_features=HASHED, analyzer="char_wb", ngram_range=(3, 4), alternate_sign=False)
    return vectorizer.transform(np.asarray(texts, object))

"""Words that stand for a missing value: those that databases, spreadsheets and offices write, and a user's own."""

import shlex
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from .readers import join_names

MISSING_TOKENS = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "?", "-", "--"})
DEFAULT_MISSING = ("default",)  # among a user's tokens, it stands for MISSING_TOKENS
MAX_INVALID = 0.05  # this share of a column's values may be no numbers, or no dates: they are taken as missing
MAX_GAP_WORDS = 3  # so many different words among numbers or dates may stand for missing values
MIN_AROUND_GAPS = 10  # different numbers or dates; with fewer, words among them are as likely levels of a category
Tokens = Collection[str]  # a user's, in any case

# Levels of a category, but neither numbers nor dates.
_DATABASES = (
    r"none|\n|\na|(null)|(none)|[null]|<null>|<none>|nil|nul|undefined|undef|void|n/a n/a|0000-00-00|0000-00-00 00:00:00|"
    "00/00/0000|00.00.0000|-nan|+nan|nan(ind)|-nan(ind)|-1.#ind|1.#ind|1.#qnan|-1.#qnan"
)
_SPREADSHEETS = (
    "#ref!|#div/0!|#value!|#name?|#num!|#null!|#spill!|#calc!|#error!|#error|error|err|#getting_data|#na|#n/v|#nv|#wert!|#zahl!|"
    "#bezug!|#valeur!|#nombre!|#¡valor!|#¡div/0!|#¡ref!|#¡num!|#n/d|#valore!|#valor!|(blank)|(empty)|blank|empty"
)
_OFFICES = (
    "missing|<missing>|(missing)|missing value|unknown|<unknown>|(unknown)|[unknown]|unknown?|unkn|unk|not available|not applicable|"
    "not known|not recorded|not reported|not given|not provided|not stated|not specified|unspecified|not measured|unavailable|"
    "no data|nodata|no value|no answer|no response|(na)|(n/a)|[na]|n.a.|n.a|n. a.|n/a.|n/k|n.k.|n/d|nd|n.d.|n.d|n/r|nr|n.r.|"
    "nc|n.c.|n/c|tba|tbd|tbc|pending|to be determined|to be announced|varies|varies with device|k.a.|k. a.|k.a|k/a|keine angabe|"
    "keine angaben|ohne angabe|o.a.|unbekannt|fehlt|fehlend|entfällt|nicht verfügbar|s/o|s.o.|sans objet|inconnu|non disponible|"
    "non renseigné|s/d|s.d.|sin dato|sin datos|no disponible|no aplica|desconocido|sem dados|não disponível|não informado|"
    "desconhecido|sconosciuto|non noto|nvt|n.v.t.|onbekend|niet bekend"
)
_DOTS = ". .. ... … .... --- ---- - – — ― _ __ * ** *** ?? ??? ! # / \\ x"
_UNKNOWN = frozenset(word for word in _OFFICES.split("|") if len(word) > 2)  # two letters are as likely a code
NUMERIC_TOKENS = frozenset(f"{_DATABASES}|{_SPREADSHEETS}|{_OFFICES}".split("|")) | frozenset(_DOTS.split())


def missing_tokens(tokens: Tokens) -> frozenset[str]:
    """What a missing cell may hold, in lower case: nothing, or one of the tokens, where DEFAULT_MISSING stands for MISSING_TOKENS."""
    return user_tokens(tokens) | (MISSING_TOKENS if _includes_default(tokens) else {""})


def user_tokens(tokens: Tokens) -> frozenset[str]:
    """The tokens that a person named, in lower case."""
    return frozenset(map(str.lower, tokens)) - {*DEFAULT_MISSING}


def _includes_default(tokens: Tokens) -> bool:
    return any(token.lower() in DEFAULT_MISSING for token in tokens)


def missing_mask(cells: pd.Series, tokens: Tokens = DEFAULT_MISSING) -> np.ndarray:
    """A mask of the cells that are empty or one of the tokens, in any case.

    Of MISSING_TOKENS "-" is a value where "+" is one too, and "NA" where all others are codes of two capitals.
    """
    missing = cells.str.lower().isin(missing_tokens(tokens)).to_numpy(bool)
    if _includes_default(tokens) and missing.any():
        named, present = user_tokens(tokens), cells[~missing]
        if "-" not in named and (present == "+").any():
            missing = missing & (cells != "-").to_numpy(bool)
        if "na" not in named and present.nunique() > 1 and present.str.fullmatch("[A-Z]{2}").all():
            missing = missing & (cells != "NA").to_numpy(bool)
    return missing


def missing_numeric(cells: pd.Series, tokens: Tokens = DEFAULT_MISSING, gaps: Sequence[str] = ()) -> np.ndarray:
    """A mask as `missing_mask` gives it, by default with NUMERIC_TOKENS too, which may be levels of a category.

    gaps: what else is missing in this column, in lower case, as `gap_words` gives it.
    """
    missing = missing_mask(cells, tokens)
    words = {*gaps, *(NUMERIC_TOKENS if _includes_default(tokens) else ())}
    return missing | cells.str.lower().isin(words).to_numpy(bool) if words else missing


def gap_words(cells: pd.Series, readable: np.ndarray) -> list[str]:
    """The few words, in lower case, that fill the gaps of a column most of which is numbers or dates; none if they may be values."""
    if not readable.any() or readable.mean() < 0.5 or cells[readable].nunique() < MIN_AROUND_GAPS:
        return []
    words = sorted(cells[~readable].str.lower().unique())
    return words if len(words) <= MAX_GAP_WORDS and not any(map(_has_digit, words)) else []


def gap_words_note(name: str, cells: pd.Series, gaps: Sequence[str], what: str) -> list[str]:
    """A note on the words that are no numbers or dates, with the flag that names them."""
    if not gaps:
        return []
    found = cells[cells.str.lower().isin(gaps)].value_counts()
    named = join_names([f"{word!r} ({count:,})" for word, count in found.items()])
    words = ",".join(found.index)
    return [f"column {name!r} holds {what}, and {named}, taken as missing; --missing {f'default,{words}'!r} says so"]


def unknown_classes_note(cells: pd.Series, tokens: Tokens) -> list[str]:
    """A note on the classes that say that nothing is known, with the flag that leaves their rows out."""
    counts = cells[cells.str.lower().isin(_UNKNOWN)].value_counts()
    if counts.empty:
        return []
    named = join_names([f"{word!r} ({count:,} row{'s' * (count > 1)})" for word, count in counts.items()])
    what = "is taken for a class" if len(counts) == 1 else "are taken for classes"
    return [f"{named} {what}; --missing {shlex.quote(','.join([*tokens, *counts.index]))} leaves those rows out"]


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def missing_tokens_note(cells: pd.DataFrame, tokens: Tokens, numeric: Collection[str] = ()) -> list[str]:
    """A note on the tokens that are read as missing, how often and in which columns; numeric: columns of numbers or dates."""
    counts: Counter[str] = Counter()
    columns: dict[str, list[str]] = {}
    for name in cells:
        mask = (missing_numeric if name in numeric else missing_mask)(cells[name], tokens)
        found = cells[name][mask & (cells[name] != "")].value_counts()
        counts.update(found.to_dict())
        for token in found.index:
            columns.setdefault(token, []).append(repr(name))
    named = [f"{token!r} ({count:,}, in {join_names(columns[token])})" for token, count in counts.most_common()]
    return [f"read as missing: {join_names(named, 5)}; --missing names other words"] if named else []


def unmatched_missing_tokens(cells: pd.DataFrame, tokens: Tokens) -> list[str]:
    """A note on the tokens named that no cell holds: -999 is not found where the file has -999.0."""

    def occurs(token: str) -> bool:
        return any((cells[name].str.lower() == token).any() for name in cells)

    unmatched = [repr(token) for token in sorted(user_tokens(tokens)) if not occurs(token)]
    return [f"--missing: no cell holds {join_names(unmatched)}"] if unmatched else []

"""Text as numbers, in the notations of people: currencies, thousands, brackets, suffixes, units, decimal commas."""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from .missing import DEFAULT_MISSING, MAX_INVALID, Tokens, missing_numeric
from .readers import Table, join_names
from .table import evenly_spaced

SAMPLE = 1000  # cells that tell what most of a column is
MAX_UNITS = 6  # with more different ones, a column holds words, such as those of addresses
NEAR = 0.5  # of a power of ten, by which numbers of about the same size differ
MAX_LENGTH = 60  # characters of a number, with all that is around it
# ISO 4217, with those that the euro replaced
_CODES = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLF CLP CNH "
    "CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR "
    "IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR "
    "MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RMB RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP "
    "SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XOF XPF "
    "YER ZAR ZMW ZWL ATS BEF DEM ESP FIM FRF GRD HRK IEP ITL NLG PTE"
)
_LOCAL = "rs rs. kr kr. fr fr. sfr sfr. kč ft zł rm rp rp. tk ksh s/ s/. lei лв руб руб. р. dm bs bs."
_RELATIONS = "< > <= >= ≤ ≥ ~ ≈ ± ca ca. approx. approx about"  # of lab results and estimates
_PERCENT = "% ‰ pct pct. percent prozent p.c."
CODES = frozenset(_CODES.split())
WORDS = frozenset(f"{_LOCAL} {_RELATIONS} {_PERCENT}".split())
CURRENCY = "".join(chr(code) for code in range(0x24, 0x10000) if unicodedata.category(chr(code)) == "Sc")
SIGN = re.compile(rf"[A-Za-z]{{0,3}}\.?[{re.escape(CURRENCY)}]|[{re.escape(CURRENCY)}][A-Z]{{1,3}}")  # such as US$
SCALES = {"M": 1e6, "MM": 1e6, "B": 1e9} | {
    word: factor
    for words, factor in {
        "k tsd thousand thousands tausend mil mille": 1e3,
        "mn mln mio mill million millions millionen milione milioni millones milhões": 1e6,
        "bn bln mrd mld milliard milliards milliarde milliarden miliardi billion billions": 1e9,
        "tn trn trillion trillions": 1e12,
        "lakh lakhs lac lacs": 1e5,
        "cr crore crores": 1e7,
    }.items()
    for word in words.split()
}
LOWER_SCALES = {"m": 1e6, "b": 1e9}  # or meters and bytes: the other cells tell
FAMILIES: tuple[Mapping[str, float], ...] = (
    {"mg": 1e-6, "g": 1e-3, "kg": 1.0, "t": 1e3},
    {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "km": 1e3},
    {"ml": 1e-3, "mL": 1e-3, "cl": 1e-2, "l": 1.0},
    {"ms": 1e-3, "s": 1.0, "sec": 1.0, "second": 1.0, "min": 60.0, "mins": 60.0, "minute": 60.0, "h": 3600.0, "hr": 3600.0,
     "hrs": 3600.0, "hour": 3600.0, "day": 86400.0, "days": 86400.0},
    {"b": 1.0, "kb": 1e3, "MB": 1e6, "mb": 1e6, "gb": 1e9, "tb": 1e12},
)  # fmt: skip
ORDINALS = frozenset({"st", "nd", "rd", "th"})  # 1st, 2nd; no units
_WORD = r"[^\W\d_]+\.?[23]?"
UNIT = re.compile(rf"""[°"'′]{{1,2}}|°?{_WORD}(?:[ /·*^-]{_WORD}){{0,2}}""")
PLAIN = str.maketrans({"−": "-", "–": "-", "’": "'", "‘": "'", "´": "'", "`": "'", "ʼ": "'"})


class Parsed(NamedTuple):
    """Numbers, NaN where a cell is none, multiplied by suffixes such as k; what stands beside each; whether any had a suffix."""

    values: np.ndarray
    signs: np.ndarray  # currencies, percent signs and relations, "" for none
    units: np.ndarray
    scaled: bool


def _pattern(thousands: str, decimal: str) -> re.Pattern[str]:
    groups = [rf"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+" for mark in (thousands, " ", "'")]
    groups.append(rf"[1-9]\d?(?:{thousands}\d\d)+{thousands}\d{{3}}")  # lakhs and crores
    body = rf"(?:(?:{'|'.join(groups)}|\d+)(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][+-]?\d+)?"
    head = r"(?:[^\d\s+.,'-][^\d\s+,'-]{0,6})?"
    return re.compile(rf"([+-]?) ?({head}) ?([+-]?)({body})((?![\d.,']).*?) ?([+-]?)")


PATTERNS = {".": _pattern(",", r"\."), ",": _pattern(r"\.", ",")}  # by the decimal mark
BRACKETS = re.compile(r"(\D*)\((.*\d.*)\)(\D*)")  # of accountants, around a negative number


@lru_cache(maxsize=10_000)
def _is_sign(text: str) -> bool:
    return text in CODES or text.lower() in WORDS or bool(SIGN.fullmatch(text))


@lru_cache(maxsize=10_000)
def _describe(head: str, tail: str) -> tuple[float, str, str] | None:
    """The factor, the sign and the unit of what stands before and behind a number; None if it makes it none."""
    sign = head.strip()
    if sign and not _is_sign(sign) and sign.upper() not in CODES:
        return None
    if tail.lower() in ORDINALS:
        return 1.0, sign, ""
    word, rest = re.fullmatch(r"\s*([^\W\d_]*\.?)\s*(.*?)\s*", tail).groups()  # type: ignore[union-attr]
    bare = word.rstrip(".")
    factor = SCALES.get(bare) or (None if bare in LOWER_SCALES else SCALES.get(bare.lower()))
    tail = rest if factor else tail.strip()
    if not tail or _is_sign(tail):
        return factor or 1.0, sign or tail, ""
    if not UNIT.fullmatch(tail):
        return None
    unit = tail.rstrip(".").removesuffix("s") if len(tail) > 4 else tail.rstrip(".")  # years
    return factor or 1.0, sign, unit if unit[0] in "mM" else unit.lower()  # mW is no MW


def parse_text(text: str, decimal: str) -> tuple[float, str, str, bool] | None:
    """The number, its sign, its unit, and whether it had a suffix such as k; None if the text is no number."""
    if len(text) > MAX_LENGTH:
        return None
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(PLAIN)
    negative = BRACKETS.fullmatch(text)
    match = PATTERNS[decimal].fullmatch("".join(negative.groups()) if negative else text.translate(PLAIN))
    if not match:
        return None
    before, head, inner, body, tail, after = match.groups()
    described = _describe(head, tail)
    if described is None:
        return None
    factor, sign, unit = described
    value = float(re.sub("[ ']|" + re.escape("," if decimal == "." else "."), "", body).replace(",", "."))
    minus = bool(negative) or "-" in (before, inner, after)
    return factor * (-value if minus else value), sign, unit, factor != 1


def parse(cells: pd.Series, decimal: str = ".") -> Parsed:
    """The cells as numbers, read with this decimal mark."""
    plain = cells
    if decimal == ",":
        plain = cells.where(~cells.str.contains(".", regex=False), "").str.replace(",", ".", regex=False)
    # What programs write, such as 1e3 and inf, is most, and fast.
    values = np.array(pd.to_numeric(plain, errors="coerce"), float)
    signs, units = (np.full(len(cells), "", object) for _ in range(2))
    rest = np.flatnonzero(np.isnan(values))
    codes, texts = pd.factorize(cells.iloc[rest])
    scaled = False
    found = [parse_text(text, decimal) or (np.nan, "", "", False) for text in texts]
    if found:
        numbers, beside, measures, suffixes = zip(*found, strict=True)
        values[rest] = np.array(numbers)[codes]
        signs[rest], units[rest] = (np.array(words, object)[codes] for words in (beside, measures))
        scaled = any(suffixes)
    return Parsed(values, signs, units, scaled)


def parse_numbers(cells: pd.Series, decimal: str = ".") -> np.ndarray:
    """The cells as float64, read with this decimal mark, whatever their units; NaN where one is no number."""
    return parse(cells, decimal).values


def unit_factors(units: Collection[str], *, scaled: bool) -> dict[str, float] | None:
    """What makes numbers of these units comparable ("": without one); None if nothing does.

    scaled: whether others of the column have suffixes, so that m is a million.
    """
    named = set(units) - {""}
    if named and named <= LOWER_SCALES.keys() and (scaled or len(named) > 1):
        return {"": 1.0, **LOWER_SCALES}
    if len(named) < 2:
        return None if scaled and len(set(units)) > 1 else dict.fromkeys(named, 1.0)
    families = [family for family in FAMILIES if named <= family.keys()]
    return {unit: families[0][unit] for unit in sorted(named)} if families and "" not in units else None


def convert(parsed: Parsed, factors: Mapping[str, float]) -> np.ndarray:
    """The values in the unit that these factors lead to; NaN where a unit is another.

    factors: by unit, as `unit_factors` gave them for other cells; with none, one unit throughout is as good as no unit.
    """
    units = pd.unique(parsed.units[~np.isnan(parsed.values)])
    factors = factors or unit_factors(units, scaled=parsed.scaled) or {}
    by_unit = {unit: _factor(unit, factors) for unit in pd.unique(parsed.units)}
    if len(by_unit) == 1:
        return parsed.values * next(iter(by_unit.values()))
    return parsed.values * pd.Series(parsed.units).map(by_unit).to_numpy(float)


def _factor(unit: str, known: Mapping[str, float]) -> float:
    if unit in known:
        return known[unit]
    if not unit:
        return 1.0 if len(known) < 2 or known.keys() <= ORDINALS else np.nan  # models before had these as units
    for family in FAMILIES:
        if unit in family and (shared := known.keys() & family.keys()):
            first = min(shared)
            return known[first] * family[unit] / family[first]
    return np.nan


def beside_numbers(parsed: Parsed, valid: np.ndarray, factors: Mapping[str, float]) -> list[str]:
    """The currencies, percent signs and, if there is but one, units beside the valid numbers; "": a number without one."""
    units = parsed.units if len(factors) < 2 else ""
    return sorted(set(np.where(parsed.signs == "", units, parsed.signs)[valid]))


def mixed_signs_note(name: str, signs: Collection[str]) -> list[str]:
    """A note if numbers have different signs beside them."""
    signs = {"€" if sign.upper() == "EUR" else sign for sign in signs}
    if len(signs) < 2:
        return []
    named = ", ".join(sign or "none" for sign in sorted(signs, reverse=True))
    return [f"column {name!r}: signs beside numbers differ ({named}), the numbers count as they are"]


def mixed_units_note(name: str, units: Collection[str]) -> list[str]:
    """A note on numbers of a few units that do not convert."""
    named = sorted(unit or "none" for unit in units)
    if not 2 <= len(named) <= MAX_UNITS:
        return []
    text = f"column {name!r}: numbers in different units ({', '.join(named)}) cannot be compared, so they are no numbers here"
    return [f"{text}; --kind {name}=number takes them as they are"]


def new_units_note(name: str, units: Collection[str]) -> list[str]:
    """A warning of units beside numbers that had none in training."""
    if not units:
        return []
    named = join_names(sorted(units))
    return [
        f"warning: column {name!r}: numbers in {named} here, and without a unit in training; they count as they are"
    ]


def units_note(name: str, units: Mapping[str, float]) -> list[str]:
    """A note on the units of numbers."""
    if len(units) < 2 or "" in units:
        return [f"column {name!r}: numbers in {unit}" for unit in units if unit and len(units) == 1]
    return [f"column {name!r}: numbers in {', '.join(units)}, converted to one unit"]


def _with_marks(cells: pd.Series, tokens: Tokens) -> pd.Series:
    """The cells that may tell a decimal point from a comma; none if most of the column is text."""
    present = cells[~missing_numeric(cells, tokens)]
    sample = evenly_spaced(present, SAMPLE)
    read = [~np.isnan(parse_numbers(sample, mark)) for mark in ".,"]
    if not len(sample) or (read[0] | read[1]).mean() < 0.5:
        return present[:0]
    return present[present.str.contains(r"\d") & present.str.contains("[.,]")]


def _mark(cells: pd.Series) -> str | None:
    """The decimal mark that reads more of these cells, which have a point or comma; None if both read as many, "" if both read few."""
    shares = {}
    for mark, other in ((".", ","), (",", ".")):
        shares[mark] = (~np.isnan(parse_numbers(cells, mark))).mean()
        if shares[mark] == 1:  # then one cell that the other mark cannot read decides
            return None if all(parse_text(text, other) for text in cells) else mark
    if max(shares.values()) < 1 - MAX_INVALID:
        return ""
    return None if shares["."] == shares[","] else max(shares, key=shares.__getitem__)


def _mark_of(cells: pd.Series, tokens: Tokens) -> tuple[str | None, pd.Series]:
    """The decimal mark of a column, as `_mark` gives it, and the cells that have a point or comma."""
    for step in sorted({max(1, len(cells) // (20 * SAMPLE)), 1}, reverse=True):
        found = _with_marks(cells.iloc[::step], tokens)
        if mark := _mark(found) if len(found) else "":
            return mark, found
    return mark, found


def _read_both_ways(cells: pd.Series) -> dict[str, np.ndarray]:
    """The sizes of such numbers as 1.167 by decimal mark, without zeros."""
    sample = evenly_spaced(cells, SAMPLE)
    return {mark: _sizes(parse_numbers(sample, mark)) for mark in ".,"}


def _sizes(values: np.ndarray) -> np.ndarray:
    values = np.abs(values)
    return values[(values > 0) & (values < np.inf)]


def _plain_sizes(cells: pd.Series) -> np.ndarray:
    """The sizes of the numbers that have neither a point nor a comma."""
    return _sizes(parse_numbers(evenly_spaced(cells[~cells.str.contains("[.,]")], SAMPLE)))


def _mark_by_plain(cells: pd.Series, ambiguous: pd.Series) -> str | None:
    """The mark by which such as 1.167 has thousands, if the column's numbers without a mark ask for that; None if they do not tell.

    Who writes three decimals writes 836.000, not 836, unless all are by chance about as large as their whole neighbours.
    """
    plain = _plain_sizes(cells)
    here = [mark for mark in ".," if ambiguous.str.contains(mark, regex=False).any()]
    if not len(plain) or len(here) != 1:
        return None
    middle, thousands = np.median(plain), "," if here == ["."] else "."
    if middle < 100:  # counts of a few, or halves and quarters
        return thousands if plain.max() >= 1000 else None
    near = abs(np.log10(middle / np.median(_read_both_ways(ambiguous)[here[0]]))) <= NEAR
    return None if near else thousands


def _mark_by_range(ambiguous: pd.Series, sizes: Sequence[float]) -> str | None:
    """The mark by which such numbers as 1.167 lie nearer to these sizes, the least and the largest; None if both are as near."""
    if len(sizes) != 2:
        return None
    away = {
        mark: float(np.abs(np.log10(values / np.clip(values, sizes[0], sizes[1]))).mean())
        for mark, values in _read_both_ways(ambiguous).items()
    }
    return None if abs(away["."] - away[","]) < 0.1 else min(away, key=away.__getitem__)


def size_range(values: np.ndarray) -> list[float]:
    """The least and the largest size of the numbers but 0; none if there are no others."""
    sizes = _sizes(values)
    return [float(sizes.min()), float(sizes.max())] if len(sizes) else []


def _two_ways_notes(ambiguous: Mapping[str, pd.Series], marks: Mapping[str, str]) -> list[str]:
    """Notes on the columns of such numbers as 1.167, one for each mark by which they are read."""
    notes = []
    for mark in ".,":
        names = [name for name in ambiguous if marks[name] == mark]
        if names:
            example = ambiguous[names[0]][:1]
            notes.append(
                f"numbers such as {example.iloc[0]!r} can be read in two ways, here as "
                f"{parse_numbers(example, mark)[0]:.12g}, in {join_names(list(map(repr, names)))}"
            )
    return notes


def infer_decimal_marks(table: Table, tokens: Tokens = DEFAULT_MISSING) -> tuple[dict[str, str], list[str]]:
    """The decimal mark of each column, chosen by all its cells, and notes where a person might read otherwise."""
    marks: dict[str, str] = {}
    ambiguous: dict[str, pd.Series] = {}  # such as 1.234
    for name in table.cells.columns.difference(list(table.numeric), sort=False):
        mark, cells = _mark_of(table.cells[name], tokens)
        if mark:
            marks[name] = mark
        elif mark is None:
            ambiguous[name] = cells
    commas = [repr(name) for name, mark in marks.items() if mark == ","]
    notes = [f"numbers have decimal commas in {join_names(commas)}"] if commas else []
    # Nobody takes 1.234 for anything else where numbers have points.
    points = "." in marks.values() and table.delimiter != ";"
    decided = {name: mark for name, cells in ambiguous.items() if (mark := _mark_by_plain(table.cells[name], cells))}
    known = {*marks.values(), *decided.values()}
    default = "," if "," in known or (table.delimiter == ";" and "." not in known) else "."
    marks = dict.fromkeys(table.cells, default) | dict.fromkeys(table.numeric, ".") | marks | decided
    unsure = {
        name: cells
        for name, cells in ambiguous.items()
        if marks[name] == "," or cells.str.contains(",").any() or not points or len(_plain_sizes(table.cells[name]))
    }
    return marks, notes + _two_ways_notes(unsure, marks)


def marks_of_new_cells(
    cells: pd.DataFrame,
    learned: Mapping[str, str],
    tokens: Tokens = DEFAULT_MISSING,
    sizes: Mapping[str, Sequence[float]] | None = None,
) -> tuple[dict[str, str], list[str]]:
    """The decimal marks of a new table's columns, and notes on those that are not as learned.

    They are what the cells say, for such as 1.234 with the sizes that the training rows had, else the other columns' if all say the
    same, else as learned.

    sizes: by column, as `size_range` gives it.
    """
    found = {name: _mark_of(cells[name], tokens) for name in learned}
    clear = {name: mark for name, (mark, _) in found.items() if mark}
    ambiguous = {name: some for name, (mark, some) in found.items() if mark is None}
    decided = {
        name: mark
        for name, some in ambiguous.items()
        if (mark := _mark_by_range(some, (sizes or {}).get(name, ())) or _mark_by_plain(cells[name], some))
    }
    changed = {mark for name, mark in clear.items() if mark != learned[name]}
    default = changed.pop() if len(changed) == 1 == len(set(clear.values())) else ""
    marks = {name: clear.get(name) or decided.get(name) or default or mark for name, mark in learned.items()}
    notes = []
    for mark, here, there in ((".", "points", "commas"), (",", "commas", "points")):
        if names := [repr(name) for name in clear if marks[name] == mark != learned[name]]:
            notes.append(f"{join_names(names)}: decimal {here} here, {there} in training; read accordingly")
    unsure = {name: some for name, some in ambiguous.items() if marks[name] != learned[name]}
    return marks, notes + _two_ways_notes(unsure, marks)

"""Text as points in time: formats of programs, read fast, and the notations of people, in seven languages."""

import re
from collections.abc import Iterable, Sequence
from datetime import date
from functools import lru_cache
from itertools import product

import numpy as np
import pandas as pd

from .table import evenly_spaced

DATE_FORMATS = (
    "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%Y.%m.%d", "%m/%d/%y", "%d/%m/%y", "%d.%m.%y",
    "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y",
)  # fmt: skip
TIME_FORMATS = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p")
FORMATS = ("ISO8601", *DATE_FORMATS, *map(" ".join, product(DATE_FORMATS, TIME_FORMATS)), *TIME_FORMATS)
DATE_START = r"\d{1,4}[-/.: ]|[A-Za-z]{3,9} \d"  # of all that FORMATS read; to try them takes long
# Of what FORMATS do not read; a year of four digits may come first in all of them.
ORDERS = {"day first": "dmy", "month first": "mdy", "year first": "", "year of two digits first": "ymd"}
EPOCHS = {
    "seconds since 1970": "s",
    "milliseconds since 1970": "ms",
    "microseconds since 1970": "us",
    "nanoseconds since 1970": "ns",
}
EPOCH_YEARS = (1990, 2100)  # numbers that lie in them, in a column of a name such as these, count an epoch's seconds
_EPOCH_NAMES = "time date ts timestamp datetime epoch unix unixtime created updated modified at on utc when"
EPOCH_NAMES = frozenset(_EPOCH_NAMES.split())
COMPACT = "%Y%m%d"  # numbers of eight digits in such a column
EPOCH = pd.Timestamp("2000-01-01", tz="UTC")

_MONTHS = (
    "january jan januar jänner jän janvier janv enero ene gennaio gen janeiro januari",
    "february feb februar févr février fév fevrier febrero febbraio fevereiro fev februari",
    "march mar märz mär mrz maerz mars marzo março marco maart mrt",
    "april apr avril avr abril abr aprile",
    "may mai mayo maggio mag maio mei",
    "june jun juni juin junio giugno giu junho",
    "july jul juli juillet juil julio luglio lug julho",
    "august aug août aout agosto ago ago augustus",
    "september sep sept septembre septiembre settembre set sett setembro",
    "october oct oktober okt octobre octubre ottobre ott outubro out",
    "november nov novembre noviembre novembro",
    "december dec dezember dez décembre déc decembre diciembre dic dicembre dezembro",
)
MONTHS = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split()}
_DAYS = (
    "monday mon montag mo lundi lun lunes lunedì lunedi segunda segunda-feira seg maandag ma "
    "tuesday tue tues dienstag di mardi mar martes martedì martedi terça terça-feira ter dinsdag "
    "wednesday wed mittwoch mi mercredi mer miércoles mié mercoledì mercoledi quarta quarta-feira qua woensdag wo "
    "thursday thu thur thurs donnerstag do jeudi jeu jueves jue giovedì giovedi gio quinta quinta-feira qui donderdag "
    "friday fri freitag fr vendredi ven viernes vie venerdì venerdi sexta sexta-feira sex vrijdag vr "
    "saturday sat samstag sonnabend sa samedi sam sábado sáb sab sabato zaterdag za "
    "sunday sun sonntag so dimanche dim domingo dom domenica zondag zo"
)
IGNORED = frozenset(
    f"{_DAYS} de del of the den der le el di du dia at um am à às a las alle om op kl ore uhr feira 年 月 日 년 월 일".split()
)
# Hours from UTC; of names that several countries use, the most common.
ZONES = {
    "z": 0, "utc": 0, "gmt": 0, "ut": 0, "wet": 0, "west": 1, "bst": 1, "cet": 1, "mez": 1, "cest": 2, "mesz": 2, "eet": 2, "eest": 3,
    "msk": 3, "ist": 5.5, "sgt": 8, "hkt": 8, "awst": 8, "jst": 9, "kst": 9, "acst": 9.5, "aest": 10, "aedt": 11, "nzst": 12, "nzdt": 13,
    "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7, "akst": -9, "akdt": -8, "hst": -10, "brt": -3,
}  # fmt: skip
_ZONE = rf"(?:{'|'.join(sorted(ZONES, key=len, reverse=True))})?(?:[+-]\d\d:?(?:\d\d)?)?"
_CLOCK = re.compile(
    r"(?<![\d.,/-])(?P<hour>\d{1,2})(?:(?::|h)(?P<minute>[0-5]\d)(?:[:m](?P<second>[0-5]\d)(?:[.,](?P<fraction>\d{1,9}))?s?)?)?"
    rf"(?: ?(?P<half>[ap])\.? ?m\b\.?)?(?: ?(?:uhr|hrs|h)\b)?(?: ?(?P<zone>{_ZONE})(?![a-z\d]))?(?: \([^()]*\))?"
)
_QUARTERS = re.compile(
    r"(?P<year>\d{4})[ -/]?(?P<kind>[qthsw]|kw|semester|week)[ -]?(?P<number>\d{1,2})(?:-?(?P<day>[1-7]))?"
    r"|(?P<kind2>[qthsw]|kw|week)[ -]?(?P<number2>\d{1,2})[ ,/'-]+(?P<year2>\d{4})"
    r"|(?P<number3>\d)\. ?(?P<kind3>quarter|quartal|halbjahr|trimestre)[ /]?(?P<year3>\d{4})"
)
_ORDINALS = re.compile(r"(?<=\d)(?:st|nd|rd|th|er|re|e|ème|º|ª|°)\b")
_SEPARATED = re.compile(r"[\w\s,./'’-]*")
_FIRST_DAY = date(1970, 1, 1).toordinal()
_SECONDS_A_DAY, _MICROSECONDS = 86_400, 1_000_000
_NAMES = "|".join(MONTHS)
_LOOK = (  # to a person
    r"^\W*\d{1,4} ?[-/. ] ?\d{1,2} ?[-/. ] ?\d{2,4}\b|\b\d{1,2}:\d\d\b|\b\d{1,2}\W+[^\W\d_]{3,}\W+\d{4}\b|"
    rf"\d\W+(?:{_NAMES})\b|\b(?:{_NAMES})\W+\d"
)
MAX_LENGTH = 80  # characters of a date, with weekday and zone
SAMPLE = 50  # cells that tell the formats worth trying
RANKED = 20_000  # cells that tell which of them reads most


def _year(text: str) -> int:
    """A year of two digits as `strptime` reads it."""
    return int(text) + (2000 if int(text) < 69 else 1900) * (len(text) < 3)


def _of_quarter(match: re.Match[str]) -> date:
    """The first day of a quarter, half-year or ISO week, or the day of that week."""
    found = {name.rstrip("23"): value for name, value in match.groupdict().items() if value}
    kind, number, year = found["kind"], int(found["number"]), int(found["year"])
    if kind in ("w", "kw", "week"):
        return date.fromisocalendar(year, number, int(found.get("day", 1)))
    halves = kind in ("h", "s", "semester", "halbjahr")
    return date(year, (number - 1) * (6 if halves else 3) + 1, 1)


def _in_order(numbers: Sequence[str], order: str) -> tuple[str, int, int]:
    """Year, month and day of two or three numbers; raises ValueError if they are no date in this order."""
    if len(numbers) == 2:  # a month
        year, month = sorted(numbers, key=len, reverse=True)
        if len(year) != 4 or len(month) > 2:
            raise ValueError
        return year, int(month), 1
    if len(numbers) != 3:
        raise ValueError
    parts = dict(zip("ymd" if len(numbers[0]) == 4 else order, numbers, strict=True))
    if len(parts["y"]) not in (2, 4) or max(len(parts["m"]), len(parts["d"])) > 2:
        raise ValueError
    return parts["y"], int(parts["m"]), int(parts["d"])


def _beside_name(numbers: Sequence[str], month: int, *, leads: bool) -> tuple[str, int, int]:
    """Year, month and day of the numbers beside the name of a month; leads: whether two digits behind it are a year."""
    if len(numbers) == 1 and (len(numbers[0]) == 4 or (leads and len(numbers[0]) == 2)):
        return numbers[0], month, 1
    if len(numbers) != 2:
        raise ValueError
    day, year = numbers if len(numbers[0]) < 3 else reversed(numbers)
    if len(year) not in (2, 4):
        raise ValueError
    return year, month, int(day)


@lru_cache(maxsize=100_000)
def _read_date(text: str, order: str) -> tuple[int, bool] | None:
    """The day since 1970 and whether the year has two digits; None if the text is no date in this order."""
    if not text:
        return date(1900, 1, 1).toordinal() - _FIRST_DAY, False  # a time of day, as `strptime` has it
    try:
        if match := _QUARTERS.fullmatch(text):
            return _of_quarter(match).toordinal() - _FIRST_DAY, False
        text = _ORDINALS.sub("", text)
        tokens = re.findall(r"\d+|[^\W\d_]+", text)
        months = [MONTHS[token] for token in tokens if token in MONTHS]
        numbers = [token for token in tokens if token.isdecimal()]
        known = all(token.isdecimal() or token in MONTHS or token in IGNORED for token in tokens)
        if not known or len(months) > 1 or not _SEPARATED.fullmatch(text):
            return None
        if numbers and len(numbers[0]) == 8 and len(numbers) == 1:
            numbers = [numbers[0][:4], numbers[0][4:6], numbers[0][6:]]
        leads = bool(re.match(r"[^\W\d_]+\.?[-/'’ ]{0,2}['’/-]\d\d$", text))
        year, month, day = _beside_name(numbers, months[0], leads=leads) if months else _in_order(numbers, order)
        return date(_year(year), month, day).toordinal() - _FIRST_DAY, len(year) == 2
    except ValueError:
        return None


def _read_clock(text: str) -> tuple[str, float] | None:
    """The text without its time of day, and that as seconds in UTC; None if there is no such time."""
    for match in _CLOCK.finditer(text):
        hour, minute, second, fraction, half, zone = match.groups()
        if not minute and not half:
            continue
        seconds = int(hour) * 3600 + int(minute or 0) * 60 + int(second or 0)
        if half:
            seconds += 43_200 * ((half == "p") - (int(hour) == 12))
        if not 0 <= seconds <= _SECONDS_A_DAY or (half and not 1 <= int(hour) <= 12):
            return None
        rest = f"{text[: match.start()]} {text[match.end() :]}"
        return rest.strip(" ,:"), seconds + float(f"0.{fraction or 0}") - _offset(zone or "")
    return text, 0.0


def _offset(zone: str) -> float:
    """Seconds by which a zone's clocks are ahead of UTC."""
    name, sign, digits = re.fullmatch(r"([a-z]*)([+-]?)([\d:]*)", zone).groups()  # type: ignore[union-attr]
    hours, minutes = digits[:2] or 0, digits[2:].strip(":") or 0
    return ZONES.get(name, 0) * 3600 + (-1 if sign == "-" else 1) * (int(hours) * 3600 + int(minutes) * 60)


def read_time(text: str, order: str) -> tuple[int, bool] | None:
    """Microseconds since 1970 in UTC, and whether the year has two digits; None if the text is no time in this order."""
    if len(text) > MAX_LENGTH or not any(map(str.isdecimal, text)):
        return None
    text = " ".join(text.lower().split())
    text = re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", text)  # of photographs
    text = re.sub(r"(?<=\d)t(?=\d\d:?\d\d)", " ", text)
    clock = _read_clock(text)
    day = clock and _read_date(clock[0].strip(" ,.;"), order)
    if not clock or not day:
        return None
    return day[0] * _SECONDS_A_DAY * _MICROSECONDS + round(clock[1] * _MICROSECONDS), day[1]


def _read_times(cells: pd.Series, order: str) -> tuple[pd.Series, np.ndarray]:
    """The times, and a mask of those whose year has two digits."""
    codes, texts = pd.factorize(cells)
    found = [read_time(text, order) for text in texts]
    numbers = np.array([time[0] if time else np.iinfo(np.int64).min for time in found], np.int64)  # the least: none
    short = np.array([bool(time and time[1]) for time in found], bool)
    times = pd.Series(numbers.view("datetime64[us]")[codes], index=cells.index).dt.tz_localize("UTC")
    return times, short[codes]


def order_of(form: str) -> str:
    """The order of day, month and year in a format."""
    letters = [letter.lower().replace("b", "m") for letter in re.findall("%([dmbByY])", form)]
    return ORDERS.get(form, "".join(letters) if len(letters) == 3 else "")


def _parse_format(cells: pd.Series, form: str) -> pd.Series:
    if form in EPOCHS:
        numbers = pd.to_numeric(cells, errors="coerce")
        return pd.to_datetime(numbers, unit=EPOCHS[form], utc=True, errors="coerce")
    return pd.to_datetime(cells, format=form, errors="coerce", utc=True)


def parse_times(cells: pd.Series, form: str, century: int | None = None) -> tuple[pd.Series, np.ndarray]:
    """Points in time, NaT where a cell is none, and a mask of those whose year has two digits.

    form: one of FORMATS, ORDERS or EPOCHS; cells that it does not read may be dates in any other notation of its order.
    century: the first year that two digits can mean; None: as `strptime` has it.
    """
    if form in ORDERS:
        times, short = _read_times(cells, ORDERS[form])
    else:
        times = _parse_format(cells, form)
        short = times.notna().to_numpy() & ("%y" in form)
        rest = times.isna().to_numpy() & (cells != "").to_numpy(bool)
        if rest.any() and form not in EPOCHS:
            more, more_short = _read_times(cells[rest], order_of(form))
            if more.notna().any():
                times, short[rest] = times.dt.as_unit("us"), more_short
                times[rest] = more
    return (times, short) if century is None or not short.any() else (in_century(times, short, century), short)


def in_century(times: pd.Series, short: np.ndarray, century: int) -> pd.Series:
    """The times, those with a year of two digits moved to the hundred years that begin with this one."""
    times = times.dt.as_unit("us").copy()
    years = times.dt.year
    shifts = (century + (years - century) % 100 - years).where(short, 0)
    for shift in shifts.dropna().unique():
        moved = (shifts == shift) & (shift != 0)
        times[moved] = times[moved] + pd.DateOffset(years=int(shift))
    return times


def first_of_century(years: np.ndarray, today: int, *, past: bool) -> int:
    """The first of the hundred years that the last two digits of these mean, so that the column lies together.

    Where it leaves a choice it is the latest that does not reach far beyond today.
    """
    digits = np.unique(years % 100)
    gaps = np.diff(np.append(digits, digits[0] + 100))
    widest = int(gaps.argmax())
    if gaps[widest] < 5:
        return today - 99
    span, end = 100 - int(gaps[widest]), int(digits[widest])
    last = next(
        year
        for year in range(today + 30, today - 100, -1)
        if year % 100 == end and year <= today + (0 if past else 30 if year - span > today else 10)
    )
    return last - span - (99 - span) // 2


def likely_forms(cells: pd.Series, order: str = "") -> dict[str, float]:
    """The forms that read most of the cells, and the share of each, the best first and of equal ones that of this order."""
    sample = evenly_spaced(cells, SAMPLE)
    forms: Iterable[str] = ()
    if sample.str.match(DATE_START).mean() >= 0.5:
        forms = [form for form in FORMATS if _parse_format(sample, form).notna().mean() >= 0.5]
    shares = {form: float(_parse_format(cells, form).notna().mean()) for form in forms}
    if max(shares.values(), default=0.0) < 1:
        loose = [
            form for form in _preferred_orders(sample) if _read_times(sample, ORDERS[form])[0].notna().mean() >= 0.5
        ]
        some = evenly_spaced(cells, RANKED)  # to read all in each order takes long
        more = {form: float(_read_times(some, ORDERS[form])[0].notna().mean()) for form in loose}
        best = max(shares.values(), default=0.0)
        shares |= {form: share for form, share in more.items() if share > best}
    ranked = sorted(shares, key=lambda form: (-shares[form], bool(order) and order_of(form) != order))
    return {form: shares[form] for form in ranked}


def _preferred_orders(sample: pd.Series) -> list[str]:
    first = (
        "year first"
        if sample.str.match(r"\d{4}").any()
        else "month first"
        if sample.str.contains("/").any()
        else "day first"
    )
    return sorted(ORDERS, key=lambda form: form != first)


def form_of_numbers(name: str, cells: pd.Series, *, named: bool = True) -> str | None:
    """How numbers stand for times: counted since 1970, as the eight digits of a day, or as 03.2021; None if they do not.

    named: whether, but for the last, the column's name must say that it holds times.
    """
    sample = evenly_spaced(cells, SAMPLE)
    if not pd.to_numeric(sample, errors="coerce").notna().any():
        return None
    if cells.str.fullmatch(r"(?:0[1-9]|1[0-2])\.(?:19|20)\d\d").all():
        return "%m.%Y"
    words = [word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name)]
    if named and not any(word in EPOCH_NAMES or word.endswith(("time", "date", "stamp")) for word in words):
        return None
    if cells.str.fullmatch(r"(?:19|20)\d{6}").all() and _parse_format(cells, COMPACT).notna().all():
        return COMPACT
    numbers = np.array(pd.to_numeric(cells, errors="coerce"), float)
    first, last = (pd.Timestamp(year, 1, 1).timestamp() for year in EPOCH_YEARS)
    for form, unit in EPOCHS.items():
        seconds = numbers[numbers != 0] * pd.Timedelta(1, unit=unit).total_seconds()  # 0: none
        if len(seconds) and ((first <= seconds) & (seconds <= last)).mean() >= 0.95:
            return form
    return None


def look_like_dates(cells: pd.Series) -> bool:
    """Whether nearly all cells look like dates to a person."""
    sample = evenly_spaced(cells, SAMPLE)
    return len(sample) > 0 and bool(sample.str.lower().str.contains(_LOOK).mean() >= 0.9)

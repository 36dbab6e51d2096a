"""Points in time in the notations of people."""

import numpy as np
import pandas as pd
import pytest

from hannet.tabular.dates import (
    first_of_century,
    form_of_numbers,
    likely_forms,
    look_like_dates,
    parse_times,
    read_time,
)
from tabular_toy import texts

NOON = pd.Timestamp("2014-01-05 12:00", tz="UTC")
NOONS = [
    "2014-01-05 12:00:00 UTC", "2014-01-05T12:00:00Z", "2014-01-05 14:00:00+02:00", "2014-01-05 13:00 CET", "2014-01-05 07:00 EST",
    "2014-01-05 17:30:00 +0530", "2014-01-05 12:00:00.000000+00", "Sun, 05 Jan 2014 12:00:00 +0000", "Sun Jan  5 12:00:00 2014",
    "Sun Jan 05 12:00:00 +0000 2014", "Sun Jan 05 2014 14:00:00 GMT+0200 (Central Africa Time)", "Sunday, January 5th, 2014 12:00 PM",
    "5. Januar 2014 12:00 Uhr", "So, 5.1.2014 12:00", "5 janvier 2014 12h00", "dimanche 5 janvier 2014 à 12:00", "1:00 p.m. CET 5 Jan 2014",
    "5 de enero de 2014 12:00", "domingo, 5 de enero de 2014 12:00", "5 gennaio 2014, 12:00", "domenica 5 gennaio 2014 ore 12:00",
    "5 de janeiro de 2014 12:00", "5 januari 2014 12:00", "05-JAN-2014 12:00:00", "05/Jan/2014:12:00:00 +0000", "2014:01:05 12:00:00",
    "2014-01-05 12 p.m.", "2014年1月5日 12:00", "2014/1/5 12:00", "5.1.14 12:00",
]  # fmt: skip
DAYS = {
    "2014-03-01": ["Mar 2014", "Mar-2014", "March, 2014", "Mar-14", "03/2014", "2014/03", "2014-03", "März 2014", "marzo de 2014"],
    "2014-07-01": ["2014Q3", "2014-Q3", "2014 Q3", "Q3 2014", "Q3/2014", "3. Quartal 2014", "T3 2014", "2014H2", "H2 2014", "2014-S2"],
    "2014-01-27": ["2014-W05", "2014W05", "W05 2014", "KW 5 2014", "week 5, 2014", "2014-W05-1"],
    "2014-08-03": ["3 août 2014", "3. Aug. 2014", "Aug 3 2014", "3 de agosto de 2014", "3 ago 2014", "3-Aug-14", "zondag 3 augustus 2014"],
    "2014-02-05": ["5 févr. 2014", "5 feb 14", "le 5 février 2014", "5 febbraio 2014", "5 fevereiro 2014", "05.02.2014", "5/2/2014"],
}  # fmt: skip


NONE = [
    "May 15", "5 May", "12 Main 2014", "2014", "12 kg", "1.2.3", "555-123-4567", "31.02.2014", "13/2014", "25:30", "10:61 2014-01-05",
    "192.168.1.1",
]  # fmt: skip


@pytest.mark.parametrize("text", NOONS)
def test_one_point_in_time(text):
    assert pd.Timestamp(read_time(text, "dmy")[0], unit="us", tz="UTC") == NOON


@pytest.mark.parametrize("day", DAYS)
def test_days_months_quarters_and_weeks(day):
    for text in DAYS[day]:
        assert pd.Timestamp(read_time(text, "dmy")[0], unit="us") == pd.Timestamp(day), text


def test_what_is_no_date():
    for text in NONE:
        assert read_time(text, "dmy") is None, text
    assert read_time("1 " * 100_000, "dmy") is None


def test_times_of_a_day():
    times, _ = parse_times(texts(["3:05 p.m.", "12 am", "15h05"]), "day first")
    assert list(times.dt.strftime("%H:%M")) == ["15:05", "00:00", "15:05"]


def test_the_order_of_day_and_month_is_that_of_all_cells():
    cells = texts(["3/4/2020 1:30 p.m.", "13/4/2020 1:30 p.m."])
    assert next(iter(likely_forms(cells))) == "day first"
    assert next(iter(likely_forms(texts(["4/3/2020 1:30 p.m.", "4/13/2020 1:30 p.m."])))) == "month first"
    assert next(iter(likely_forms(texts(["3.4.2020"]), "dmy"))) == "%d.%m.%Y"
    assert next(iter(likely_forms(texts(["03/04/2020"]), "dmy"))) == "%d/%m/%Y"


def test_two_notations_in_one_column_are_both_read():
    cells = texts(["25/12/2020", "2020-12-24", "23 Dec 2020"] * 10)
    form = next(iter(likely_forms(cells)))
    assert parse_times(cells, form)[0].notna().all()
    assert parse_times(texts(["25/12/2020", "2020-12-24"]), "%d/%m/%Y")[0].notna().all()


@pytest.mark.parametrize(
    ("years", "today", "past", "first", "last"),
    [
        ([50, 75, 99], 2026, False, 1950, 1999),
        ([15, 20], 2026, False, 2015, 2020),
        ([20, 30], 2026, False, 2020, 2030),
        ([27, 35], 2026, False, 2027, 2035),
        ([27, 35], 2026, True, 1927, 1935),
        ([50, 68], 2026, False, 1950, 1968),
        ([98, 99, 0, 1], 2026, False, 1998, 2001),
        (range(100), 2026, False, 1927, 2026),
    ],
)
def test_years_of_two_digits_lie_together(years, today, past, first, last):
    start = first_of_century(np.array(years), today, past=past)
    found = [start + (year - start) % 100 for year in years]
    assert (min(found), max(found)) == (first, last)
    times, short = parse_times(texts([f"12/05/{year:02d}" for year in years]), "%d/%m/%y", start)
    assert (times.dt.year.tolist(), short.all()) == (found, True)


def test_numbers_that_count_time_are_known_by_name_and_size():
    seconds, compact = texts(range(1_600_000_000, 1_600_000_050)), texts(range(20200101, 20200120))
    for name in ("created_at", "startTime", "TS", "event date"):
        assert form_of_numbers(name, seconds) == "seconds since 1970"
    assert form_of_numbers("id", seconds) is None
    assert form_of_numbers("id", seconds, named=False) == "seconds since 1970"
    assert form_of_numbers("ts", seconds + "000") == "milliseconds since 1970"
    assert form_of_numbers("ts", seconds + "000000000") == "nanoseconds since 1970"
    assert form_of_numbers("time", texts(range(100))) is None
    assert form_of_numbers("date", compact) == "%Y%m%d"
    assert form_of_numbers("price", texts(["03.2014", "12.2015"])) == "%m.%Y"
    assert form_of_numbers("price", texts(["3.2014", "12.2015"])) is None
    assert parse_times(texts(["1600000000"]), "seconds since 1970")[0][0] == pd.Timestamp(
        1_600_000_000, unit="s", tz="UTC"
    )


@pytest.mark.parametrize("text", ["5 Smarch 2020", "May 15", "31.13.2020", "2020-99-99", "half past 10:30"])
def test_what_looks_like_dates(text):
    assert look_like_dates(texts([text] * 20))
    assert not look_like_dates(texts([text, *["a book"] * 9]))


def test_a_million_rows_of_few_days_are_parsed_once(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "hannet.tabular.dates.read_time", lambda text, order: calls.append(text) or read_time(text, order)
    )
    parse_times(texts(["5 May 2020", "6 Mai 2020"] * 5000), "day first")
    assert len(calls) == 2

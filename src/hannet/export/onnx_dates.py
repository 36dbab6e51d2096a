"""Dates in ONNX: what a network may want of a number of days since 1970, as `tabular.columns` computes it."""

from typing import Any

import numpy as np

from .program import FIRST_DAY, Date


def date_parts(graph: Any, date: Date) -> list[str]:
    """Names of the parts that the model has, (N, 1) each, in float64; NaN where there is no date."""
    add, number, raw = graph.add, graph.double, date.name
    late = add("Less", raw, number(date.late))  # false for NaN
    ok = add("And", add("GreaterOrEqual", raw, number(FIRST_DAY - date.origin)), late)
    x = add("Where", ok, raw, number(0))
    whole = add("Floor", x)
    day = add("Add", whole, number(date.origin))
    if date.ends:
        ended = add("Cast", add("Equal", day, number([date.ends])), to=1)  # FLOAT
        ok = add("And", ok, add("Less", add("ReduceMax", ended, graph.integers(1)), graph.single(0.5)))
    minute = add("Floor", add("Mul", add("Sub", x, whole), number(1440)))
    calendar = _Calendar(graph, day)
    found = {"time": lambda: x, "year": lambda: calendar.year()[0]}
    places = {
        "week": calendar.weekday,
        "year": lambda: calendar.year()[1],
        "day": lambda: graph.add("Where", ok, minute, graph.double(0)),
    }
    made = []
    for part, kind in zip(date.parts, date.numbers, strict=True):
        if part in found:
            value = found[part]()
        else:
            place = add("Cast", places["day" if part == "hour" else part.split()[0]](), to=7)  # INT64
            value = add("Gather", number(kind.values), place, axis=0)
        made.append(add("Where", ok, value, number(np.nan)))
    return made


class _Calendar:
    """The Gregorian calendar in float64; a year begins in March, and an era, of 400 years, with the year 0."""

    def __init__(self, graph: Any, day: str):
        self.graph = graph
        self.old = self._plus(day, 719468)
        self.made: tuple[str, str] | None = None

    def weekday(self) -> str:
        """From 0, Monday."""
        return self._modulo(self._plus(self.old, 2), 7)

    def year(self) -> tuple[str, str]:
        """The year, and the day of it, from 0."""
        if self.made:
            return self.made
        add, plus, quotient, number = self.graph.add, self._plus, self._quotient, self.graph.double
        rest = self._modulo(self.old, 146097)
        days = add(
            "Sub", add("Add", add("Sub", rest, quotient(rest, 1460)), quotient(rest, 36524)), quotient(rest, 146096)
        )
        short = quotient(days, 365)
        before = add("Sub", add("Add", self._times(short, 365), quotient(short, 4)), quotient(short, 100))
        of_year = add("Sub", rest, before)
        year = add("Add", short, self._times(quotient(self.old, 146097), 400))
        early = add("Less", of_year, number(306))
        begins = add("Where", self._is_leap(year), number(60), number(59))
        self.made = (
            add("Where", early, year, plus(year, 1)),
            add("Where", early, add("Add", of_year, begins), plus(of_year, -306)),
        )
        return self.made

    def _is_leap(self, year: str) -> str:
        add, zero = self.graph.add, self.graph.double(0)
        fourth, hundredth, fourth_hundredth = (add("Equal", self._modulo(year, by), zero) for by in (4, 100, 400))
        return add("Or", add("And", fourth, add("Not", hundredth)), fourth_hundredth)

    def _plus(self, x: str, by: float) -> str:
        return self.graph.add("Add", x, self.graph.double(by))

    def _times(self, x: str, by: float) -> str:
        return self.graph.add("Mul", x, self.graph.double(by))

    def _quotient(self, x: str, by: float) -> str:
        return self.graph.add("Floor", self.graph.add("Div", x, self.graph.double(by)))

    def _modulo(self, x: str, by: float) -> str:
        return self.graph.add("Sub", x, self._times(self._quotient(x, by), by))

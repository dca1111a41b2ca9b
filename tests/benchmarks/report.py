"""The results as a table: as text for the screen, and for the docs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from plans import CONTENDERS, Line, OURS

SCALES = {"us": 1e6, "ms": 1e3, "MB": 1e-6, "x": 1.0}
UNITS = {**{unit: unit for unit in SCALES}, "x": ""}
HOW = {"median": median, "most": max, "sum": sum}
WRITTEN = ".. Written by the benchmarks; see Makefile, target bench."
AGAINST = {"R": "requests", "O": "openai", "raw": "raw"}

Results = dict[str, Any]


def number(found: Results, line: Line, who: str, measure: str = "") -> float | None:
    """Return a contender's number in the line's unit."""
    rounds = found["results"].get(measure or line.measure, {}).get(who)
    if not rounds or isinstance(rounds, str):
        return None
    return HOW[line.how](one[line.value] for one in rounds) * SCALES[line.unit]


def ratio(found: Results, line: Line, who: str, against: str) -> float | None:
    mine = number(found, line, who)
    if against == "is":
        return mine
    if against == "own":
        other = number(found, line, who, line.own)
    else:
        other = number(found, line, AGAINST[against], line.base)
    return None if mine is None or not other else mine / other


def ratios(found: Results, line: Line) -> list[str]:
    """Return each ratio beside the most that it should be; "!" marks one above that."""
    told = []
    for who, limits in zip(OURS, (line.limits, line.fast)):
        for against, limit in limits.items():
            value = ratio(found, line, who, against)
            if value is None:
                continue
            name = {"is": "", "own": "own", "raw": "raw"}.get(against, against)
            mark = " !" if round(value, 2) > limit else ""
            prefix = "fast " if who == "fast" else ""
            told.append(f"{prefix}{short(value)} {name} ({limit:g}){mark}".replace("  ", " "))
    return told


def short(value: float | None) -> str:
    """Return a number with two or three digits that count."""
    if not value:
        return "" if value is None else "0"
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.3f}"


def shown(found: Results, lines: list[Line]) -> list[Line]:
    return [line for line in lines if found["results"].get(line.measure)]


def columns(found: Results) -> list[str]:
    return [name for name in CONTENDERS if name in found["versions"]]


def cells(found: Results, line: Line, names: list[str]) -> list[str]:
    return [short(number(found, line, name)) for name in names]


def about(found: Results) -> list[str]:
    """Return what was compared, in sentences without an end."""
    told = [f"{found['date']}, {found['python']}, {found['system']}"]
    for name in columns(found):
        items = ", ".join(f"{key} {value}" for key, value in found["versions"][name].items())
        told.append(f"{CONTENDERS[name]}: {items}")
    return told


def parts(found: Results) -> list[tuple[str, str, str]]:
    """Return title, way and us of each part that was measured."""
    return [
        (title, way, short(cost))
        for title, ways in found.get("parts", {}).items()
        for way, cost in ways.items()
    ]


def text(found: Results, lines: list[Line]) -> str:
    """Return the table for a wide screen."""
    names = columns(found)
    rows = [["", "", *names, "ratios (at most)"]]
    for line in shown(found, lines):
        more = "; ".join(ratios(found, line))
        rows.append([line.title, UNITS[line.unit], *cells(found, line, names), more])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    told = []
    for title, unit, *values, more in rows:
        numbers = [value.rjust(width) for value, width in zip(values, widths[2:])]
        first = f"{title.ljust(widths[0])} {unit.ljust(widths[1])}"
        told.append("  ".join([first, *numbers, more]).rstrip())
    failed = [
        f"failed: {measure}, {who}: {rounds}"
        for measure, results in found["results"].items()
        for who, rounds in results.items()
        if isinstance(rounds, str)
    ]
    small = [f"{title}: {way}: {cost} us" for title, way, cost in parts(found)]
    missing = [f"missing: {name}: {why}" for name, why in found["missing"].items()]
    return "\n".join([*about(found), "", *told, "", *small, "", *failed, *missing]).rstrip()


def rst(found: Results, lines: list[Line]) -> str:
    """Return the table for the docs."""
    names = columns(found)
    rows = [["work", *[CONTENDERS[name] for name in names], "ratios (at most)"]]
    for line in shown(found, lines):
        title = ", ".join(part for part in (line.title, UNITS[line.unit]) if part)
        rows.append([title, *cells(found, line, names), "; ".join(ratios(found, line))])
    told = [
        WRITTEN,
        "",
        *[f"- {sentence}" for sentence in about(found)],
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
    ]
    return "\n".join([*told, *listed(rows)]) + "\n"


def parts_rst(found: Results) -> str:
    """Return the parts for the docs."""
    told = [WRITTEN, "", ".. list-table::", "   :header-rows: 1", ""]
    rows = [("part", "way", "µs"), *parts(found)]
    return "\n".join([*told, *listed(rows)]) + "\n" if rows[1:] else f"{WRITTEN}\n"


def listed(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows as those of a list-table."""
    told = []
    for first, *rest in rows:
        told += [f"   * - {first}", *[f"     - {cell}".rstrip() for cell in rest]]
    return told

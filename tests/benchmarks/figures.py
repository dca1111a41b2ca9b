"""The figures of the docs: ``python figures.py RESULTS FOLDER``; needs matplotlib."""

from __future__ import annotations

import json
from pathlib import Path
import sys

import matplotlib
from matplotlib import pyplot as plt
from plans import CONTENDERS, LENGTHS, Line, WIDTHS
import report

COLORS = {
    "chatsdk": "#c2410c",
    "fast": "#f59e0b",
    "raw": "#94a3b8",
    "requests": "#2563eb",
    "gigachat": "#16a34a",
    "openai": "#475569",
    "litellm": "#a21caf",
}
STYLE = {
    "svg.fonttype": "none",  # text stays text: small, and readable by machines
    "svg.hashsalt": "chatsdk",  # the same numbers give the same file
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def caption(found):
    return f"CPU time of the client's process; {found['python']}, {found['date']}"


def costs(found, path):
    """Draw what a chunk costs."""
    line = Line("", "chunks")
    numbers = {name: report.number(found, line, name) for name in CONTENDERS}
    numbers = {name: value for name, value in numbers.items() if value is not None}
    names = sorted(numbers, key=numbers.__getitem__, reverse=True)
    figure, axes = plt.subplots(figsize=(6.4, 0.4 * len(names) + 1.0), layout="constrained")
    labels = [CONTENDERS[name] for name in names]
    bars = axes.barh(labels, [numbers[name] for name in names], color=[COLORS[n] for n in names])
    axes.bar_label(bars, [report.short(numbers[name]) for name in names], padding=3)
    axes.set_xscale("log")
    axes.set_xlim(1, 2 * max(numbers.values()))
    axes.set_xlabel(f"µs a chunk, of 20,000 (logarithmic)\n{caption(found)}")
    save(figure, path)


def growth(found, path):
    """Draw what a chunk costs in longer streams, and a call among more threads."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.4), layout="constrained")
    curves(found, left, "chunks", LENGTHS)
    left.set_xlabel("chunks in a stream")
    left.set_ylabel("µs a chunk")
    curves(found, right, "threads", WIDTHS)
    right.set_xlabel("threads that share a client")
    right.set_ylabel("µs a short call")
    known = {label: curve for axes in (left, right) for curve, label in labelled(axes)}
    names = [label for label in CONTENDERS.values() if label in known]
    curves_known = [known[label] for label in names]
    figure.legend(curves_known, names, loc="outside upper center", ncols=3)
    figure.supxlabel(caption(found), fontsize="small")
    save(figure, path)


def labelled(axes):
    return zip(*axes.get_legend_handles_labels())


def curves(found, axes, measure, sizes):
    for name, label in CONTENDERS.items():
        numbers = [report.number(found, Line("", f"{measure}-{size}"), name) for size in sizes]
        points = [(size, value) for size, value in zip(sizes, numbers) if value is not None]
        if points:
            axes.plot(*zip(*points), marker="o", markersize=4, color=COLORS[name], label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")


def save(figure, path):
    figure.savefig(path, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    lines = [line.rstrip() for line in path.read_text("utf-8").splitlines()]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def main():
    results, folder = Path(sys.argv[1]), Path(sys.argv[2])
    found = json.loads(results.read_text("utf-8"))
    matplotlib.use("svg")
    with plt.rc_context(STYLE):
        costs(found, folder / "costs.svg")
        growth(found, folder / "growth.svg")


if __name__ == "__main__":
    main()

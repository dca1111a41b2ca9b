"""Pictures of many answers."""

from __future__ import annotations

import math
import subprocess
import sys

from IPython.core.formatters import DisplayFormatter
import pytest

from chatsdk import Answer, Client, ConfigurationError, plot, providers, Reply, ServerError, Usage
from chatsdk.simulator import Simulator


@pytest.fixture
def simulator():
    with Simulator(reply="One two three four", chunk_delay=0.001) as started:
        yield started


@pytest.fixture
def client(simulator):
    services = [
        providers.get(name)(**{"api_key": "any", **simulator.fields(name)})
        for name in ("gigachat", "h2o", "flowgpt")
    ]
    with Client("gigachat", providers=services, proxy="", max_retries=0) as made:
        yield made


def reply(seconds, first=None, tokens=None):
    usage = None if tokens is None else Usage(completion_tokens=tokens)
    return Reply("Hi", elapsed=seconds, first_text_after=first, usage=usage)


def heights(axes):
    """Return what the bars or points show, by name; None is what is not shown."""
    bars = {found.get_label(): [bar.get_height() for bar in found] for found in axes.containers}
    points = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    return {
        name: [None if math.isnan(value) else value for value in values]
        for name, values in {**bars, **points}.items()
    }


def test_a_map_is_points_in_the_order_of_the_questions():
    answers = [
        Answer("t", 1, "b", reply(2.0, 0.5, 10)),
        Answer("t", 0, "a", reply(4.0, 1.0, 10)),
    ]

    above, below = plot(answers).axes

    assert heights(above) == {"to the end": [4.0, 2.0], "to the first text": [1.0, 0.5]}
    assert heights(below) == {"tokens per second": [2.5, 5.0]}
    assert [above.get_ylabel(), below.get_ylabel()] == ["seconds", "tokens per second"]
    assert below.get_xlabel() == "question"


def test_several_targets_are_bars_with_their_names():
    answers = [Answer("b", 1, "q", reply(2.0, 0.5)), Answer("a", 0, "q", reply(4.0, 1.0, 8))]

    above, below = plot(answers).axes

    assert heights(above) == {"to the end": [4.0, 2.0], "to the first text": [1.0, 0.5]}
    assert heights(below) == {"tokens per second": [2.0, None]}
    assert [label.get_text() for label in below.get_xticklabels()] == ["a", "b"]


def test_a_failed_answer_is_a_cross_where_it_ended():
    broken = ServerError("no", status_code=500)
    broken.partial = reply(3.0)
    answers = [
        Answer("t", 0, "a", reply(4.0, 1.0, 8)),
        Answer("t", 1, "b", error=broken),
        Answer("t", 2, "c", error=ValueError("no")),
    ]

    above, below = plot(answers).axes

    assert heights(above)["failed"] == [3.0, 0.0]
    assert heights(above)["to the end"] == [4.0, None, None]
    assert heights(below) == {"tokens per second": [2.0, None, None]}


def test_a_run_that_failed_as_a_whole_is_drawn(tmp_path):
    answers = [Answer("t", n, "a", error=ValueError("no")) for n in range(3)]

    plot(answers).savefig(tmp_path / "all.png")

    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_client_gives_is_drawn(client, simulator):
    simulator.play("cut", service="flowgpt")

    above, _ = plot(client.fan_out("Hello", ["gigachat", "h2o", "flowgpt"])).axes
    assert [value is None for value in heights(above)["to the end"]] == [False, False, True]
    assert len(heights(above)["failed"]) == 1

    _, below = plot(client.map(["Hello"] * 5)).axes
    assert len(heights(below)["tokens per second"]) == 5


def test_a_notebook_shows_it_without_more_ado():
    shown, _ = DisplayFormatter().format(plot([Answer("t", 0, "a", reply(1.0))]))

    assert shown["image/png"].startswith(b"\x89PNG")


def test_matplotlibs_own_state_is_not_touched():
    program = (
        "import sys\n"
        "from chatsdk import Answer, plot, Reply\n"
        "plot([Answer('t', 0, 'a', Reply('Hi', elapsed=1.0))])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "given, error, message",
    [
        (5, TypeError, "not int"),
        ([reply(1.0)], TypeError, "holds a Reply"),
        ([], ValueError, "nothing to draw"),
    ],
)
def test_what_is_no_answer_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        plot(given)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'chatsdk\[plot\]'"):
        plot([Answer("t", 0, "a", reply(1.0))])

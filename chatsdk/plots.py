"""Pictures of many answers: how long they took and how fast they came."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from io import BytesIO
from typing import Any

from chatsdk.errors import ConfigurationError
from chatsdk.messages import Reply
from chatsdk.results import Answer

SIZE = (8, 6)  # inches


def plot(answers: Any) -> Any:
    """Draw how many seconds answers took, and how many tokens a second came.

    The answers of several targets stand beside each other, a bar for each; those of one target
    are points in the order of the questions.  What a service does not tell is left out.  A failed
    answer is a cross where it ended.

    Args:
        answers: A `FanOut`, or `Answer` objects, such as `Client.map` gives.

    Returns:
        A ``matplotlib.figure.Figure`` with two axes.  A notebook shows it as the value of a cell,
        ``savefig`` writes it to a file; matplotlib's own state is not touched.

    Raises:
        ConfigurationError: ``chatsdk[plot]`` is not installed.
        TypeError: There is something else than an answer.
        ValueError: There is no answer.
    """
    kind = _figure_class()
    drawn = sorted(_checked(answers), key=lambda answer: answer.index)
    figure = kind(figsize=SIZE, layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    draw = _bars if _is_one_each(drawn) else _points
    draw(above, drawn, {"to the end": _seconds, "to the first text": _first})
    draw(below, drawn, {"tokens per second": _speed})
    _cross_out(above, drawn)
    above.legend()
    for axes, unit in ((above, "seconds"), (below, "tokens per second")):
        axes.set_ylabel(unit)
        axes.set_ylim(bottom=0)
        axes.label_outer()
    return figure


def _figure_class() -> Any:
    """Return matplotlib's figure, able to show itself where pyplot was never loaded."""
    try:
        figure = import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise ConfigurationError("plots are an extra: pip install 'chatsdk[plot]'") from error
    return type("Figure", (figure,), {"_repr_png_": _png})


def _png(figure: Any) -> bytes:
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _checked(answers: Any) -> list[Answer]:
    if not isinstance(answers, Iterable):
        raise TypeError(f"answers must be a FanOut or answers, not {type(answers).__name__}")
    found = list(answers)
    for answer in found:
        if not isinstance(answer, Answer):
            raise TypeError(f"answers holds a {type(answer).__name__}, which is no Answer")
    if not found:
        raise ValueError("answers is empty; there is nothing to draw")
    return found


def _is_one_each(answers: Sequence[Answer]) -> bool:
    """Return whether these are the answers of several targets to one question."""
    targets = {str(answer.target) for answer in answers}
    return 1 < len(targets) == len(answers)


Measure = Callable[[Reply], "float | None"]


def _seconds(reply: Reply) -> float:
    return reply.elapsed


def _first(reply: Reply) -> float | None:
    return reply.first_text_after


def _speed(reply: Reply) -> float | None:
    tokens = None if reply.usage is None else reply.usage.completion_tokens
    return tokens / reply.elapsed if tokens is not None and reply.elapsed else None


def _measured(answers: Sequence[Answer], measure: Measure) -> list[float]:
    """Return what is measured of each answer, not a number where it is unknown."""
    values = [None if answer.reply is None else measure(answer.reply) for answer in answers]
    return [float("nan") if value is None else value for value in values]


def _bars(axes: Any, answers: Sequence[Answer], measures: dict[str, Measure]) -> None:
    width = 0.8 / len(measures)
    for number, (name, measure) in enumerate(measures.items()):
        shift = width * (number - (len(measures) - 1) / 2)
        places = [answer.index + shift for answer in answers]
        axes.bar(places, _measured(answers, measure), width, label=name)
    places = [answer.index for answer in answers]
    axes.set_xticks(places, [str(answer.target) for answer in answers], rotation=20)


def _points(axes: Any, answers: Sequence[Answer], measures: dict[str, Measure]) -> None:
    places = [answer.index for answer in answers]
    for name, measure in measures.items():
        axes.plot(places, _measured(answers, measure), ".", label=name)
    axes.set_xlabel("question")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _cross_out(axes: Any, answers: Sequence[Answer]) -> None:
    """Mark the answers that failed, where they ended as far as that is known."""
    failed = [answer for answer in answers if answer.error is not None]
    if failed:
        partials = [getattr(answer.error, "partial", None) for answer in failed]
        ends = [0.0 if partial is None else partial.elapsed for partial in partials]
        places = [answer.index for answer in failed]
        axes.plot(places, ends, "x", color="red", label="failed", clip_on=False)

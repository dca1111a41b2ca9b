"""The notebooks of the docs: they run, from the first cell to the last, and show something."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nbclient import NotebookClient
import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["first_steps", "many_at_once", "structured_work"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    book = nbformat.read(path, as_version=4)

    nbformat.validate(book)
    for cell in book.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
    assert path.read_text("utf-8").count("\n") < 300


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_linked_from_the_docs(path):
    page = (ROOT / "docs" / "howto" / "notebook.rst").read_text("utf-8")

    assert f":download:`{path.stem} <../notebooks/{path.name}>`" in page


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a notebook in a kernel of its own; return what each cell shows, by MIME type."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run_one(name):
        book = nbformat.read(ROOT / "docs" / "notebooks" / f"{name}.ipynb", as_version=4)
        client = NotebookClient(book, timeout=120, resources={"metadata": {"path": tmp_path}})
        asyncio.run(client.async_execute())
        outputs = {cell.id: cell.outputs for cell in book.cells if cell.cell_type == "code"}
        for found in outputs.values():
            assert [output.output_type for output in found if "data" not in output] == []
        return {id: [output.data for output in found] for id, found in outputs.items()}

    return run_one


def test_the_first_steps_run(run):
    shown = run("first_steps")

    [question] = shown["question"]
    assert question["text/markdown"].startswith("Hello! How can I help you today?\n\n<small")
    [stream] = shown["stream"]
    assert stream["text/markdown"].startswith("1, 2, 3, 4, 5")
    assert shown["text"][0]["text/plain"] == repr(stream["text/plain"])
    assert shown["talk"][0]["text/markdown"].endswith("**assistant**\n\n> Your name is Ada.")
    assert shown["magic-question"][0]["text/plain"] == "Your name is Grace."
    assert shown["magic-talk"][0]["text/markdown"].count("**user**") == 2


def test_many_at_once_run(run):
    shown = run("many_at_once")

    [fan] = shown["fan"]
    assert fan["text/html"].count("19, 20.") == 3
    assert "StreamInterruptedError" in shown["fail"][0]["text/html"]
    bar, count = shown["map"]
    assert "application/vnd.jupyter.widget-view+json" in bar
    assert count["text/plain"] == "30"
    assert "image/png" in shown["plot-fan"][0] and "image/png" in shown["plot-map"][0]


def test_structured_work_runs(run):
    shown = run("structured_work")

    assert shown["extract"][0]["text/plain"] == "City(name='Rome', millions=2.75)"
    assert shown["map"][-1]["text/plain"] == "City(name='Lima', millions=10.1)"
    assert shown["again"][0]["text/plain"] == "0"
    transcript = shown["tools"][0]["text/markdown"]
    assert transcript.startswith("**user**\n\n> What is the weather in Rome?\n\n**assistant**")
    assert "The function weather returned" in transcript

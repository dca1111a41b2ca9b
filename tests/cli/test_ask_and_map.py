from __future__ import annotations

import csv
import fcntl
import io
import itertools
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time

from many import by_model, Child, LOADED, PATIENCE, ROOT
import pytest
from servers import chunk, document, frame, head, said
from test_map import by_prompt, echoes, prompt

from chatsdk import Journal
from chatsdk.cli import main, screen
from chatsdk.cli.output import visible
from chatsdk.cli.screen import picture
from chatsdk.simulator import Simulator

FAILS = document({"status": 500, "message": "no"}, "500 Internal Server Error")


@pytest.fixture
def at(monkeypatch, serve):
    """Start a server that GigaChat's variables lead to."""

    def start(*answers):
        server = serve(*answers)
        monkeypatch.setenv("GIGACHAT_ACCESS_TOKEN", "t")
        monkeypatch.setenv("GIGACHAT_BASE_URL", server.url)
        monkeypatch.setenv("NO_PROXY", "*")
        return server

    return start


def wait_for(condition):
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def lines_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def written(path, *lines):
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    return str(path)


# ask


def test_one_target_is_asked_and_its_text_is_all_that_is_printed(at, capsys):
    at(said("Hel", "lo"))
    assert main(["ask", "gigachat", "Hi"]) == 0
    assert capsys.readouterr() == ("Hello\n", "")


def test_several_targets_give_blocks_in_a_pipe(at, capsys):
    server = at(by_model(a=said("one", " two"), b=said("three\n")))
    assert main(["ask", "gigachat:a", "gigachat:b", "Hi", "--temperature", "0.5"]) == 0
    out, err = capsys.readouterr()
    assert out == "[gigachat:a]\none two\n\n[gigachat:b]\nthree\n\n"
    assert err == ""
    assert [request.json["temperature"] for request in server.requests] == [0.5, 0.5]


def test_what_failed_is_told_and_makes_the_status_1(at, capsys):
    at(by_model(a=said("good"), b=document({"message": "no"}, "403 Forbidden")))
    assert main(["ask", "gigachat:a", "gigachat:b", "Hi"]) == 1
    out, err = capsys.readouterr()
    assert "[gigachat:a]\ngood\n" in out
    assert err.startswith("chatsdk: gigachat:b: PermissionDeniedError: ")


def test_the_prompt_can_come_from_a_pipe(at, capsys, monkeypatch):
    server = at(said("ok"))
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe"))
    assert main(["ask", "gigachat", "-", "--system", "be short"]) == 0
    assert [one["content"] for one in server.requests[0].json["messages"]] == [
        "be short", "from a pipe",
    ]


def test_a_base_url_leads_elsewhere(serve, capsys, monkeypatch):
    monkeypatch.setenv("GIGACHAT_ACCESS_TOKEN", "t")
    monkeypatch.setenv("NO_PROXY", "*")
    server = serve(said("ok"))
    assert main(["ask", "gigachat:x", "Hi", "--base-url", server.url]) == 0
    assert server.requests[0].json["model"] == "x"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ask", "gigachat"], "Missing argument"),
        (["ask", "gigachatt", "Hi"], "did you mean 'gigachat'"),
        (["ask", "gigachat", "gigachat", "Hi"], "twice"),
        (["ask", "gigachat", "Hi", "--temperature", "-1"], "temperature"),
        (["ask", "gigachat", "flowgpt", "Hi", "--base-url", "http://x"], "for one target"),
        (["map"], "Missing argument"),
        (["map", "missing.jsonl", "--target", "gigachat"], "missing.jsonl"),
        (["map", "IN", "--target", "gigachat", "--workers", "0"], "max_workers"),
        (["map", "IN", "--target", "gigachatt"], "did you mean 'gigachat'"),
        (["map", "IN"], "no target"),
        (["map", "IN", "--target", "gigachat", "-o", "IN"], "overwrite"),
        (["map", "IN", "--target", "gigachat", "--journal", "IN"], "no journal"),
        (["map", "IN", "--target", "gigachat", "--column", "x"], "there is no column 'x'"),
        (["map", "IN", "--target", "gigachat", "--requests-per-minute", "0"], "above 0"),
        (["map", "IN", "--target", "gigachat", "-o", "missing/out"], "missing/out"),
    ],
)
def test_a_mistake_of_the_caller_is_status_2(at, capsys, tmp_path, monkeypatch, arguments, words):
    server = at(echoes)
    monkeypatch.chdir(tmp_path)
    content = written(tmp_path / "IN", '"question"')
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
    assert server.requests == []
    assert open_text(content) == '"question"\n'


def open_text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


class Terminal:
    """A program whose output goes to a terminal of 80 columns."""

    def __init__(self, *arguments):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "chatsdk", *arguments],
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)

    def shown(self):
        """Wait for the end and return all that was sent to the terminal."""
        data = b""
        while True:
            try:
                more = os.read(self._master, 65536)
            except OSError:  # what Linux says when the last user of a terminal has left
                break
            if not more:
                break
            data += more
        os.close(self._master)
        self.process.wait(PATIENCE)
        return data.decode()


def test_on_a_terminal_answers_grow_side_by_side(at):
    turn = [threading.Event(), threading.Event()]

    def says(n):
        def say(peer):
            peer.send(head(), chunk(frame(f"begin {n}, ")))
            turn[n].set()
            peer.wait(turn[1 - n])
            peer.send(*map(chunk, (frame(f"end {n}"), frame("", "stop"), b"data: [DONE]\n\n", b"")))

        return say

    at(by_model(a=says(0), b=says(1)))
    shown = Terminal("ask", "gigachat:a", "gigachat:b", "Hi", "--plain").shown()
    live, _, whole = shown.rpartition("\x1b[J")
    labels = [line for line in live.split("\r\n") if "[gigachat:a]" in line]
    assert labels and all(" | [gigachat:b]" in line for line in labels)
    assert whole == (
        "[gigachat:a]\r\nbegin 0, end 0\r\n\r\n[gigachat:b]\r\nbegin 1, end 1\r\n\r\n"
    )


def test_the_screen_is_drawn_anew_as_texts_grow_but_not_for_each_piece(monkeypatch):
    now = iter([0.0, 0.0, 0.01, 0.06, 0.06])
    monkeypatch.setattr("chatsdk.cli.screen.time.monotonic", lambda: next(now))
    out = io.StringIO()
    pairs = [("a", "one"), ("b", "two"), ("a", " three")]
    assert screen.live(out, ["a", "b"], pairs, plain=True) == []
    first, second, whole = out.getvalue().split("\x1b[J")
    assert "one" in first and "two" not in first
    assert "one three" in second and "two" in second
    assert whole == "[a]\none three\n\n[b]\ntwo\n\n"


@pytest.mark.parametrize("targets", [["gigachat:a"], ["gigachat:a", "gigachat:b"]])
def test_a_terminal_shows_control_characters_and_does_not_obey_them(at, targets):
    at(said("red \x1b[31m bell \x07 title \x1b]0;x\x9c back \r\u202e turned"))
    shown = Terminal("ask", *targets, "Hi", "--plain").shown()
    ours = shown.replace("\r\n", "\n").replace("\x1b[J", "")
    for lines in range(30):
        ours = ours.replace(f"\x1b[{lines}A", "")
    assert not set(ours) & set("\x1b\x07\x9c\r\u202e")
    assert "red \u241b[31m bell \u2407" in ours


@pytest.mark.parametrize("targets", [["gigachat:a"], ["gigachat:a", "gigachat:b"]])
def test_markdown_on_a_terminal_obeys_no_control_characters_either(at, targets):
    at(said("*red* \x1b[31m bell \x07 title \x1b]0;x\x9c back \r\u202e turned"))
    shown = Terminal("ask", *targets, "Hi").shown()
    ours = re.sub(r"\x1b\[[0-9;?]*[A-Zhlm]", "", shown)
    assert not set(ours) & set("\x1b\x07\x9c\u202e")
    assert "back \u240d\ufffd turned" in ours
    assert "\x1b[31m" not in shown
    assert "\x1b[3mred\x1b[0m \u241b[31m bell \u2407" in shown


def test_visible_text_keeps_line_ends_tabs_and_letters():
    assert visible("a\tb\nпривет \U0001f600") == "a\tb\nпривет \U0001f600"
    assert visible("\x00\x1b\x7f\x85\u2066") == "\u2400\u241b\u2421\ufffd\ufffd"


@pytest.mark.parametrize("width", [10, 40, 79, 200])
@pytest.mark.parametrize("height", [2, 10, 50])
@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_a_picture_fits_its_screen(width, height, count):
    texts = {f"provider:{n}": f"line of {n}\n" * 30 + "\x1b" * n for n in range(count)}
    lines = picture(texts, width, height)
    assert len(lines) <= height
    assert all(len(line) <= width and line.isprintable() for line in lines)
    assert "[provider" in lines[0]


def test_a_picture_shows_the_last_lines():
    lines = picture({"a": "\n".join(map(str, range(100))), "b": "short"}, 79, 5)
    assert lines[0].split(" | ")[1] == "[b]"
    assert [line.partition(" |")[0].strip() for line in lines] == ["[a]", "96", "97", "98", "99"]


# map


def test_each_line_of_json_becomes_a_line_of_json(at, tmp_path):
    at(by_prompt(c=FAILS))
    source = written(
        tmp_path / "in.jsonl",
        '"a"',
        "",
        '{"prompt": "b", "key": "k"}',
        '{"messages": [{"role": "system", "content": "s"}, "x"], "id": 7}',
        '[{"role": "user", "content": "y"}]',
        '{"role": "user", "content": "z"}',
        '{"input": "c"}',
    )
    out = tmp_path / "out.jsonl"
    assert main(["map", source, "-o", str(out), "--target", "gigachat", "--max-tokens", "9"]) == 1
    lines = lines_of(out)
    assert [line["index"] for line in lines] == list(range(6))
    assert [line.get("text") for line in lines] == ["<a>", "<b>", "<x>", "<y>", "<z>", None]
    assert [line.get("key") for line in lines] == [None, "k", 7, None, None, None]
    assert lines[0]["input"] == "a" and lines[0]["target"] == "gigachat"
    assert lines[0]["finish_reason"] == "stop"
    assert lines[5]["error"]["type"] == "ServerError"


def test_a_line_that_is_none_is_an_error_with_its_number_and_the_rest_goes_on(at, tmp_path, capsys):
    at(echoes)
    source = written(tmp_path / "in.jsonl", '"a"', "{broken", '{"x": 1}', "5", '"b"')
    out = tmp_path / "out.jsonl"
    assert main(["map", source, "-o", str(out), "--target", "gigachat"]) == 1
    lines = lines_of(out)
    assert [line.get("text") for line in lines] == ["<a>", None, None, None, "<b>"]
    assert [line["error"]["message"][:9] for line in lines[1:4]] == [
        "line 2: E", "line 3: a", "inputs[3]",
    ]
    assert capsys.readouterr().err.endswith("3 failed\n")


def test_csv_gives_questions_and_keys(at, tmp_path):
    at(echoes)
    table = io.StringIO()
    rows = [("number", "question"), ("1", "line\nbreak"), ("2", "комма, и «кавычки»")]
    csv.writer(table).writerows(rows)
    source = tmp_path / "in.csv"
    source.write_text("\ufeff" + table.getvalue(), "utf-8")
    out = tmp_path / "out.jsonl"
    status = main(
        ["map", str(source), "-o", str(out), "--target", "gigachat", "--column", "question",
         "--key", "number"]
    )
    assert status == 0
    assert [(line["key"], line["text"]) for line in lines_of(out)] == [
        ("1", "<line\nbreak>"), ("2", "<комма, и «кавычки»>"),
    ]


def test_a_csv_without_a_column_is_a_mistake(at, tmp_path, capsys):
    at(echoes)
    source = written(tmp_path / "in.csv", "a,b", "1,2")
    assert main(["map", source, "--target", "gigachat"]) == 2
    assert "--column" in capsys.readouterr().err


def test_a_journal_is_used_again_and_the_output_is_whole(at, tmp_path):
    server = at(by_prompt(b=FAILS))
    source = written(tmp_path / "in.jsonl", '"a"', '"b"')
    out, journal = tmp_path / "out.jsonl", str(tmp_path / "j.db")
    options = ["-o", str(out), "--target", "gigachat", "--journal", journal]
    assert main(["map", source, *options]) == 1
    asked = len(server.requests)
    server.answers[:] = [echoes]
    written(tmp_path / "in.jsonl", '"a"', '"b"', '"c"')
    assert main(["map", source, *options]) == 1
    assert len(server.requests) == asked + 1
    assert main(["map", source, *options, "--retry-errors", "--unordered"]) == 0
    assert sorted(line["text"] for line in lines_of(out)) == ["<a>", "<b>", "<c>"]
    assert len(Journal(journal)) == 3


PIPE = [sys.executable, "-W", "error", "-m", "chatsdk", "map", "-", "--target", "gigachat"]


def test_a_map_works_in_a_pipe(at):
    at(echoes)
    done = subprocess.run(
        PIPE, cwd=ROOT, input=b'"a"\n"b"', stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        timeout=PATIENCE, check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["<a>", "<b>"]


INTERRUPTED = """
import sys
from chatsdk.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_is_status_130_within_a_second_and_leaves_whole_lines(tmp_path):
    with Simulator() as simulator:
        source = written(tmp_path / "in.jsonl", *(f'"{n}"' for n in range(40)))
        out = tmp_path / "out.jsonl"
        simulator.play("normal", times=10)
        simulator.scenario = "stall"
        fields = simulator.fields("h2o")
        child = Child(
            INTERRUPTED, "map", source, "-o", out, "--target", "h2o", "--workers", 4,
            "--base-url", fields["base_url"],
        )
        wait_for(lambda: sum(r.scenario == "stall" for r in simulator.requests) >= 4)
        seconds, _, err = child.interrupt()
        assert child.status == 130
        assert seconds < 1 + LOADED
        assert "Traceback" not in err
        assert all("text" in line for line in lines_of(out))
        assert simulator.wait_idle()
        assert simulator.conversations == []


def test_ctrl_c_in_ask_is_status_130(tmp_path):
    with Simulator(scenario="stall") as simulator:
        fields = simulator.fields("h2o")
        child = Child(INTERRUPTED, "ask", "h2o", "Hi", "--base-url", fields["base_url"])
        wait_for(lambda: any(r.scenario == "stall" for r in simulator.requests))
        seconds, _, err = child.interrupt()
        assert (child.status, err) == (130, "")
        assert seconds < 1 + LOADED
        assert simulator.wait_idle()
        assert simulator.conversations == []


@pytest.mark.parametrize("after", [1, 7, 30])
def test_a_killed_map_leaves_whole_lines_and_goes_on_from_its_journal(at, tmp_path, after):
    count = itertools.count(1)
    enough = threading.Event()

    def answer(peer):
        if next(count) >= after:
            enough.set()
        return said("long " * 400 + prompt(peer.request))

    server = at(answer)
    source = written(tmp_path / "in.jsonl", *(f'"{n}"' for n in range(60)))
    out, journal = tmp_path / "out.jsonl", tmp_path / "j.db"
    arguments = ["map", source, "-o", str(out), "--target", "gigachat", "--journal", str(journal)]
    child = Child(INTERRUPTED, *arguments)
    assert enough.wait(PATIENCE)
    child.kill()
    text = out.read_text("utf-8")
    assert not text or text.endswith("\n")
    seen = [line["input"] for line in lines_of(out)]
    assert seen == [str(n) for n in range(len(seen))]

    before = len(server.requests)
    assert main(arguments) == 0
    assert [line["input"] for line in lines_of(out)] == [str(n) for n in range(60)]
    late = [request for request in server.requests[before:] if request.body]  # not a half one
    assert not set(map(prompt, late)) & set(seen)


FULL = """
import resource, signal, sys
from chatsdk.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_leaves_whole_lines(at, tmp_path, monkeypatch):
    # The measuring of coverage would write to the full disk as well, and complain.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    at(said("x" * 1500))
    source = written(tmp_path / "in.jsonl", *(f'"{n}"' for n in range(40)))
    out = tmp_path / "out.jsonl"
    status, _, err = Child(FULL, "map", source, "-o", out, "--target", "gigachat").end()
    assert status == 1
    assert "no room" in err and "Traceback" not in err
    assert [len(line["text"]) for line in lines_of(out)] == [1500] * 6


def test_an_output_on_a_terminal_is_neutralised(at, tmp_path):
    at(said("\x9b31m \u202e"))
    source = written(tmp_path / "in.jsonl", '"a"')
    shown = Terminal("map", source, "--target", "gigachat").shown()
    assert not set(shown) & set("\x9b\u202e\x1b")


def test_progress_is_shown_beside_the_output(at, tmp_path):
    at(echoes)
    source = written(tmp_path / "in.jsonl", '"a"')
    out = tmp_path / "out.jsonl"
    status, _, err = Child(
        INTERRUPTED, "map", source, "-o", out, "--target", "gigachat", "--progress"
    ).end()
    assert status == 0
    assert "1 answers" in err and "errors=0" in err

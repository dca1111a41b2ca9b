"""How fast many calls are, as ratios within one run: ``python tests/benchmarks/many.py [COUNT]``.

- ``fan_out`` to 1, 8, 32 and 128 targets that each take 0.2 s, against that ideal;
- ``map`` of COUNT short prompts (20,000 unless said): calls per second, CPU per call and memory,
  against a bare ``ThreadPoolExecutor.map`` over plain requests, with and without a journal.

The server is a process of its own, so that its CPU is not counted.  The rivals take turns, so that
a machine that gets slower is unfair to none.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
import json
from pathlib import Path
import statistics
import subprocess
import sys
import tempfile
import time

import requests

from chatsdk import Client
from chatsdk.providers.gigachat import GigaChat

WORKERS = 8
ROUNDS = 5
DELAY = 0.2  # s
WIDTHS = (1, 8, 32, 128)
MOST_CPU = {"requests": 1.0, "journal": 1.3}


@contextmanager
def server(delay):
    program = [sys.executable, str(Path(__file__).with_name("server.py")), str(delay)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.communicate()


def client_of(url):
    provider = GigaChat(access_token="t", base_url=url)
    return Client("gigachat", providers=[provider], proxy="")


def fan_out():
    """Return by width how many times the ideal it takes; the best of three."""
    found = {}
    with server(DELAY) as url, client_of(url) as client:
        for width in WIDTHS:
            targets = [f"gigachat:{n}" for n in range(width)]
            times = []
            for _ in range(3):
                began = time.perf_counter()
                assert not client.fan_out("Hi", targets).errors
                times.append(time.perf_counter() - began)
            found[width] = min(times) / DELAY
    return found


def with_requests(url, count):
    """Ask as one does without a library: a request for each prompt, its events read as lines."""

    def ask(prompt):
        response = requests.post(
            f"{url}/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": prompt}], "stream": True},
            headers={"Authorization": "Bearer t"},
            stream=True,
        )
        response.raise_for_status()
        text = ""
        for line in response.iter_lines():
            if line.startswith(b"data: ") and line != b"data: [DONE]":
                text += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
        return text

    with ThreadPoolExecutor(WORKERS) as pool:
        for text in pool.map(ask, (f"prompt {n}" for n in range(count))):
            assert text == "a short answer"


def with_a_session(url, count):
    """Ask over one session, its connections kept, and read each answer at once."""
    session = requests.Session()

    def ask(prompt):
        response = session.post(
            f"{url}/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": prompt}], "stream": True},
            headers={"Authorization": "Bearer t"},
        )
        response.raise_for_status()
        lines = response.content.split(b"\n")
        events = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
        return "".join(event["choices"][0]["delta"].get("content", "") for event in events)

    with session, ThreadPoolExecutor(WORKERS) as pool:
        for text in pool.map(ask, (f"prompt {n}" for n in range(count))):
            assert text == "a short answer"


def with_map(url, count, **options):
    with client_of(url) as client:
        inputs = (f"prompt {n}" for n in range(count))
        for answer in client.map(inputs, max_workers=WORKERS, **options):
            assert answer.reply.text == "a short answer"


def with_journal(url, count):
    with tempfile.TemporaryDirectory() as folder:
        with_map(url, count, journal=Path(folder) / "journal.db")


RIVALS = {
    "requests": with_requests,
    "session": with_a_session,
    "map": with_map,
    "journal": with_journal,
}


def memory():
    """Return the bytes that this process has in memory now."""
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * 4096


def maps(count):
    """Return by rival CPU s and s of each round, and the growth of memory over the run."""
    found = {name: [] for name in RIVALS}
    with server(0) as url:
        for name, rival in RIVALS.items():  # imports, connections, caches
            rival(url, 50)
        for _ in range(ROUNDS):
            for name, rival in RIVALS.items():
                cpu, began = time.process_time(), time.perf_counter()
                rival(url, count // ROUNDS)
                found[name].append((time.process_time() - cpu, time.perf_counter() - began))
        before = memory()
        with_map(url, count // ROUNDS)
        growth = memory() - before
    return found, growth


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    print("fan_out, times the ideal:", {k: round(v, 2) for k, v in fan_out().items()})
    found, growth = maps(count)
    each = count // ROUNDS
    cpu = {name: statistics.median(one for one, _ in found[name]) / each for name in found}
    for name, rounds in found.items():
        speed = each / statistics.median(seconds for _, seconds in rounds)
        print(
            f"{name:9} {speed:7.0f} calls/s {cpu[name] * 1e6:7.0f} us CPU a call,"
            f" {cpu[name] / cpu['requests']:.2f} x requests,"
            f" {cpu[name] / cpu['map']:.2f} x map"
        )
    print(f"memory after {each} more calls: {growth / 2**20:+.1f} MiB")
    late = cpu["map"] > MOST_CPU["requests"] * cpu["requests"]
    late = late or cpu["journal"] > MOST_CPU["journal"] * cpu["requests"]
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())

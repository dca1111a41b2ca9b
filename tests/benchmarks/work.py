"""What a contender does, each function once in a round; they return numbers for the table.

Times are in s.  ``cpu`` is that of this whole process, all its threads included.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
import gc
from importlib import import_module
from pathlib import Path
import statistics
import sys
import tempfile
import threading
from time import monotonic, perf_counter, process_time
from timeit import Timer
import tracemalloc

LONG = [  # 41 messages of 1 kB
    {"role": "assistant" if number % 2 else "user", "content": f"{number:04} " + "word " * 204}
    for number in range(41)
]
QUESTIONS = {"short": "Hi", "long": LONG}
SHORTEST = 0.1  # s of CPU for what is repeated as often as it takes


def contender():
    """Return the module of the contender that this process is for."""
    return import_module(f"contenders.{sys.argv[1]}")


@cache
def asker(url, ca=None):
    """Return the contender's client for an address; its connections stay warm between rounds."""
    return contender().Asker(url, ca)


def repeated(act, shortest=SHORTEST):
    """Return the CPU of one act among as many as take the shortest time."""
    # timeit would measure without the garbage collector.
    timer, count = Timer(act, gc.enable, process_time), 1
    while (cpu := timer.timeit(count)) < shortest:
        count *= 2
    return cpu / count


def memory():
    """Return the bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096


def chunks(url, count):
    """Read a stream as fast as it comes: CPU per chunk."""
    client = asker(url)
    began = process_time()
    came = sum(1 for _ in client.stream("Hi"))
    cpu = process_time() - began
    assert came == count, came
    return {"cpu": cpu / count}


def line(url, size):
    """Read one event that is a long line."""
    client = asker(url)
    began = process_time()
    text = "".join(client.stream("Hi"))
    cpu = process_time() - began
    assert len(text) == size
    return {"cpu": cpu}


def calls(url, question, ca=None):
    """Ask one call after the other, without streaming."""
    client, messages = asker(url, ca), QUESTIONS[question]
    assert client.call(messages) == "a short answer"
    return {"cpu": repeated(lambda: client.call(messages))}


def first(url, times):
    """Wait for the first text: the time above what the server took."""
    client, above = asker(url), []
    for _ in range(times):
        began = perf_counter()
        stream = iter(client.stream("Hi"))
        text = next(stream)
        took = perf_counter() - began
        for _ in stream:
            pass
        came, left = text.split()
        above.append(took - (float(left) - float(came)))
    return {"wall": statistics.median(above)}


def arrivals(url):
    """Read a paced stream: from when a piece left the server until the loop has it."""
    late = [monotonic() - float(text) for text in asker(url).stream("Hi")]
    return {"wall": statistics.median(late)}


def build(url):
    """Make a client and drop it."""
    make = contender().Asker
    return {"cpu": repeated(lambda: make(url))}


def kept(url, count):
    """Read a stream whose text nobody keeps: the most memory that Python has for it."""
    client = asker(url)
    tracemalloc.start()
    try:
        for _ in range(2):  # what is made once is not what is asked here
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            came = sum(1 for _ in client.stream("Hi"))
            most = tracemalloc.get_traced_memory()[1]
            assert came == count
    finally:
        tracemalloc.stop()
    return {"bytes": most - before}


def at_once(threads, act):
    """Let so many threads begin at the same moment; return what they return and their failures."""
    ready, failures = threading.Barrier(threads), []

    def one(number):
        ready.wait()
        try:
            return act()
        except Exception as error:
            failures.append(repr(error))

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(threads))), failures


def together(url, threads, count, ideal):
    """Read paced streams over threads; the ideal is what one takes."""
    client, before = asker(url), memory()
    most = [before]
    over = threading.Event()

    def watch():
        while not over.wait(ideal / 20):
            most.append(memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    cpu, began = process_time(), perf_counter()
    came, failures = at_once(threads, lambda: sum(1 for _ in client.stream("Hi")))
    cpu, wall = process_time() - cpu, perf_counter() - began
    over.set()
    watcher.join()
    assert failures or set(came) == {count}
    return {
        "cpu": cpu,
        "wall": wall / ideal,
        "bytes": (max(most) - before) / threads,
        "failed": len(failures),
    }


def crowd(url, threads, count):
    """Ask short calls from threads that share a client: CPU of a call, and how many failed."""
    client, failures = asker(url), []

    def act():
        for _ in range(count):
            try:
                assert client.call("Hi") == "a short answer"
            except Exception as error:
                failures.append(repr(error))

    cpu, began = process_time(), perf_counter()
    at_once(threads, act)
    cpu, wall = process_time() - cpu, perf_counter() - began
    total = threads * count
    return {"cpu": cpu / total, "wall": wall / total, "failed": len(failures)}


def fan_out(url, width, ideal):
    """Ask so many targets at once; the ideal is what one takes to answer."""
    began = perf_counter()
    asker(url).fan_out(width)
    return {"wall": (perf_counter() - began) / ideal}


def many(url, count, workers, journal=False, **more):
    """Ask many short prompts over threads."""
    client = asker(url)
    before = memory()
    prompts = (f"prompt {number}" for number in range(count))
    with tempfile.TemporaryDirectory() as folder:
        if journal:
            more["journal"] = f"{folder}/journal.db"
        cpu, began = process_time(), perf_counter()
        came = sum(1 for _ in client.map(prompts, workers, **more))
        cpu, wall = process_time() - cpu, perf_counter() - began
    assert came == count
    return {"cpu": cpu / count, "wall": wall / count, "bytes": memory() - before}

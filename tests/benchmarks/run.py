"""The benchmarks: ``python tests/benchmarks/run.py [--quick] [--only NAME ...] [--docs]``.

Everything happens on this machine's loopback: a server process, and a process for each contender,
in an environment of its own under build/bench.  Contenders take turns, round by round, so that a
machine that gets slower is unfair to none.  Needs nothing but the standard library and pip.
"""

from __future__ import annotations

import argparse
from configparser import ConfigParser
from contextlib import ExitStack
from datetime import date
import json
import os
from pathlib import Path
import platform
from resource import getrusage, RUSAGE_CHILDREN
import select
import shutil
import subprocess
import sys
import time
from typing import Any

from plans import CONTENDERS, LINES, Measure, MEASURES
import report

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PLACE = ROOT / "build" / "bench"
PATIENCE = 300  # s for one contender's part of a round
LONGEST_INSTALL = 600  # s

IN_A_QUICK_RUN = ("chatsdk", "fast", "raw", "requests")
WITH = {  # what else tells something when its version changes
    "chatsdk": ("requests", "urllib3"),
    "fast": ("requests", "urllib3", "msgspec", "orjson"),
    "raw": ("orjson",),
    "requests": ("requests", "urllib3"),
    "gigachat": ("gigachat", "httpx", "pydantic"),
    "openai": ("openai", "httpx", "httpx2", "pydantic"),
    "litellm": ("litellm", "openai"),
}
VERSIONS = """
from importlib.metadata import version, PackageNotFoundError
import sys
for name in sys.argv[1:]:
    try:
        print(name, version(name))
    except PackageNotFoundError:
        pass
"""
DECODERS = ("msgspec", "orjson")
ROOTS = "import certifi; print(certifi.contents())"
IMPORT = "import time; c = time.process_time(); import {}; print(time.process_time() - c)"


def requirements() -> dict[str, list[str]]:
    """Return what to install, by contender."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    base = config["options"]["install_requires"].split("\n")
    found = {
        "chatsdk": base,
        "raw": ["orjson"],
        "requests": ["requests"],
        "gigachat": ["gigachat"],
        "openai": ["openai"],
        "litellm": ["litellm"],
    }
    fast = config["options.extras_require"].get("fast")
    if fast is not None:
        found["fast"] = base + fast.split("\n")
    return {name: [item for item in items if item] for name, items in found.items()}


def clean() -> dict[str, str]:
    """Return the environment of our processes: without proxies, keys and Python's settings."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    return {**found, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def environment(name: str, needed: list[str]) -> str | None:
    """Return the Python of an environment with what is needed, or None where pip fails."""
    folder = PLACE / name
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join([platform.python_version(), *needed])
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return str(python)
    say(f"installing into build/bench/{name}")
    PLACE.mkdir(parents=True, exist_ok=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    with (PLACE / f"{name}.log").open("w") as log:
        for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], [*pip, *needed]):
            try:
                done = subprocess.run(
                    command, stdout=log, stderr=log, check=False, timeout=LONGEST_INSTALL
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                print(error, file=log)
                return None
            if done.returncode:
                return None
    stamp.write_text(wanted, "utf-8")
    return str(python)


def versions(name: str, python: str) -> dict[str, str]:
    output = printed([python, "-c", VERSIONS, *WITH[name]])
    found = dict(line.split() for line in output.splitlines())
    if name in ("chatsdk", "fast"):
        text = (ROOT / "chatsdk" / "version.py").read_text("utf-8")
        found = {"chatsdk": text.split('__version__ = "')[1].split('"')[0], **found}
    return found


def printed(command: list[str], env: dict[str, str] | None = None) -> str:
    """Run a short program and return what it prints."""
    return subprocess.run(
        command, env=env or clean(), capture_output=True, text=True, check=True, timeout=PATIENCE
    ).stdout


def certificate(python: str) -> tuple[Path, Path] | None:
    """Return the server's certificate and a bundle like certifi's that trusts it, or None."""
    folder = PLACE / "tls"
    key, bundle = folder / "server.pem", folder / "bundle.pem"
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    subject = ["-subj", "/CN=benchmark", "-addext", "subjectAltName=IP:127.0.0.1"]
    how = ["-newkey", "rsa:2048", "-nodes", "-x509", "-days", "30"]
    where = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    try:
        printed([openssl, "req", *how, *subject, *where])
    except subprocess.CalledProcessError:
        return None
    cert = (folder / "cert.pem").read_text("ascii")
    key.write_text((folder / "key.pem").read_text("ascii") + cert, "ascii")
    bundle.write_text(printed([python, "-c", ROOTS]) + cert, "utf-8")
    return key, bundle


class Process:
    """A child that is asked in lines; it ends with its standard input, or is killed."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        PLACE.mkdir(parents=True, exist_ok=True)
        with (PLACE / "processes.log").open("a") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=env,
            )

    def read(self) -> Any:
        """Return the next line as JSON; no child is waited for longer than `PATIENCE`."""
        output = self.process.stdout
        assert output is not None
        ready, _, _ = select.select([output], [], [], PATIENCE)
        line = output.readline() if ready else ""
        if not line:
            self.end()
            return {"error": "it ended" if ready else f"nothing within {PATIENCE} s"}
        return json.loads(line)

    def ask(self, order: dict[str, Any]) -> Any:
        """Send a line and return the answer to it."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except (OSError, ValueError):
            return {"error": "it has ended"}
        return self.read()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *details: object) -> None:
        if self.process.returncode is None:
            self.end()


class Bench:
    """The server, the contenders' environments and their workers."""

    def __init__(self, pythons: dict[str, str], stack: ExitStack) -> None:
        self.pythons = pythons
        self.stack = stack
        self.workers: dict[str, Process] = {}
        pems = certificate(pythons["requests"]) if "requests" in pythons else None
        self.bundle = None if pems is None else str(pems[1])
        command = [sys.executable, str(HERE / "server.py"), *([str(pems[0])] if pems else [])]
        self.ports = stack.enter_context(Process(command, clean())).read()

    def env(self, name: str) -> dict[str, str]:
        return {**clean(), **({"PYTHONPATH": str(ROOT)} if name in ("chatsdk", "fast") else {})}

    def url(self, scheme: str, plan: str) -> str:
        return f"{scheme}://127.0.0.1:{self.ports[scheme]}/{plan}"

    def worker(self, name: str) -> Process:
        known = self.workers.get(name)
        if known is None or known.process.returncode is not None:
            command = [self.pythons[name], str(HERE / "worker.py"), module(name)]
            known = self.stack.enter_context(Process(command, self.env(name)))
            self.workers[name] = known
            for plan, work, args in (
                ("stream-20", "chunks", {"count": 20}),  # imports and caches
                ("json", "calls", {"question": "short"}),
            ):
                known.ask({"work": work, "url": self.url("http", plan), **args})
        return known

    def once(self, name: str, measure: Measure, quick: bool) -> dict[str, Any]:
        """Let a contender do its part of a round."""
        args = {**measure.args, **measure.sizes.get(name, {}), **(measure.quick if quick else {})}
        url = self.url(measure.scheme, args.pop("plan", measure.plan))
        if measure.work in ("import", "fresh"):
            return self.alone(name, measure.work, url)
        if measure.scheme == "https":
            args["ca"] = self.bundle
        return self.worker(name).ask({"work": measure.work, "url": url, **args})

    def alone(self, name: str, work: str, url: str) -> dict[str, Any]:
        """Run a process only for this and return its CPU, or that of the import in it."""
        program = ["-c", IMPORT.format(module(name))]
        if work == "fresh":
            program = [str(HERE / "fresh.py"), module(name), url]
        before = getrusage(RUSAGE_CHILDREN)
        try:
            output = printed([self.pythons[name], *program], self.env(name))
        except subprocess.SubprocessError as error:
            return {"error": str(error)}
        after = getrusage(RUSAGE_CHILDREN)
        if work == "import":
            return {"cpu": float(output)}
        return {"cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}

    def parts(self, python: str | None) -> dict[str, dict[str, float]]:
        """Return what the parts of a call cost."""
        if python is None:
            return {}
        program = str(HERE / "parts.py")
        address = f"http://127.0.0.1:{self.ports['http']}"
        found: dict[str, dict[str, float]] = json.loads(printed([python, program, address]))
        return found


def module(name: str) -> str:
    return "chatsdk" if name == "fast" else name


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measured(bench: Bench, name: str, quick: bool) -> dict[str, Any]:
    """Return by contender the numbers of each round, or an error."""
    measure = MEASURES[name]
    found: dict[str, Any] = {}
    took = time.monotonic()
    rounds_due = min(measure.rounds, measure.quick_rounds) if quick else measure.rounds
    for turn in range(rounds_due):
        for who in measure.who:
            rounds = found.setdefault(who, [])
            if who not in bench.pythons or isinstance(rounds, str):
                continue
            if turn and who in measure.once:
                continue
            numbers = bench.once(who, measure, quick)
            if "error" in numbers:
                found[who] = numbers["error"]
            else:
                rounds.append(numbers)
    say(f"{name:16} {time.monotonic() - took:6.1f} s")
    return {who: rounds for who, rounds in found.items() if rounds}


def chosen(only: list[str]) -> list[str]:
    """Return the measures that are named, or whose names begin so."""
    families = tuple(name for name in only if name not in MEASURES)
    return [name for name in MEASURES if not only or name in only or name.startswith(families)]


def run(quick: bool, only: list[str]) -> dict[str, Any]:
    """Measure; return all there is to know about it."""
    needed = requirements()
    names = [name for name in CONTENDERS if not quick or name in IN_A_QUICK_RUN]
    missing, pythons = {}, {}
    for name in names:
        python = environment(name, needed[name]) if name in needed else None
        if python is not None:
            pythons[name] = python
        elif name in needed:
            missing[name] = f"pip failed, see build/bench/{name}.log"
        else:
            missing[name] = "setup.cfg has no such extra"
    found = {
        "date": date.today().isoformat(),
        "whole": not quick and not only,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: versions(name, python) for name, python in pythons.items()},
        "missing": missing,
        "results": {},
    }
    (PLACE / "processes.log").write_text("", "utf-8")
    with ExitStack() as stack:
        bench = Bench(pythons, stack)
        for name in chosen(only):
            if MEASURES[name].scheme in bench.ports:
                found["results"][name] = measured(bench, name, quick)
            else:
                found["missing"][name] = "no certificate could be made; is openssl there?"
        if found["whole"]:
            found["parts"] = bench.parts(environment("parts", [*needed["chatsdk"], *DECODERS]))
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="at most 2 minutes, without rivals")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(MEASURES)}"
    )
    parser.add_argument("--docs", action="store_true", help="write the docs' table and figures")
    parser.add_argument("--again", action="store_true", help="show the last run, measure nothing")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    results = PLACE / "results.json"
    if asked.again:
        found = json.loads(results.read_text("utf-8"))
    else:
        found = run(asked.quick, asked.only)
        results.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(report.text(found, LINES))
    if asked.docs and not found["whole"]:
        sys.exit("the docs are written from a whole run only")
    if asked.docs:
        folder = ROOT / "docs" / "explanation" / "figures"
        folder.mkdir(exist_ok=True)
        (folder / "table.inc").write_text(report.rst(found, LINES), "utf-8")
        (folder / "parts.inc").write_text(report.parts_rst(found), "utf-8")
        python = environment("figures", ["matplotlib"])
        if python is None:
            say("matplotlib cannot be installed: no figures are drawn")
        else:
            printed([python, str(HERE / "figures.py"), str(results), str(folder)])


if __name__ == "__main__":
    main()

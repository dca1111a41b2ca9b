"""Our client and a real model server: ``transformers serve`` with a tiny random model.

The model is made here (tiny_model.py) and lies on this disk; no hub is asked for anything.
What it says makes no sense, but transformers itself says beforehand what it will be.
"""

from __future__ import annotations

from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
import json
import os
from pathlib import Path
import re
import subprocess
import sys
import time

import pytest

from chatsdk import (
    APIConnectionError,
    BadRequestError,
    ChatError,
    Client,
    NotFoundError,
    RetryPolicy,
)

QUESTION = "tell me more"
LONGEST_START = 240.0  # s; the first import of torch on a slow disk takes most of it

Served = namedtuple("Served", "url model text prompt_tokens")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Serve the model until the last test is through."""
    home = tmp_path_factory.mktemp("hub")
    (home / "hub").mkdir()
    folder = tmp_path_factory.mktemp("models") / "tiny"
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "NO_COLOR": "1"}
    script = Path(__file__).with_name("tiny_model.py")
    subprocess.run([sys.executable, script, folder, QUESTION], check=True, env=quiet)
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    command = [Path(sys.executable).with_name("transformers"), "serve", folder, "--port", "0",
               "--host", "127.0.0.1", "--device", "cpu"]
    log = home / "serve.log"
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=quiet)
    try:
        yield Served(_address(server, log), str(folder), expected["text"],
                     expected["prompt_tokens"])
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _address(server, log):
    """Return where a server listens, once it says so."""
    ends = time.monotonic() + LONGEST_START
    while time.monotonic() < ends:
        told = log.read_text("utf-8", "replace")
        found = re.search(r"running on (http://127\.0\.0\.1:\d+)", told)
        if found:
            return found[1]
        assert server.poll() is None, told[-3000:]
        time.sleep(0.2)
    raise AssertionError(log.read_text("utf-8", "replace")[-3000:])


@pytest.fixture
def client(served):
    """Give a client of the server; one that keeps no key, since a local server needs none."""
    options = {"base_url": f"{served.url}/v1", "max_retries": RetryPolicy(0), "proxy": ""}
    with Client(f"openai:{served.model}", **options) as made:
        yield made


def test_an_answer_is_what_the_model_says(served, client):
    reply = client.chat(QUESTION)

    assert reply.text.strip() == served.text
    assert reply.finish_reason == "stop"
    assert reply.usage.prompt_tokens == served.prompt_tokens
    assert reply.usage.completion_tokens == len(served.text.split())
    assert reply.usage.total_tokens == \
        reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_it_comes_in_pieces_and_is_the_same_in_one(served, client):
    with client.stream(QUESTION) as stream:
        pieces = list(stream)
    whole = client.chat(QUESTION, stream=False)

    assert len(pieces) > 3
    assert "".join(pieces).strip() == whole.text.strip() == served.text
    assert whole.finish_reason == "stop"
    assert whole.usage == stream.reply.usage


@pytest.mark.parametrize("stream", [True, False])
def test_it_speaks_the_other_protocol_of_openai_as_well(served, stream):
    with Client(f"openai-responses:{served.model}", base_url=f"{served.url}/v1", max_retries=0,
                proxy="") as client:
        whole = client.chat(QUESTION, stream=stream)
        short = client.chat(QUESTION, max_tokens=3, stream=stream)

    assert (whole.text.strip(), whole.finish_reason) == (served.text, "stop")
    assert whole.usage.prompt_tokens == served.prompt_tokens
    assert short.text.split() == served.text.split()[:3]


def test_a_limit_ends_it(served, client):
    reply = client.chat(QUESTION, max_tokens=3)

    assert reply.finish_reason == "length"
    assert reply.text.split() == served.text.split()[:3]
    assert reply.usage.completion_tokens == 3


def test_a_conversation_is_put_into_the_models_template(served, client):
    talk = client.conversation(system="quiet")
    first = talk.chat(QUESTION)
    second = talk.chat("tell me more")
    more = 3 + len(first.text.split()) + 2 + 3  # the answer, and the next question

    assert first.usage.prompt_tokens == served.prompt_tokens + 3
    assert second.usage.prompt_tokens == first.usage.prompt_tokens + more - 1


def test_text_of_any_script_is_asked_and_answered(client):
    reply = client.chat("привет мир 東京 \U0001f642 naïve")

    assert reply.usage.prompt_tokens == 9
    assert reply.finish_reason in ("stop", "length")
    assert "\ufffd" not in reply.text


def test_many_at_once_do_not_mix(client):
    questions = ["the sea", "it rains", "tell me", "морning", "как дела"] * 2
    alone = {question: client.chat(question, max_tokens=12).text for question in set(questions)}

    answers = list(client.map(questions, max_tokens=12, max_workers=4))

    assert [answer.reply.text for answer in answers] == [alone[q] for q in questions]


def test_a_stream_that_is_left_early_leaves_the_connection_fit(served, client):
    for _ in range(3):
        with client.stream(QUESTION) as stream:
            next(stream)
        assert stream.reply.finish_reason is None

    assert client.chat(QUESTION).text.strip() == served.text


def test_two_threads_share_a_client(served, client):
    with ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(lambda _: client.chat(QUESTION).text.strip(), range(4)))

    assert texts == [served.text] * 4


def test_a_model_that_is_not_there_is_refused_in_the_servers_words(client):
    with pytest.raises(BadRequestError, match="nobody/none"):
        client.chat(QUESTION, model="nobody/none")


def test_a_field_that_the_server_does_not_know_is_refused_in_its_words(client):
    with pytest.raises(ChatError, match="strange") as caught:
        client.chat(QUESTION, extra_body={"strange": 1})

    assert caught.value.status_code == 422


def test_a_path_that_is_not_there_is_told(client):
    with pytest.raises(NotFoundError):
        client.embed("the sea", model="tiny")


def test_the_list_of_models_is_read(client):
    assert client.models() == []  # nothing was ever downloaded


def test_a_server_that_is_gone_is_told(served):
    with Client(f"openai:{served.model}", base_url="http://127.0.0.1:9/v1", max_retries=0,
                proxy="") as client, pytest.raises(APIConnectionError):
        client.chat(QUESTION)

"""What answers cost, and what a client has used."""

import builtins
import threading

import pytest

from chatsdk import Client, ConfigurationError, Limit, RateLimits, Reply, Usage
from chatsdk.providers.base import limits_in
from chatsdk.simulator import Simulator
from chatsdk.tally import summed, Tally

MILLION = Usage(1_000_000, 1_000_000, 2_000_000)


def test_a_known_model_has_the_price_of_the_list():
    import genai_prices

    listed = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=1_000_000, output_tokens=1_000_000),
        "gpt-4o-mini", provider_id="openai",
    )

    cost = Reply("x", "gpt-4o-mini", "openai", usage=MILLION).cost

    assert cost == float(listed.total_price) > 0
    assert Reply("x", "gpt-4o-mini", "openai-responses", usage=MILLION).cost == cost


def test_cached_tokens_are_cheaper():
    cached = Usage(1_000_000, 0, 1_000_000, cached_tokens=1_000_000)
    plain = Usage(1_000_000, 0, 1_000_000)

    costs = [Reply("x", "gpt-4o-mini", "openai", usage=usage).cost for usage in (cached, plain)]

    assert 0 < costs[0] < costs[1]


@pytest.mark.parametrize(
    "reply",
    [
        Reply("x", "GigaChat", "gigachat", usage=MILLION),
        Reply("x", "no-such-model", "openai", usage=MILLION),
        Reply("x", "gpt-4o-mini", "openai"),
        Reply("x", None, "openai", usage=MILLION),
    ],
)
def test_what_nobody_knows_has_no_price(reply):
    assert reply.cost is None


def test_what_the_service_says_comes_first():
    assert Reply("x", "gpt-4o-mini", "openrouter", usage=Usage(1, 1, 2, cost=0.25)).cost == 0.25


def test_without_the_price_list_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "genai_prices":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(ConfigurationError, match=r"chatsdk\[cost\]"):
        Reply("x", "gpt-4o-mini", "openai", usage=MILLION).cost
    assert Reply("x", "m", "openai", usage=Usage(cost=0.0)).cost == 0.0


def test_sums_tell_what_either_tells():
    assert summed(Usage(1, None, 3), Usage(2, None, None, 4, cost=0.5)) == Usage(
        3, None, 3, 4, None, 0.5
    )


def test_many_threads_lose_no_token():
    tally = Tally()
    gate = threading.Barrier(8, timeout=10)

    def work():
        gate.wait()
        for _ in range(1000):
            tally.add("a", Usage(1, 2, 3))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert tally.sums() == {"a": Usage(8000, 16000, 24000)}


def test_a_client_sums_by_target_and_its_copies_share_the_sum():
    with Simulator(reply="one two") as simulator:
        with Client("gigachat", api_key="any", **simulator.fields("gigachat")) as client:
            one = client.chat("Hi").usage
            client.with_options(timeout=5).chat("Hi", model="GigaChat-2")
            client.fan_out("Hi", ["gigachat", "gigachat:GigaChat-2"]).replies

            assert {name: usage.total_tokens for name, usage in client.usage.items()} == {
                "gigachat:GigaChat": 2 * one.total_tokens,
                "gigachat:GigaChat-2": 2 * one.total_tokens,
            }


def test_limits_are_read_from_the_headers():
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "1e9",
        "x-ratelimit-remaining-tokens": "-3",
    }

    assert limits_in(headers, "x-ratelimit-{what}-{kind}") == RateLimits(
        Limit(60, 59, "1s"), Limit()
    )
    assert limits_in({}, "x-ratelimit-{what}-{kind}") is None

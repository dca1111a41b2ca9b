"""A real browser's session for Aura: headless Chromium against the simulator."""

from chromium import chromium, needs_chromium
import pytest

from chatsdk import Client, ConfigurationError
from chatsdk.providers.aura import Aura
from chatsdk.simulator import Simulator


@pytest.fixture
def browser(tmp_path):
    with chromium(tmp_path) as driver:
        yield driver


@needs_chromium
def test_the_session_of_a_real_browser_is_sent_with_each_question(browser):
    with Simulator(reply="Hi") as simulator:
        base_url = simulator.fields("aura")["base_url"]
        browser.get(base_url)
        browser.add_cookie({"name": "cf_clearance", "value": "passed", "path": "/"})

        with Client("aura", base_url=base_url, browser=browser, proxy="") as client:
            reply = client.chat("Hello")

        sent = simulator.requests[-1].headers
        agent = browser.execute_script("return navigator.userAgent")
    assert reply.text == "Hi"
    assert sent["User-Agent"] == agent and "Chrome" in agent
    assert sent["Cookie"] == "cf_clearance=passed"


@needs_chromium
def test_a_browser_that_is_elsewhere_is_led_to_the_site_first(browser):
    with Simulator() as simulator:
        base_url = simulator.fields("aura")["base_url"]
        browser.get("about:blank")

        Aura(base_url=base_url, browser=browser)

        assert browser.current_url.startswith(base_url)


@needs_chromium
def test_what_was_taken_from_a_browser_pickles_without_it(browser):
    with Simulator() as simulator:
        made = Aura(base_url=simulator.fields("aura")["base_url"], browser=browser)

    assert made.browser is None
    assert "Chrome" in made.headers["User-Agent"]


def test_what_is_no_browser_is_a_configuration_error_that_names_the_extra():
    with pytest.raises(ConfigurationError, match=r"chatsdk\[browser\]"):
        Client("aura", browser="firefox")

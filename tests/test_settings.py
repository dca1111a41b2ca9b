"""Settings: argument, then environment, then default, and what cannot be one."""

from __future__ import annotations

from attrs import frozen
import pytest

from chatsdk.errors import ConfigurationError
from chatsdk.settings import check_headers, check_secret, secret, setting, url


@frozen(kw_only=True)
class Settings:
    name: str = setting("CHATSDK_TEST_NAME", "default")
    plain: str = setting(None, "plain")
    key: str = secret("CHATSDK_TEST_KEY")
    base: str = url("CHATSDK_TEST_URL", "https://default.example/api/")


def test_the_argument_comes_before_the_environment_and_that_before_the_default(monkeypatch):
    assert Settings().name == "default"

    monkeypatch.setenv("CHATSDK_TEST_NAME", "environment")
    assert Settings().name == "environment"
    assert Settings(name="argument").name == "argument"


def test_an_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("CHATSDK_TEST_NAME", "")
    monkeypatch.setenv("CHATSDK_TEST_KEY", "")
    monkeypatch.setenv("CHATSDK_TEST_URL", "")

    assert Settings() == Settings(
        name="default", key=None, base="https://default.example/api"
    )


def test_a_setting_without_variable_has_its_default():
    assert Settings().plain == "plain"


def test_a_setting_is_read_when_the_object_is_made(monkeypatch):
    before = Settings()
    monkeypatch.setenv("CHATSDK_TEST_NAME", "later")

    assert (before.name, Settings().name) == ("default", "later")


def test_a_secret_is_in_no_repr():
    assert "s3cret" not in repr(Settings(key="s3cret"))
    assert Settings(key="s3cret").key == "s3cret"


# Secrets


@pytest.mark.parametrize("key", ["a", "abc=", "a" * 5000, "ключ".encode().hex(), "é\xff"])
def test_a_key_may_be_any_printable_latin_1(key):
    assert Settings(key=key).key == key


@pytest.mark.parametrize(
    "mark",
    ["\n", "\r\nX-Evil: 1", "\0", " ", "\t", "\xa0", "\x7f", "к", "\u2019", "\ud800", "\u2028"],
)
def test_a_key_that_no_header_can_hold_is_told_by_field_and_place(mark):
    for key, position in [("s3cret" + mark, 6), (mark + "s3cret", 0), ("s3" + mark + "cret", 2)]:
        with pytest.raises(ConfigurationError) as caught:
            Settings(key=key)

        assert str(caught.value).startswith(f"key has a character at position {position} ")
        assert "cret" not in str(caught.value) and "Evil" not in str(caught.value)
        assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_key_from_the_environment_is_checked_like_any_other(monkeypatch):
    monkeypatch.setenv("CHATSDK_TEST_KEY", "s3cret\n")

    with pytest.raises(ConfigurationError, match="^key has a character at position 6"):
        Settings()


def test_an_empty_key_is_none():
    with pytest.raises(ConfigurationError, match="key is empty"):
        Settings(key="")


@pytest.mark.parametrize("key", [5, b"abc", ["abc"]])
def test_a_key_is_a_str(key):
    with pytest.raises(ConfigurationError, match="key must be a str"):
        Settings(key=key)


def test_a_key_given_as_a_field_is_checked_by_name():
    class Field:
        name = "api_key"

    with pytest.raises(ConfigurationError, match="^api_key has a character at position 0"):
        check_secret(None, Field, "\n")


# Addresses


@pytest.mark.parametrize(
    "given, kept",
    [
        ("https://host", "https://host"),
        ("http://127.0.0.1:80/v1/", "http://127.0.0.1:80/v1"),
        ("https://[::1]:8443/a//", "https://[::1]:8443/a"),
        ("HTTPS://Host/Path", "HTTPS://Host/Path"),
        ("https://пример.рф", "https://пример.рф"),
    ],
)
def test_an_address_loses_its_last_slash_and_nothing_else(given, kept):
    assert Settings(base=given).base == kept


@pytest.mark.parametrize(
    "given",
    [
        "",
        "host",
        "host:80",
        "//host/path",
        "/path",
        "ftp://host",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https:///path",
        "https://:443",
        "https://host:0",
        "https://host:65536",
        "https://host:port",
        "https://[::1",
        "https://ho st",
        "https://host/\r\nX: 1",
        "https://host/\0",
        " https://host",
        "https://host?a=1",
        "https://host#a",
        "https://user@host",
        "https://user:pass@host",
        "https://exam\u2100ple.com",
        "https://.host",
        "https://*.host",
        5,
        b"https://host",
    ],
)
def test_an_address_that_is_none_is_a_configuration_error_that_names_the_field(given):
    with pytest.raises(ConfigurationError, match="base"):
        Settings(base=given)


@pytest.mark.parametrize(
    "given",
    [
        "https://user:s3cret@host",
        "https://s3cret@host/path",
        "user:s3cret@host/path",
        "https:/user:s3cret@host",
        "ftp://user:s3cret@host",
        "//user:s3cret@host",
        "https://user:s3cret@exam\u2100ple.com",
        "https://user:s3cret@[::1",
        "https://user:s3cret@host:port",
        "https://host?api_key=s3cret",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(given):
    with pytest.raises(ConfigurationError) as caught:
        Settings(base=given)

    assert "s3cret" not in str(caught.value)


# Headers


class Field:
    name = "headers"


@pytest.mark.parametrize(
    "given", [{}, {"X-A": "b"}, {"x_a": ""}, {"X": "é"}, {"X": "a\tb"}, {"X": "a b"}]
)
def test_headers_may_be_what_http_can_carry(given):
    check_headers(None, Field, given)


@pytest.mark.parametrize("given", [None, 5, "X: a", [("X", "a")], {"X": 5}, {5: "a"}, {"X": None}])
def test_headers_are_a_dict_of_str(given):
    with pytest.raises(TypeError, match="headers must be a dict of str"):
        check_headers(None, Field, given)


@pytest.mark.parametrize("name", ["", " X", "X:", "X Y", "X\r\nY", "Ключ", "X\0"])
def test_a_name_that_is_none_is_a_configuration_error(name):
    with pytest.raises(ConfigurationError, match="no header name"):
        check_headers(None, Field, {name: "a"})


@pytest.mark.parametrize(
    "value",
    ["s3cret\n", "s3cret\rX: 1", "s3cret\0", "s3cret\u2019", " s3cret", "\ts3cret"],
)
def test_a_value_that_cannot_be_sent_is_told_by_its_name_and_not_repeated(value):
    with pytest.raises(ConfigurationError, match="'X-Key'") as caught:
        check_headers(None, Field, {"X-Key": value})

    assert "s3cret" not in str(caught.value)

"""The tree of errors: its shape, its details, and that each of them travels."""

from __future__ import annotations

import copy
import pickle

import pytest
from requests.structures import CaseInsensitiveDict

import chatsdk
from chatsdk import errors
from chatsdk.errors import (
    AllFailedError,
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ChatError,
    ConfigurationError,
    JournalError,
    ProtocolError,
    RedirectError,
    status_error,
    unknown,
)
from chatsdk.messages import Reply, Usage

TREE = {
    "ChatError": "Exception",
    "ConfigurationError": "ChatError",
    "MissingCredentialsError": "ConfigurationError",
    "UnsupportedError": "ChatError",
    "APIConnectionError": "ChatError",
    "APITimeoutError": "APIConnectionError",
    "StreamInterruptedError": "APIConnectionError",
    "APIStatusError": "ChatError",
    "BadRequestError": "APIStatusError",
    "AuthenticationError": "APIStatusError",
    "PermissionDeniedError": "APIStatusError",
    "NotFoundError": "APIStatusError",
    "ConflictError": "APIStatusError",
    "UnprocessableEntityError": "APIStatusError",
    "RateLimitError": "APIStatusError",
    "RedirectError": "APIStatusError",
    "ServerError": "APIStatusError",
    "ProviderError": "ChatError",
    "ProtocolError": "ChatError",
    "CancelledError": "ChatError",
}
KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ChatError)
]
DETAILS = {
    ChatError: {
        "provider": "gigachat",
        "partial": Reply("half", usage=Usage(1), raw={"a": [1]}, state={"b": 2}),
        "retryable": True,
        "retry_after": 7.5,
    },
    APITimeoutError: {"phase": "read"},
    APIStatusError: {
        "status_code": 429,
        "body": "slow down",
        "headers": CaseInsensitiveDict({"Retry-After": "7.5"}),
        "request_id": "r-1",
    },
    RedirectError: {"location": "https://elsewhere.example/"},
    ProtocolError: {"excerpt": "<html>"},
    AllFailedError: {"errors": {"gigachat": "why"}},
    JournalError: {"unrecorded": ("answer",)},
}


def made(kind):
    """Return an error of a kind with every detail it can have, and those details."""
    details = {}
    for base, more in DETAILS.items():
        if issubclass(kind, base):
            details.update(more)
    return kind("what happened", **details), details


def test_the_tree_is_as_documented():
    assert {name: getattr(errors, name).__bases__[0].__name__ for name in TREE} == TREE


@pytest.mark.parametrize("kind", KINDS)
def test_each_error_is_drawn_in_the_tree_and_importable_from_the_package(kind):
    assert issubclass(kind, ChatError) and getattr(chatsdk, kind.__name__) is kind
    assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize("kind", KINDS)
def test_each_error_carries_its_details(kind):
    error, details = made(kind)

    assert str(error) == "what happened" and error.args == ("what happened",)
    assert {name: getattr(error, name) for name in details} == details


@pytest.mark.parametrize("kind", KINDS)
def test_each_error_without_details_has_empty_ones(kind):
    error = kind()

    assert str(error) == ""
    assert error.provider is error.partial is error.retry_after is None
    assert error.retryable is False
    if isinstance(error, APIStatusError):
        assert (error.status_code, error.body, dict(error.headers)) == (0, "", {})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "travel",
    [copy.copy, copy.deepcopy]
    + [
        lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    ],
)
def test_each_error_travels_with_its_details(kind, travel):
    error, details = made(kind)
    error.own = "added by a caller"

    found = travel(error)

    assert type(found) is kind and found is not error
    assert str(found) == str(error) and found.args == error.args
    assert {name: getattr(found, name) for name in details} == details
    assert found.own == "added by a caller"
    if isinstance(found, APIStatusError):
        assert found.headers["RETRY-AFTER"] == "7.5"


def test_a_subclass_of_a_callers_own_travels_too():
    found = pickle.loads(pickle.dumps(Own("what", code=5)))

    assert (type(found), str(found), found.code) == (Own, "what", 5)


class Own(ConfigurationError):
    def __init__(self, message, *, code):
        super().__init__(message)
        self.code = code


@pytest.mark.parametrize(
    "status, name",
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (402, "QuotaExceededError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (408, "APIStatusError"),
        (409, "ConflictError"),
        (422, "UnprocessableEntityError"),
        (429, "RateLimitError"),
        (100, "APIStatusError"),
        (204, "APIStatusError"),
        (299, "APIStatusError"),
        (300, "RedirectError"),
        (302, "RedirectError"),
        (399, "RedirectError"),
        (499, "APIStatusError"),
        (500, "ServerError"),
        (529, "ServerError"),
        (599, "ServerError"),
        (600, "APIStatusError"),
        (999, "APIStatusError"),
    ],
)
def test_each_status_has_its_class(status, name):
    assert status_error(status).__name__ == name


def test_what_is_unknown_is_named_with_what_there_is_and_the_nearest():
    error = unknown(TypeError, "parameter", "temprature", ["top_p", "temperature"])

    assert type(error) is TypeError
    assert str(error) == (
        "unknown parameter 'temprature'; there are: temperature, top_p; did you mean 'temperature'?"
    )


def test_what_is_like_nothing_gets_no_suggestion():
    assert str(unknown(ValueError, "role", 5, ["user"])) == "unknown role 5; there are: user"


def test_an_error_can_note_that_too_much_fails_at_a_host():
    error, _ = made(APIStatusError)
    assert error.circuit == "closed"

    error.open_circuit("not tried again")

    assert pickle.loads(pickle.dumps(error)).circuit == error.circuit == "open"
    assert str(error) == "what happened; not tried again"


def test_connection_errors_are_one_family():
    with pytest.raises(APIConnectionError):
        raise APITimeoutError("late", phase="first")

"""The model server behind h2o: its checks, its frames, its one document.

Source: text-generation-inference 0.9.1, router/src/validation.rs and server.rs.
"""

from __future__ import annotations

import re
from typing import Any
from zlib import crc32

from .voice import compact, Voice, Whole

_LONGEST_INPUT = 3072
_LONGEST = 4096
_MOST_STOPS = 4
_DEFAULT_NEW = 20  # TGI's max_new_tokens when the request names none
_NUMBERS = ("temperature", "repetition_penalty", "top_p", "typical_p")
_COUNTS = ("truncate", "max_new_tokens", "top_k", "best_of", "seed")


class Generation(Voice):
    """One generation: a frame for each token, the last with the whole text.

    Args:
        parameters: Of the request.
        refused: Why TGI refuses them; then this is all the answer.
        stream: False for one document.
    """

    heartbeat = b":\n\n"
    noise: tuple[bytes, ...] = (b"event: message\n", b"id: 1\n", b"data:\n\n")
    malformed = b'data:{"token":\n\n'

    def __init__(self, parameters: dict[str, Any], refused: str, *, stream: bool) -> None:
        super().__init__()
        self.parameters = parameters
        self.refused = refused
        self.stream = stream
        self.type = "text/event-stream" if stream else "application/json"
        if not stream:
            self.lines, self.whole = False, True
            self.heartbeat, self.noise, self.malformed = Whole.heartbeat, (), Whole.malformed
        self.error = self.event({"error": "Request failed during generation: CUDA out of memory",
                                 "error_type": "generation"})

    @property
    def refusal(self) -> dict[str, str]:
        """What TGI says to values that it does not take."""
        return {"error": f"Input validation error: {self.refused}", "error_type": "validation"}

    def event(self, value: object) -> bytes:
        """Return an event of the stream; without streaming, the bare value."""
        return b"data:%b\n\n" % compact(value) if self.stream else compact(value)

    def text(self, piece: str) -> bytes:
        """Return the frame of a token, nothing if the request is refused."""
        return b"" if self.refused else super().text(piece)

    def frame(self, piece: str) -> bytes:
        """Return the event of one ordinary token."""
        if not self.stream:
            return b""
        return self.event({"token": token(piece), "generated_text": None, "details": None})

    def end(self, reason: str, last: str = "") -> list[bytes]:
        """Return the event with the whole text.

        Its token is a special one, or, if a limit or a stop sequence ended the answer, the last.
        """
        if self.refused:
            return [self.event(self.refusal)]
        if last:
            self.said.append(last)
        ending = token(last) if last else {
            "id": 11, "text": "<|endoftext|>", "logprob": -0.0021, "special": True}
        whole = "".join(self.said)
        details = self.details("eos_token" if reason == "stop" else reason, natural=not last)
        if not self.stream:
            known = {"generated_text": whole, "details": details}
            return [self.event([{k: part for k, part in known.items() if part is not None}])]
        return [self.event({"token": ending, "generated_text": whole, "details": details})]

    def details(self, reason: str, *, natural: bool) -> dict[str, object] | None:
        """Return the end's reason and counts, None unless they were asked for."""
        if not self.parameters.get("details"):
            return None
        sampled = self.parameters.get("do_sample") or self.parameters.get("temperature")
        seed = self.parameters.get("seed", crc32("".join(self.said).encode()) if sampled else None)
        return {"finish_reason": reason, "generated_tokens": len(self.said) + natural,
                "seed": seed}


def token(piece: str) -> dict[str, object]:
    """Return an ordinary token as frames have it."""
    number = crc32(piece.encode("utf-8", "replace"))
    return {"id": number % 65000 + 12, "text": piece, "logprob": -(number % 9999 + 1) / 10000,
            "special": False}


def untyped(parameters: object) -> str:
    """Return the plain text of a refusal for values of the wrong type; "" if all are right."""
    if not isinstance(parameters, dict):
        return "Failed to deserialize the JSON body into the target type: parameters"
    for names, kinds in ((_NUMBERS, (int, float)), (_COUNTS, (int,))):
        for name in names:
            value = parameters.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
                return ("Failed to deserialize the JSON body into the target type: "
                        f"parameters.{name}: invalid type")
    if not isinstance(parameters.get("stop") or [], list):
        return ("Failed to deserialize the JSON body into the target type: "
                "parameters.stop: invalid type")
    return ""


def given(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters without nulls, which mean the same as nothing."""
    return {name: value for name, value in parameters.items() if value is not None}


def check(inputs: str, parameters: dict[str, Any], *, stream: bool) -> str:
    """Return what is wrong with the values of a request, in TGI's words and order."""
    new = parameters.get("max_new_tokens", _DEFAULT_NEW)
    truncate = parameters.get("truncate")
    stops = parameters.get("stop") or []
    tokens = min(len(re.findall(r"\S+", inputs)), truncate or _LONGEST * 100)
    checks = (
        (stream and parameters.get("best_of", 1) != 1,
         "`best_of` != 1 is not supported when streaming tokens"),
        (_below(parameters, "temperature"), "`temperature` must be strictly positive"),
        (_below(parameters, "repetition_penalty"),
         "`repetition_penalty` must be strictly positive"),
        (_outside(parameters, "top_p"), "`top_p` must be > 0.0 and < 1.0"),
        (_outside(parameters, "typical_p"), "`typical_p` must be > 0.0 and < 1.0"),
        (_below(parameters, "top_k"), "`top_k` must be strictly positive"),
        (new <= 0, "`max_new_tokens` must be strictly positive"),
        (len(stops) > _MOST_STOPS,
         f"`stop` supports up to {_MOST_STOPS} stop sequences. Given: {len(stops)}"),
        (not inputs, "`inputs` cannot be empty"),
        (truncate is not None and not 0 < truncate < _LONGEST_INPUT,
         f"`truncate` must be strictly positive and less than {_LONGEST_INPUT}. "
         f"Given: {truncate}"),
        (tokens + new > _LONGEST,
         f"`inputs` tokens + `max_new_tokens` must be <= {_LONGEST}. "
         f"Given: {tokens} `inputs` tokens and {new} `max_new_tokens`"),
        (tokens > _LONGEST_INPUT,
         f"`inputs` must have less than {_LONGEST_INPUT} tokens. Given: {tokens}"),
    )
    return next((message for wrong, message in checks if wrong), "")


def _below(parameters: dict[str, Any], name: str) -> bool:
    return name in parameters and bool(parameters[name] <= 0)


def _outside(parameters: dict[str, Any], name: str) -> bool:
    return name in parameters and not 0 < parameters[name] < 1

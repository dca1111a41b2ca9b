"""A coverage-guided fuzzer over all decoders: ``make fuzz``.

Any bytes in: deltas or a `ChatError` out, and nothing else.  The first byte chooses the service,
the second how the rest is cut into chunks.
"""

import sys

import atheris

with atheris.instrument_imports(include=["chatsdk"]):
    from chatsdk import ChatError, Limits, providers
    from chatsdk.messages import Message, Query
    from chatsdk.wire import inflate, Lines

SERVICES = [
    providers.get(name)(api_key="a2V5", **(
        {"base_url": "https://own.example"} if name == "azure-openai" else {}
    ))
    for name in sorted(providers.TABLE)
]
KINDS = ("text/event-stream", "application/json", "text/html", "")
ENCODINGS = (None, "gzip", "deflate")
QUERY = Query(messages=(Message("user", "Hi"),))


class Body:
    """The bytes of one input as the body of an answer."""

    limits = Limits(frame_bytes=2**16, reply_bytes=2**18)

    def __init__(self, data, step, kind, encoding):
        self.headers = {"Content-Type": kind}
        self._encoding = encoding
        self._chunks = [data[n:][:step] for n in range(0, len(data), step)]

    def iter_content(self):
        return inflate(iter(self._chunks), self._encoding)

    def iter_lines(self, *, delimiter=None):
        lines = Lines(delimiter, self.limits.frame_bytes)
        for chunk in self.iter_content():
            yield from lines.feed(chunk)
        yield from lines.end()

    def hurry(self):
        """Nothing is waited for here."""


def one_input(data):
    if len(data) < 2:
        return
    service = SERVICES[data[0] % len(SERVICES)]
    kind = KINDS[data[0] // 8 % len(KINDS)]
    encoding = ENCODINGS[data[0] // 64 % len(ENCODINGS)]
    body = Body(bytes(data[2:]), data[1] % 64 + 1, kind, encoding)
    try:
        for delta in service.deltas(QUERY, body):
            assert isinstance(delta.text, str)
    except ChatError as error:
        assert str(error)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

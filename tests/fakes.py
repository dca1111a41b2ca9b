"""Stand-ins for what has tests of its own."""


class Call:
    """A call that nobody ends."""

    provider = model = "test"

    def cancel(self, *, hurry=False):
        pass

    def abort(self):
        pass

    def count(self, usage):
        pass

    def limits(self):
        return None

"""Where connections may lead: a place for a guard, such as that of `chatsdk.pytest_plugin`."""

from __future__ import annotations

from collections.abc import Callable

#: Is handed the name of each host before anything is sent to it, and before its address is looked
#: up: the service's, and the proxy's if there is one.  It raises to prevent that.
guard: Callable[[str], None] | None = None

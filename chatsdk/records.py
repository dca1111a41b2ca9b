"""attrs, made cheaper to load: all records share one repr, one eq and one hash.

attrs writes and compiles these for each class, which is half of the 0.4 ms that one takes; more
than a dozen are needed before a first answer.  The package is loaded under its older name, attr,
beside which the newer one takes 2 ms.
"""

from __future__ import annotations

from functools import cache, partial
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, TYPE_CHECKING

import attr
from attr import evolve, Factory, field, fields, fields_dict

__all__ = ["Factory", "define", "evolve", "field", "fields", "fields_dict", "frozen"]

if TYPE_CHECKING:  # what type checkers know
    from attrs import define as define
    from attrs import frozen as frozen
else:

    def define(cls: Any = None, *, eq: bool = True, **options: Any) -> Any:
        """Make a class of mutable records; options are those of `attrs.define`."""
        if cls is None:
            return partial(define, eq=eq, **options)
        made = attr.define(cls, eq=False, repr=False, **options)
        return _dressed(made, cls, {"__eq__": _eq, "__hash__": None} if eq else {})

    def frozen(cls: Any = None, *, eq: bool = True, **options: Any) -> Any:
        """Make a class of immutable records; options are those of `attrs.frozen`."""
        if cls is None:
            return partial(frozen, eq=eq, **options)
        made = attr.frozen(cls, eq=False, repr=False, **options)
        return _dressed(made, cls, {"__eq__": _eq, "__hash__": _hash} if eq else {})


def _dressed(made: Any, written: type, methods: dict[str, Any]) -> Any:
    """Return a class with those of the shared methods that nobody has written for it."""
    for name, method in {"__repr__": _repr, **methods}.items():
        if name not in written.__dict__:
            setattr(made, name, method)
    return made


@recursive_repr()
def _repr(self: Any) -> str:
    shown = []
    for item in fields(type(self)):
        if item.repr:
            value = getattr(self, item.name)
            text = repr(value) if item.repr is True else item.repr(value)
            shown.append(f"{item.name}={text}")
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    values = _compared(self.__class__)
    return values(self) == values(other)


def _hash(self: Any) -> int:
    return hash((type(self), _compared(self.__class__)(self)))


@cache
def _compared(kind: Any) -> Any:
    """Return what gives the values by which two records of a kind are compared."""
    names = [item.name for item in fields(kind) if item.eq]
    return attrgetter(*names) if names else lambda record: ()

"""Records behave as those of attrs do, and cost less to load."""

from __future__ import annotations

import copy
import pickle

import attrs
import pytest

from chatsdk.records import define, evolve, field, frozen


def _classes(module):
    @module.frozen
    class Point:
        x: int
        y: int = field(default=0, repr=False)
        note: str = field(default="", eq=False, repr=len)

    @module.define
    class Box:
        inside: object = None

    @module.frozen(eq=False)
    class Alone:
        x: int = 1

    return Point, Box, Alone


class Ours:
    define, frozen = staticmethod(define), staticmethod(frozen)


@pytest.fixture(params=[Ours, attrs], ids=["ours", "attrs"])
def classes(request):
    return _classes(request.param)


def test_a_repr_shows_what_it_is_meant_to(classes):
    point, box, _ = classes

    assert repr(point(1, 2, "abc")).endswith("Point(x=1, note=3)")
    assert repr(box(point(1))).endswith("Box(inside=" + repr(point(1)) + ")")


def test_a_record_that_holds_itself_has_a_repr(classes):
    _, box, _ = classes
    one = box()
    one.inside = one

    assert repr(one).endswith("Box(inside=...)")


def test_records_are_equal_by_their_values_and_their_class(classes):
    point, box, alone = classes

    assert point(1, 2, "a") == point(1, 2, "b")
    assert point(1, 2) != point(1, 3)
    assert point(1) != (1, 0, "") and not point(1) == box(1)
    assert box([1]) == box([1])
    assert alone() != alone()


def test_only_immutable_records_have_a_hash(classes):
    point, box, alone = classes

    assert hash(point(1, 2, "a")) == hash(point(1, 2, "b"))
    assert {point(1), point(1), point(2)} == {point(1), point(2)}
    assert hash(alone())
    with pytest.raises(TypeError, match="unhashable"):
        hash(box())
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        point(1).x = 2


def test_what_a_class_writes_itself_is_kept(classes):
    point, _, _ = classes

    @frozen
    class Own:
        x: int = 1

        def __repr__(self):
            return "own"

        def __eq__(self, other):
            return True

    assert repr(Own()) == "own" and Own() == point(1)


@frozen
class Base:
    x: int


@frozen
class Derived(Base):
    y: int = 2


def test_a_derived_record_has_the_values_of_its_base():
    assert repr(Derived(1)) == "Derived(x=1, y=2)"
    assert Derived(1) != Base(1) and Derived(1) == Derived(1, 2)
    assert evolve(Derived(1), y=3) == Derived(1, 3)
    assert pickle.loads(pickle.dumps(Derived(1))) == copy.deepcopy(Derived(1)) == Derived(1)

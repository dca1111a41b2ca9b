"""The simulator's embeddings: no model, and yet near where texts are alike."""

from __future__ import annotations

import math
import operator

import pytest

from chatsdk.simulator.vectors import vector


def nearness(first, second):
    return sum(map(operator.mul, vector(first, 64), vector(second, 64)))


@pytest.mark.parametrize("text", ["one", "one two", "Привет, мир", "", " ", "?", "\ud83d"])
def test_a_vector_has_its_size_and_the_length_of_one(text):
    made = vector(text, 16)

    assert len(made) == 16
    assert math.isclose(sum(value * value for value in made), 1, rel_tol=1e-6)
    assert made == vector(text, 16)


def test_texts_with_the_same_words_are_near_each_other():
    assert nearness("the sea is near", "NEAR, the sea!") > nearness("the sea is near", "a tax form")
    assert math.isclose(nearness("a b", "b a"), 1, rel_tol=1e-6)

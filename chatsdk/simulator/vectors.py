"""Embeddings without a model: texts with the same words have vectors that are near each other."""

from __future__ import annotations

import hashlib
import math
import re


def vector(text: str, size: int) -> list[float]:
    """Return a vector of length 1, the same for the same text.

    Args:
        text: Each of its words adds a direction of its own, whatever its case.
        size: Number of components.
    """
    words = re.findall(r"\w+", text.lower()) or [text]
    sums = [0.0] * size
    for word in words:
        for index, value in enumerate(_direction(word, size)):
            sums[index] += value
    length = math.sqrt(sum(value * value for value in sums)) or 1.0
    return [round(value / length, 8) for value in sums]


def _direction(word: str, size: int) -> list[float]:
    data = hashlib.shake_128(word.encode("utf-8", "replace")).digest(2 * size)
    return [int.from_bytes(data[i:i + 2], "big") / 32767.5 - 1 for i in range(0, 2 * size, 2)]

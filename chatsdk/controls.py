"""Control characters in what a model says: a terminal shows them, and does not obey them."""

from __future__ import annotations

# What moves a cursor, changes colours or turns text round is replaced by a picture of itself.
_PICTURES = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)}
_PICTURES |= {0x7F: 0x2421, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}
_PICTURES |= dict.fromkeys([0x061C, 0x200E, 0x200F], 0xFFFD)
_PICTURES |= dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)


def visible(text: str) -> str:
    """Return a text that a terminal shows and does not obey.

    Tabs and line feeds stay; other C0 and C1 controls, DEL, and the characters that turn the
    direction of writing become pictures of themselves or U+FFFD.
    """
    return text.translate(_PICTURES)

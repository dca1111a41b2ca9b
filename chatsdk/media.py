"""Images, sounds and documents: from what people have to what can be sent."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from io import BytesIO
from mimetypes import guess_type
import os
from pathlib import Path
import re
from typing import Any
from urllib.parse import unquote_to_bytes

from chatsdk.messages import Message
from chatsdk.parts import Media

# How a file of each kind begins: (offset, bytes).
_BEGINNINGS: tuple[tuple[str, tuple[tuple[int, bytes], ...]], ...] = (
    ("image/png", ((0, b"\x89PNG\r\n\x1a\n"),)),
    ("image/jpeg", ((0, b"\xff\xd8\xff"),)),
    ("image/gif", ((0, b"GIF8"),)),
    ("image/webp", ((0, b"RIFF"), (8, b"WEBP"))),
    ("image/bmp", ((0, b"BM"),)),
    ("image/heic", ((4, b"ftypheic"),)),
    ("application/pdf", ((0, b"%PDF-"),)),
    ("audio/wav", ((0, b"RIFF"), (8, b"WAVE"))),
    ("audio/mpeg", ((0, b"ID3"),)),
    ("audio/mpeg", ((0, b"\xff\xfb"),)),
    ("audio/mpeg", ((0, b"\xff\xf3"),)),
    ("audio/ogg", ((0, b"OggS"),)),
    ("audio/flac", ((0, b"fLaC"),)),
)
_KINDS = {"image": "image", "audio": "audio", "application": "document", "text": "document"}
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[^,;]*)*),(.*)", re.DOTALL)


def user(text: str, *media: Any) -> Message:
    """Return a message of the user: a text, and what comes with it.

    Args:
        text: The text; always taken as text, whatever it looks like.
        *media: A path, bytes, a URL (``https:`` or ``data:``), a PIL image, or a `Media`.  A str
            is a path or a URL and never text.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: It is none of these.
        ValueError: It is empty, or of a kind that is not known: make a `Media` yourself.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text).__name__}")
    if not media:
        return Message("user", text)
    return Message("user", (text, *(media_from(item) for item in media)))


def image(source: Any, *, mime: str | None = None) -> Media:
    """Return an image: a path, bytes, a URL or a PIL image; ``mime`` where bytes do not tell."""
    return _of_kind("image", media_from(source, mime=mime, kind="image"))


def audio(source: Any, *, mime: str | None = None) -> Media:
    """Return a sound: a path, bytes or a URL; ``mime`` where bytes do not tell."""
    return _of_kind("audio", media_from(source, mime=mime, kind="audio"))


def document(source: Any, *, mime: str | None = None) -> Media:
    """Return a document, a PDF as a rule: a path, bytes or a URL."""
    return _of_kind("document", media_from(source, mime=mime, kind="document"))


def media_from(source: Any, *, mime: str | None = None, kind: str = "image") -> Media:
    """Return what people have as what can be sent.

    Args:
        source: A path, bytes, a URL, a PIL image or a `Media`.
        mime: What it is, where its first bytes do not tell.
        kind: What it is taken for if it is a URL that does not tell by its end.
    """
    if isinstance(source, Media):
        return source
    if isinstance(source, (bytes, bytearray)):
        return _from_bytes(bytes(source), mime, None)
    if isinstance(source, str) and source[:5].lower() == "data:":
        return _from_data_url(source)
    if isinstance(source, str) and re.match(r"https?://", source, re.IGNORECASE):
        known = mime or _by_suffix(source.partition("?")[0].partition("#")[0])
        return Media(_kind_of(known) if known else kind, known, url=source)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return _from_bytes(path.read_bytes(), mime or _by_suffix(path.name), path.name)
    if hasattr(source, "save") and hasattr(source, "mode"):  # a PIL image: no need to import it
        held = BytesIO()
        source.save(held, format="PNG")
        return Media("image", "image/png", held.getvalue())
    raise TypeError(
        "media must be a path, bytes, a URL, a PIL image or a Media,"
        f" not {type(source).__name__}"
    )


def _from_bytes(data: bytes, mime: str | None, name: str | None) -> Media:
    if not data:
        raise ValueError(f"{name or 'the media'} is empty: 0 bytes")
    mime = sniffed(data) or mime
    if mime is None:
        raise ValueError(
            f"what {name or 'this'} is cannot be told from its first bytes; give mime='image/...'"
        )
    return Media(_kind_of(mime), mime, data, name=name)


def _from_data_url(url: str) -> Media:
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise ValueError("the data: URL has no comma before its data")
    mime, options, data = found.groups()
    try:
        decoded = b64decode(data, validate=True) if "base64" in options else unquote_to_bytes(data)
    except Base64Error as error:
        raise ValueError(f"the data: URL is not in base64: {error}") from None
    return _from_bytes(decoded, mime, None)


def sniffed(data: bytes) -> str | None:
    """Return what a file is by its first bytes, or None."""
    for mime, marks in _BEGINNINGS:
        if all(data[offset:offset + len(mark)] == mark for offset, mark in marks):
            return mime
    return None


def _by_suffix(name: str) -> str | None:
    return guess_type(name, strict=False)[0]


def _kind_of(mime: str) -> str:
    kind = _KINDS.get(mime.partition("/")[0])
    if kind is None:
        raise ValueError(f"{mime} is neither an image, nor a sound, nor a document")
    return kind


def _of_kind(kind: str, media: Media) -> Media:
    if media.kind != kind:
        raise ValueError(f"this is no {kind}: {media.mime}")
    return media

"""Text from outside, made harmless for a terminal."""

from __future__ import annotations

from rich.markup import escape

__all__ = ["markup", "plain"]


def plain(value: object, *, most: int = 200) -> str:
    r"""Return text on one line in which nothing controls a terminal, cut after `most` characters.

    Bytes that are no text, and whatever is not printable, show as escapes.

    Examples
    --------
    >>> plain(b"\x1b[2Jred\n\xff")
    '\\x1b[2Jred\\n\\xff'
    >>> plain("abcdef", most=3)
    'abc…'
    """
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else "-" if value is None else str(value)
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text[: most + 1])
    return shown if len(text) <= most else f"{shown[:most]}…"


def markup(value: object, *, most: int = 200) -> str:
    """Return `plain` text that rich prints as it is."""
    return escape(plain(value, most=most))

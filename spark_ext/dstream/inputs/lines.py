"""Lines out of bytes that arrive in pieces, and how many of them may arrive. Pure: no socket, no clock."""

from __future__ import annotations

__all__ = ["Allowance", "Lines"]


class Lines:
    r"""Cuts bytes into lines as Java's BufferedReader does: at ``\n``, ``\r`` or ``\r\n``, UTF-8, U+FFFD for what is not.

    State: the bytes of the line that has not ended, at most the longest line.

    Examples
    --------
    >>> lines = Lines()
    >>> lines.feed(b"a\nb\r"), lines.feed(b"\nc"), lines.end()
    (['a', 'b'], [], ['c'])
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._after_return = False

    def feed(self, piece: bytes) -> list[str]:
        """Take in more bytes; return the lines that have ended."""
        if self._after_return and piece[:1] == b"\n":
            piece = piece[1:]
            self._after_return = False
        if not piece:
            return []
        self._after_return = piece[-1:] == b"\r"
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = piece.rfind(b"\n")
        if end < 0:
            self._rest += piece
            return []
        whole = bytes(self._rest) + piece[:end]
        self._rest = bytearray(piece[end + 1 :])
        return whole.decode("utf-8", "replace").split("\n")

    def end(self) -> list[str]:
        """Return the line that has begun and will not go on, if there is one."""
        rest, self._rest, self._after_return = bytes(self._rest), bytearray(), False
        return [rest.decode("utf-8", "replace")] if rest else []


class Allowance:
    """How many lines may come in, at so many per second on average; at most a tenth of a second's at once.

    Parameters
    ----------
    per_second : float
        Lines per second; 0 or less: no limit.
    now_s : float
        Seconds on any clock that only goes forward.
    """

    def __init__(self, per_second: float, now_s: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second / 10)
        self._saved = self._most
        self._at_s = now_s

    def take(self, wanted: int, now_s: float) -> int:
        """Return how many of the wanted lines may come in now."""
        if self._per_second <= 0:
            return wanted
        self._saved = min(self._most, self._saved + (now_s - self._at_s) * self._per_second)
        self._at_s = now_s
        taken = min(wanted, int(self._saved))
        self._saved -= taken
        return taken

    def wait_s(self) -> float:
        """Return in how many seconds one more line may come in."""
        return 0.0 if self._per_second <= 0 else max(0.0, 1 - self._saved) / self._per_second

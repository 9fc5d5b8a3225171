"""Numbers, times and dates out of bytes: exact, or marked as too hard for a kernel."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from sketches.jit import njit

__all__ = ["BAD_TIME", "EXACT_POWERS", "FAR_YEAR", "FIRST_DAY", "LAST_DAY", "MAX_DIGITS", "days_since_1970", "number_at", "time_at"]

FIRST_DAY: Final = -106_650  # 1678-01-01: whole years within the nanoseconds of pandas, which operators behind us may use
LAST_DAY: Final = 106_650  # 2261-12-31

MAX_DIGITS: Final = 1000  # of one number
EXACT_POWERS: Final = 10.0 ** np.arange(23)  # all of them exact in binary
MANTISSA_DIGITS: Final = 19  # always fit 64 bits
BAD_TIME: Final = np.int64(-(2**63))
FAR_YEAR: Final = np.int64(-(2**63) + 1)  # a time that is well formed but for a year that pandas cannot hold
DAY_US: Final = 86_400_000_000


@njit()
def number_at(data: Any, at: int, end: int) -> tuple[int, bool, np.uint64, int, bool, bool]:
    """Read a JSON number.

    Returns
    -------
    int
        The place behind it, or -1 if it is no JSON number.
    bool
        Whether it has a minus.
    uint64, int
        Its first 19 significant digits and the power of ten they stand for: ``mantissa * 10 ** exponent``.
    bool
        Whether digits other than zero were left out.
    bool
        Whether it is an integer by its form: no point, no exponent.
    """
    bad = (-1, False, np.uint64(0), 0, False, False)
    punctuation = 0
    start = at
    negative = at < end and data[at] == 0x2D
    if negative:
        at += 1
        punctuation += 1
    if at >= end or data[at] < 0x30 or data[at] > 0x39:
        return bad
    mantissa = np.uint64(0)
    digits = 0
    exponent = 0
    cut = False
    if data[at] == 0x30:
        at += 1
    else:
        while at < end and 0x30 <= data[at] <= 0x39:
            if digits < MANTISSA_DIGITS:
                mantissa = mantissa * np.uint64(10) + np.uint64(data[at] - 0x30)
                digits += 1
            else:
                exponent += 1
                cut = cut or data[at] != 0x30
            at += 1
    integer = True
    if at < end and data[at] == 0x2E:
        integer = False
        at += 1
        punctuation += 1
        if at >= end or data[at] < 0x30 or data[at] > 0x39:
            return bad
        while at < end and 0x30 <= data[at] <= 0x39:
            if digits < MANTISSA_DIGITS:
                mantissa = mantissa * np.uint64(10) + np.uint64(data[at] - 0x30)
                exponent -= 1
                if mantissa != 0:
                    digits += 1
            else:
                cut = cut or data[at] != 0x30
            at += 1
    if at < end and (data[at] | 0x20) == 0x65:
        integer = False
        at += 1
        punctuation += 1
        minus = at < end and data[at] == 0x2D
        if at < end and (data[at] == 0x2D or data[at] == 0x2B):
            at += 1
            punctuation += 1
        if at >= end or data[at] < 0x30 or data[at] > 0x39:
            return bad
        power = 0
        while at < end and 0x30 <= data[at] <= 0x39:
            power = min(power * 10 + (data[at] - 0x30), 1_000_000)
            at += 1
        exponent += -power if minus else power
    if at - start - punctuation > MAX_DIGITS:
        return bad
    return at, negative, mantissa, exponent, cut, integer


@njit()
def days_since_1970(year: int, month: int, day: int) -> int:
    """Return the day of a date in the Gregorian calendar, or -2**31 if there is no such date.

    References
    ----------
    Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
    """
    if month < 1 or month > 12 or day < 1:
        return -(2**31)
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        if day > (29 if leap else 28):
            return -(2**31)
    elif day > (30 if month in (4, 6, 9, 11) else 31):
        return -(2**31)
    shifted = year - 1 if month <= 2 else year
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


@njit(forceinline=True)
def _two(data: Any, at: int) -> int:
    """Return the number of two digits, or a large negative one."""
    tens, ones = np.int64(data[at]) - 0x30, np.int64(data[at + 1]) - 0x30
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else -1000


@njit()
def time_at(data: Any, at: int, end: int, date_only: bool) -> int:
    """Read a time with date and zone as microseconds since 1970 UTC, or a date as days.

    Returns
    -------
    int
        The time; digits behind the microseconds are cut. BAD_TIME for anything else; FAR_YEAR for one outside 1678 to 2261.
    """
    first = at
    if at < end and (data[at] == 0x2D or data[at] == 0x2B):
        at += 1
    digits = 0
    while at + digits < end and 0x30 <= data[at + digits] <= 0x39:
        digits += 1
    if at != first or digits > 4:  # a year beyond: well formed enough to say so
        at += digits
        far = digits >= 1 and at < end and data[at] == 0x2D
        return FAR_YEAR if far else BAD_TIME
    if digits < 4 or end - at < 10 or data[at + 4] != 0x2D or data[at + 7] != 0x2D:
        return BAD_TIME
    year = _two(data, at) * 100 + _two(data, at + 2)
    days = days_since_1970(year, _two(data, at + 5), _two(data, at + 8))
    if days == -(2**31):
        return BAD_TIME
    at += 10
    if date_only:
        if at != end:
            return BAD_TIME
        return FAR_YEAR if days < FIRST_DAY or days > LAST_DAY else days
    if end - at < 10 or (data[at] != 0x54 and data[at] != 0x20) or data[at + 3] != 0x3A or data[at + 6] != 0x3A:
        return BAD_TIME
    hour, minute, second = _two(data, at + 1), _two(data, at + 4), _two(data, at + 7)
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return BAD_TIME
    at += 9
    micros = 0
    if data[at] == 0x2E:
        at += 1
        unit = 100_000
        count = 0
        while at < end and 0x30 <= data[at] <= 0x39:
            micros += (np.int64(data[at]) - 0x30) * unit
            unit //= 10
            count += 1
            at += 1
        if count < 1 or count > 9:
            return BAD_TIME
    offset = _zone(data, at, end)
    if offset == BAD_TIME:
        return BAD_TIME
    time = days * DAY_US + ((hour * 60 + minute - offset) * 60 + second) * 1_000_000 + micros
    return FAR_YEAR if time < FIRST_DAY * DAY_US or time >= (LAST_DAY + 1) * DAY_US else time


@njit()
def _zone(data: Any, at: int, end: int) -> int:
    """Return the minutes by which a zone is ahead of UTC, or BAD_TIME."""
    left = end - at
    if left == 1 and data[at] == 0x5A:
        return 0
    if left not in (3, 5, 6) or (data[at] != 0x2B and data[at] != 0x2D):
        return BAD_TIME
    hours = _two(data, at + 1)
    minutes = 0
    if left == 5:
        minutes = _two(data, at + 3)
    elif left == 6:
        if data[at + 3] != 0x3A:
            return BAD_TIME
        minutes = _two(data, at + 4)
    total = hours * 60 + minutes
    if hours < 0 or minutes < 0 or minutes > 59 or total > 18 * 60:
        return BAD_TIME
    return -total if data[at] == 0x2D else total

"""XXH64 and MurmurHash3 as their specifications tell them, in Python's integers: slow, and sharing no code with the sketches."""

from __future__ import annotations

WORD = (1 << 64) - 1
PRIMES = (11400714785074694791, 14029467366897019727, 1609587929392839161, 9650029242287828579, 2870177450012600261)


def _left(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & WORD


def _round(lane: int, word: int) -> int:
    return _left((lane + word * PRIMES[1]) & WORD, 31) * PRIMES[0] & WORD


def xxh64(data: bytes, seed: int = 42) -> int:
    """Return XXH64 (Collet, specification 0.2.0)."""
    p1, p2, p3, p4, p5 = PRIMES
    at = 0
    if len(data) >= 32:
        lanes = [(seed + p1 + p2) & WORD, (seed + p2) & WORD, seed & WORD, (seed - p1) & WORD]
        while len(data) - at >= 32:
            for lane in range(4):
                lanes[lane] = _round(lanes[lane], int.from_bytes(data[at : at + 8], "little"))
                at += 8
        h = sum(_left(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & WORD
        for lane in lanes:
            h = ((h ^ _round(0, lane)) * p1 + p4) & WORD
    else:
        h = (seed + p5) & WORD
    h = (h + len(data)) & WORD
    while len(data) - at >= 8:
        h = (_left(h ^ _round(0, int.from_bytes(data[at : at + 8], "little")), 27) * p1 + p4) & WORD
        at += 8
    if len(data) - at >= 4:
        h = (_left(h ^ (int.from_bytes(data[at : at + 4], "little") * p1 & WORD), 23) * p2 + p3) & WORD
        at += 4
    for byte in data[at:]:
        h = _left(h ^ (byte * p5 & WORD), 11) * p1 & WORD
    h = (h ^ h >> 33) * p2 & WORD
    h = (h ^ h >> 29) * p3 & WORD
    return h ^ h >> 32


def murmur3(data: bytes, seed: int = 9001) -> tuple[int, int]:
    """Return both halves of MurmurHash3_x64_128 (Appleby)."""
    c1, c2 = 0x87C37B91114253D5, 0x4CF5AD432745937F
    h1 = h2 = seed

    def first(word: int) -> int:
        return _left(word * c1 & WORD, 31) * c2 & WORD

    def second(word: int) -> int:
        return _left(word * c2 & WORD, 33) * c1 & WORD

    whole = len(data) // 16 * 16
    for at in range(0, whole, 16):
        h1 ^= first(int.from_bytes(data[at : at + 8], "little"))
        h1 = ((_left(h1, 27) + h2) * 5 + 0x52DCE729) & WORD
        h2 ^= second(int.from_bytes(data[at + 8 : at + 16], "little"))
        h2 = ((_left(h2, 31) + h1) * 5 + 0x38495AB5) & WORD
    tail = data[whole:]
    if len(tail) > 8:
        h2 ^= second(int.from_bytes(tail[8:], "little"))
    if tail:
        h1 ^= first(int.from_bytes(tail[:8], "little"))
    h1 ^= len(data)
    h2 ^= len(data)
    h1 = (h1 + h2) & WORD
    h2 = (h2 + h1) & WORD
    h1, h2 = _mixed(h1), _mixed(h2)
    h1 = (h1 + h2) & WORD
    return h1, (h2 + h1) & WORD


def _mixed(h: int) -> int:
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCD & WORD
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53 & WORD
    return h ^ h >> 33

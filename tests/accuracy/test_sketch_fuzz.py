"""A million damaged and hostile byte strings of every kind of sketch."""

from __future__ import annotations

import os

import pytest

from tests.sketch_fuzz import attack, kinds

TIMES = int(os.environ.get("MILLRACE_FUZZ", "1_000_000"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", sorted(kinds()))
def test_a_million_damaged_byte_strings_do_no_harm(kind: str) -> None:
    outcome = attack(kind, TIMES, seed=2026)
    print(f"{kind}: {outcome}")  # noqa: T201 (seen with -s)
    assert outcome.tried > 0.9 * TIMES
    assert outcome.accepted < outcome.sealed < outcome.tried

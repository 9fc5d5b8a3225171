"""Damaged and hostile bytes of every kind of sketch are refused, or are a sketch; the slow suite tries a million of each."""

from __future__ import annotations

import pytest

from sketches.envelope import KINDS
from tests.sketch_fuzz import attack, kinds, samples


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_damaged_bytes_do_no_harm(kind: str) -> None:
    outcome = attack(kind, 2000, seed=1)
    assert outcome.tried > 1900
    assert outcome.sealed > 700  # the checksum alone keeps out the others
    assert outcome.accepted < outcome.sealed


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_valid_bytes_are_read(kind: str) -> None:
    for data in samples(kind):
        assert kinds()[kind].from_bytes(data).to_bytes() == data


def test_each_kind_has_a_number() -> None:
    assert set(kinds()) <= set(KINDS.values())

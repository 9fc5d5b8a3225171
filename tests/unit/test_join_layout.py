"""Names that a join adds are nobody else's."""

from __future__ import annotations

import pyarrow as pa
import pytest

from spark_ext.errors import SchemaError
from spark_ext.joins.layout import STAMP, Layout, Side


def layout(left: str, right: str, suffix: str = "_right") -> Layout:
    sides = [Side(pa.schema([("k", pa.string()), ("at", STAMP), (name, pa.int64())]), ("k",), "at") for name in (left, right)]
    return Layout(sides[0], sides[1], "full", suffix, 0, 2**53, 10)


@pytest.mark.parametrize("name", ["tag", "side", "Lateness_ms", "_key_hash", "_matched", "_SEEN_us"])
def test_a_column_with_a_name_of_ours_is_refused(name: str) -> None:
    with pytest.raises(SchemaError, match=f"cannot join left side with columns '{name}': expected columns with names of their own"):
        layout(name, "w")
    with pytest.raises(SchemaError, match=f"cannot join right side with columns '{name}'"):
        layout("v", name)


@pytest.mark.parametrize(("name", "suffix"), [("lateness", "_ms"), ("si", "de")])
def test_a_suffix_does_not_make_such_a_name(name: str, suffix: str) -> None:
    with pytest.raises(SchemaError, match=f"names that differ, none of them tag, .* with suffix '{suffix}'; give another suffix"):
        layout(name, name, suffix)


def test_names_that_differ_in_case_are_one() -> None:
    assert layout("v", "V").result.names == ["k", "at", "v", "at_right", "V_right"]

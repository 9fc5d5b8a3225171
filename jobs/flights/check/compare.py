"""Every difference between two frames, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["differences"]

RELATIVE_TOLERANCE = 1e-9  # floats only: sums in another order; everything else must be equal


def differences(table: str, expected: pd.DataFrame, got: pd.DataFrame, keys: list[str]) -> list[str]:
    """Compare all rows and all columns of `expected` with `got`, whatever the order.

    Parameters
    ----------
    table : str
        Name for the texts.
    expected, got : DataFrame
        `keys` are unique in `expected`. Columns that only `got` has are not looked at.
    keys : list of str
        Columns that name a row.

    Returns
    -------
    list of str
        ``<table> <key>, <column>: expected <x>, got <y>``, one for each row lost, extra or given twice, and for each
        value that differs. Empty if all is equal.
    """
    absent = [name for name in expected.columns if name not in got.columns]
    texts = [f"{table}: expected a column {name!r}, got {list(got.columns)}" for name in absent]
    if set(absent) & set(keys):
        return texts
    wanted, found = expected.set_index(keys), got.set_index(keys)
    repeated = found.index.duplicated()
    texts += [f"{table} {_name(keys, key)}: expected one row, got another" for key in found.index[repeated]]
    found = found[~repeated]

    position = found.index.get_indexer(wanted.index)
    lost = position < 0
    texts += [f"{table} {_name(keys, key)}: expected a row, got none" for key in wanted.index[lost]]
    extra = np.ones(len(found), dtype=bool)
    extra[position[~lost]] = False
    texts += [f"{table} {_name(keys, key)}: expected no row, got one" for key in found.index[extra]]

    wanted, found = wanted[~lost], found.iloc[position[~lost]]
    for name in [name for name in wanted.columns if name not in absent]:
        wrong = _differ(wanted[name].reset_index(drop=True), found[name].reset_index(drop=True))
        triples = zip(wanted.index[wrong], wanted[name][wrong], found[name][wrong], strict=True)
        texts += [f"{table} {_name(keys, key)}, {name}: expected {_value(x)}, got {_value(y)}" for key, x, y in triples]
    return texts


def _differ(expected: pd.Series, got: pd.Series) -> npt.NDArray[np.bool_]:
    nothing, missing = expected.isna().to_numpy(), got.isna().to_numpy()
    if pd.api.types.is_float_dtype(expected) and pd.api.types.is_numeric_dtype(got):
        x, y = (column.to_numpy(dtype="float64", na_value=np.nan) for column in (expected, got))
        same = np.isclose(y, x, rtol=RELATIVE_TOLERANCE, atol=0)
    else:
        same = expected.eq(got).to_numpy(dtype=bool, na_value=False)
    differ: npt.NDArray[np.bool_] = np.where(nothing | missing, nothing != missing, ~same)
    return differ


def _name(keys: list[str], key: Any) -> str:
    values = key if isinstance(key, tuple) else (key,)
    return "(" + ", ".join(f"{name} {_value(value)}" for name, value in zip(keys, values, strict=True)) + ")"


def _value(value: Any) -> str:
    if isinstance(value, bytes):
        return repr(value)
    if pd.isna(value):
        return "null"
    return value.isoformat() if isinstance(value, pd.Timestamp) else str(value)

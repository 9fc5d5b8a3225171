"""Every public name of `pyspark.streaming` in 4.2, with its parameters: their names, order, kinds and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pyspark.streaming
import pytest
from pyspark.streaming.dstream import DStream as TheirDStream
from pyspark.streaming.dstream import TransformedDStream as TheirTransformed

from spark_ext import dstream
from spark_ext.dstream.dstream import TransformedDStream

PAIRS = [
    (dstream.StreamingContext, pyspark.streaming.StreamingContext),
    (dstream.DStream, TheirDStream),
    (TransformedDStream, TheirTransformed),
    (dstream.StreamingListener, pyspark.streaming.StreamingListener),
]
NOT_OF_A_PROGRAM = {"Java"}  # how py4j is told about a listener


def members() -> Iterator[Any]:
    for ours, theirs in PAIRS:
        for name in dir(theirs):
            if (not name.startswith("_") or name == "__init__") and name not in NOT_OF_A_PROGRAM:
                is_made_inside = name == "__init__" and "DStream" in theirs.__name__
                if not is_made_inside:
                    yield pytest.param(ours, theirs, name, id=f"{theirs.__name__}.{name}")


def parameters(kind: type, name: str) -> list[tuple[str, Any, Any]]:
    return [(one.name, one.kind, one.default) for one in inspect.signature(getattr(kind, name)).parameters.values()]


@pytest.mark.parametrize(("ours", "theirs", "name"), list(members()))
def test_a_public_name_is_there_with_the_same_parameters(ours: type, theirs: type, name: str) -> None:
    mine = inspect.getattr_static(ours, name)
    other = inspect.getattr_static(theirs, name)
    assert isinstance(mine, property) == isinstance(other, property)
    assert isinstance(mine, classmethod) == isinstance(other, classmethod)
    if isinstance(other, property):
        return
    wanted = parameters(theirs, name)
    found = parameters(ours, name)
    assert found[: len(wanted)] == wanted
    assert all(kind is inspect.Parameter.KEYWORD_ONLY for _, kind, _ in found[len(wanted) :])


def test_there_is_something_to_compare() -> None:
    assert len(list(members())) > 65


def test_streams_have_the_public_attributes() -> None:
    names = {"is_cached", "is_checkpointed"}
    assert names <= set(inspect.getsource(TheirDStream.__init__).replace("self.", " ").split())
    assert names <= set(inspect.getsource(dstream.DStream.__init__).replace("self.", " ").split())


def test_the_package_has_the_names_that_theirs_has() -> None:
    assert set(pyspark.streaming.__all__) <= set(dstream.__all__)

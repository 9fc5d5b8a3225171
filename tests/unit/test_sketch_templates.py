"""A kind and its parameters, through JSON, make the empty sketch they were taken from."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

import sketches
from sketches.base import Sketch
from sketches.envelope import KINDS
from sketches.errors import SketchError
from sketches.templates import template_of
from tests.sketch_fuzz import kinds, samples

ODD: list[Sketch] = [
    sketches.HyperLogLog(9, hash="xxh64"),
    sketches.CountMinSketch(3, 100, conservative=True),
    sketches.HeavyHitters(0.1 + 0.2, 4, 64, conservative=True),
    *(
        sketches.DecayingWindow(half_life)
        for half_life in (timedelta(microseconds=1), timedelta(hours=25), timedelta(days=900, milliseconds=3), timedelta(days=1))
    ),
    sketches.DecayingTop(7, timedelta(days=2, seconds=1)),
]


def test_every_kind_of_stored_bytes_has_a_template() -> None:
    assert set(kinds()) == set(KINDS.values())


@pytest.mark.parametrize("kind", sorted(KINDS.values()))
def test_what_a_sketch_says_of_itself_makes_an_empty_one_that_takes_it_in(kind: str) -> None:
    for data in samples(kind):
        sketch: Any = kinds()[kind].from_bytes(data)
        made = template_of(kind, json.loads(json.dumps(sketch.parameters)))
        assert (type(made), made.parameters, made.is_empty) == (type(sketch), sketch.parameters, True)
        made.merge(sketch)


@pytest.mark.parametrize("sketch", ODD, ids=repr)
def test_odd_parameters_come_back(sketch: Sketch) -> None:
    made = template_of(sketch.KIND, json.loads(json.dumps(sketch.parameters)))
    assert made.to_bytes() == sketch.to_bytes()


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("hyperlog", {}, r"cannot make sketch 'hyperlog': expected one of bloom, .*; correct the name"),
        ("hyperloglog", {"precision": 12}, r"expected all of \{'precision': 12, 'hash': 'xxh64'\}, got \{'precision': 12\}"),
        ("hyperloglog", {"precision": 12, "hash": "xxh64", "x": 1}, r"expected the parameters that its class names, got .*'x'"),
        ("hyperloglog", {"precision": 99, "hash": "xxh64"}, "cannot use parameter 'precision'"),
        ("bloom", {}, "expected the parameters that its class names"),
        ("decaying", {"half_life": "soon"}, "half_life"),
        ("decaying", {"half_life": "99:99:99"}, "expected all of"),
        ("reservoir", {"size": 3, "seed": 1}, "expected all of"),
    ],
)
def test_others_are_refused(kind: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(SketchError, match=message):
        template_of(kind, parameters)

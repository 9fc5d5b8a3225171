"""An empty sketch from what is written down about one: its kind and its parameters, as schemas and settings keep them.

The inverse of ``sketch.KIND, sketch.parameters``; both are plain JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import sketches
from sketches.base import Sketch
from sketches.errors import SketchError

__all__ = ["template_of"]

CLASSES: Final = {
    "bloom": "BloomFilter",
    "classic_bloom": "ClassicBloomFilter",
    "rotating_bloom": "RotatingBloomFilter",
    "hyperloglog": "HyperLogLog",
    "ultraloglog": "UltraLogLog",
    "count_min": "CountMinSketch",
    "reservoir": "ReservoirSample",
    "weighted_reservoir": "WeightedReservoirSample",
    "stratified_reservoir": "StratifiedReservoirSample",
    "misra_gries": "MisraGries",
    "space_saving": "SpaceSaving",
    "decaying": "DecayingWindow",
    "decaying_top": "DecayingTop",
    "quantiles": "Quantiles",
    "heavy_hitters": "HeavyHitters",
}
DURATION: Final = re.compile(r"(?:(\d{1,9}) days?, )?(\d{1,2}):(\d\d):(\d\d)(?:\.(\d{6}))?")  # what `str` makes of a timedelta


def template_of(kind: str, parameters: Mapping[str, Any]) -> Sketch:
    """Return an empty sketch of a kind and its parameters; samples and quantiles begin with the seed that they have by default.

    Parameters
    ----------
    kind : str
        A `Sketch.KIND`.
    parameters : mapping of str to int, float, str or bool
        A `Sketch.parameters`, all of it.

    Raises
    ------
    SketchError
        There is no such kind, or it has other parameters.

    Examples
    --------
    >>> template_of("hyperloglog", {"precision": 12, "hash": "xxh64"})
    HyperLogLog(precision=12, hash='xxh64')
    """
    if kind not in CLASSES:
        expected = f"one of {', '.join(sorted(CLASSES))}"
        raise SketchError("make", "sketch", str(kind), expected=expected, got="no such kind", todo="correct the name")
    try:
        made: Sketch = getattr(sketches, CLASSES[kind])(**{name: _argument(name, value) for name, value in parameters.items()})
    except TypeError as error:
        raise _refused(kind, parameters, "the parameters that its class names", str(error)) from error
    if made.parameters != dict(parameters):
        raise _refused(kind, parameters, f"all of {made.parameters}", repr(dict(parameters)))
    return made


def _argument(name: str, value: Any) -> Any:
    found = DURATION.fullmatch(value) if name == "half_life" and isinstance(value, str) else None
    if found is None:
        return value
    days, hours, minutes, seconds, micros = (int(part or 0) for part in found.groups())
    return timedelta(days, seconds, micros, 0, minutes, hours)


def _refused(kind: str, parameters: Mapping[str, Any], expected: str, got: str) -> SketchError:
    why = f"the parameters are {dict(parameters)}"
    return SketchError("make", "sketch", kind, expected=expected, got=got, why=why, todo="take what sketch.parameters gives, unchanged")

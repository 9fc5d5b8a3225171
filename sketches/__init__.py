"""Sketches: small summaries of large streams, mergeable, with bounds. They need NumPy only; see README.md beside this file.

Names are loaded when first used, so that importing one sketch does not compile, or even load, the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sketches.base import Sketch
    from sketches.bloom import BloomFilter
    from sketches.classic_bloom import ClassicBloomFilter
    from sketches.columns import hashes
    from sketches.count_min import CountMinSketch
    from sketches.datasketches_hll import from_datasketches, to_datasketches
    from sketches.decaying import DecayingWindow
    from sketches.decaying_top import DecayingTop
    from sketches.distinct import Interval
    from sketches.envelope import kind_of
    from sketches.errors import SketchBytesError, SketchError, SketchTypeError
    from sketches.grouped import Grouped
    from sketches.heavy_hitters import HeavyHitters
    from sketches.hot_list import Hot
    from sketches.hyperloglog import HyperLogLog
    from sketches.misra_gries import MisraGries
    from sketches.quantiles import Quantiles
    from sketches.reservoir import ReservoirSample
    from sketches.rotating_bloom import RotatingBloomFilter
    from sketches.space_saving import SpaceSaving
    from sketches.stratified_reservoir import StratifiedReservoirSample
    from sketches.ultraloglog import UltraLogLog
    from sketches.weighted_reservoir import WeightedReservoirSample

__all__ = [
    "BloomFilter",
    "ClassicBloomFilter",
    "CountMinSketch",
    "DecayingTop",
    "DecayingWindow",
    "Grouped",
    "HeavyHitters",
    "Hot",
    "HyperLogLog",
    "Interval",
    "MisraGries",
    "Quantiles",
    "ReservoirSample",
    "RotatingBloomFilter",
    "Sketch",
    "SketchBytesError",
    "SketchError",
    "SketchTypeError",
    "SpaceSaving",
    "StratifiedReservoirSample",
    "UltraLogLog",
    "WeightedReservoirSample",
    "from_datasketches",
    "hashes",
    "kind_of",
    "to_datasketches",
]

HOMES: Final = {
    "BloomFilter": "bloom",
    "ClassicBloomFilter": "classic_bloom",
    "CountMinSketch": "count_min",
    "DecayingTop": "decaying_top",
    "DecayingWindow": "decaying",
    "Grouped": "grouped",
    "HeavyHitters": "heavy_hitters",
    "Hot": "hot_list",
    "HyperLogLog": "hyperloglog",
    "Interval": "distinct",
    "MisraGries": "misra_gries",
    "Quantiles": "quantiles",
    "ReservoirSample": "reservoir",
    "RotatingBloomFilter": "rotating_bloom",
    "Sketch": "base",
    "SketchBytesError": "errors",
    "SketchError": "errors",
    "SketchTypeError": "errors",
    "SpaceSaving": "space_saving",
    "StratifiedReservoirSample": "stratified_reservoir",
    "UltraLogLog": "ultraloglog",
    "WeightedReservoirSample": "weighted_reservoir",
    "from_datasketches": "datasketches_hll",
    "hashes": "columns",
    "kind_of": "envelope",
    "to_datasketches": "datasketches_hll",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *HOMES})

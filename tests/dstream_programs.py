"""Random DStream programs: each is built of the same words for any StreamingContext, and has an obvious model in lists.

A model stream knows its slide (in batches) and gives, for batch n = 1, 2, ..., a list of elements or None where the stream has no rows.
"""

from __future__ import annotations

import operator
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

ODD_KEYS = ["x", None, 1, True, 1.0, 2**64, "\ud800", "é", ("x", 1), ("x", None), ((), 0.5), 2.5, -0.0, 0, b"x", -1, -(2**63)]
INTERVAL_S = 1  # in the programs' words; the runner scales it


class Model:
    """A stream in lists; each batch is computed once."""

    def __init__(self, slide: int, rows: Callable[[int], list[Any] | None]) -> None:
        self.slide = slide
        self._rows = rows
        self._made: dict[int, list[Any] | None] = {}

    def at(self, n: int) -> list[Any] | None:
        if n <= 0 or n % self.slide:
            return None
        if n not in self._made:
            self._made[n] = self._rows(n)
        return self._made[n]

    def each(self, function: Callable[[list[Any]], list[Any]]) -> Model:
        def rows(n: int) -> list[Any] | None:
            found = self.at(n)
            return None if found is None else function(found)

        return Model(self.slide, rows)

    def span(self, first: int, last: int) -> list[list[Any]]:
        """What the stream gave from batch `first` to batch `last`, both included."""
        return [found for n in range(first, last + 1) if (found := self.at(n)) is not None]


def by_key(pairs: list[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups


def reduced(function: Callable[[Any, Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda pairs: [(key, reduce(function, values)) for key, values in by_key(pairs).items()]


def joined(left: list[Any], right: list[Any], *, left_outer: bool, right_outer: bool) -> list[Any]:
    a, b = by_key(left), by_key(right)
    return [
        (key, (x, y))
        for key in a.keys() | b.keys()
        for x in a.get(key, [None] if right_outer else [])
        for y in b.get(key, [None] if left_outer else [])
    ]


def window(parent: Model, length: int, slide: int) -> Model:
    return Model(slide, lambda n: [element for found in parent.span(n - length + 1, n) for element in found])


def reduced_window(
    parent: Model,
    function: Callable[[Any, Any], Any],
    inverse: Callable[[Any, Any], Any] | None,
    length: int,
    slide: int,
    keep: Callable[[Any], bool] | None = None,
) -> Model:
    """As Spark: with an inverse and at least five slides to the window, a key stays once it was there; else it is all reduced anew."""
    each = parent.each(reduced(function))
    if inverse is None:
        return window(each, length, slide).each(reduced(function))

    def anew(parts: list[list[Any]]) -> list[Any]:
        return reduced(function)([pair for part in parts for pair in part])

    def rows(n: int) -> list[Any] | None:
        before = whole.at(n - slide)
        if before is not None and length >= 5 * slide:
            leaving = dict(anew(each.span(n - slide - length + 1, n - length)))
            kept = [(key, inverse(value, leaving[key]) if key in leaving else value) for key, value in before]
            found = anew([kept, anew(each.span(n - slide + 1, n))])
        else:
            found = anew(each.span(n - length + 1, n))
        return [pair for pair in found if keep(pair)] if keep else found

    whole = Model(slide, rows)
    return whole


def updated(parent: Model, function: Callable[[list[Any], Any], Any]) -> Model:
    def rows(n: int) -> list[Any] | None:
        before = dict(whole.at(n - parent.slide) or [])
        new = by_key(parent.at(n) or [])
        after = [(key, function(new.get(key, []), before.get(key))) for key in before.keys() | new.keys()]
        return [pair for pair in after if pair[1] is not None]

    whole = Model(parent.slide, rows)
    return whole


@dataclass
class Stream:
    """A stream under construction: what the program says, how to build it, and its model."""

    kind: str  # "int", "str" or "pair" (of a short key and an int)
    text: str
    build: Callable[[list[Any]], Any]
    model: Model

    def then(self, kind: str, text: str, build: Callable[[Any], Any], model: Model) -> Stream:
        return Stream(kind, f"{self.text}.{text}", lambda sources: build(self.build(sources)), model)


def total(new: list[int], old: int | None) -> int | None:
    value = sum(new) + (old or 0)
    return None if value % 7 == 3 else value


def latest(new: list[int], old: tuple[int, int] | None) -> tuple[int, int] | None:
    seen, quiet = old or (0, 0)
    return (seen + len(new), 0 if new else quiet + 1) if quiet < 2 else None


def element_wise(stream: Stream, rng: random.Random) -> Stream:
    m = stream.model
    if stream.kind == "int":
        choices = [
            ("int", "map(x + 1)", lambda d: d.map(lambda x: x + 1), m.each(lambda rows: [x + 1 for x in rows])),
            ("int", "filter(even)", lambda d: d.filter(lambda x: x % 2 == 0), m.each(lambda rows: [x for x in rows if x % 2 == 0])),
            ("int", "flatMap(range)", lambda d: d.flatMap(lambda x: range(x % 3)),
             m.each(lambda rows: [y for x in rows for y in range(x % 3)])),
            ("pair", "map(x % 3, x)", lambda d: d.map(lambda x: (x % 3, x)), m.each(lambda rows: [(x % 3, x) for x in rows])),
            ("pair", "map(x, 1)", lambda d: d.map(lambda x: (x, 1)), m.each(lambda rows: [(x, 1) for x in rows])),
            ("int", "mapPartitions(sorted)", lambda d: d.mapPartitions(sorted), m),
            ("int", "cache", lambda d: d.cache(), m),
        ]  # fmt: skip
    elif stream.kind == "str":
        choices = [
            ("str", "flatMap(split)", lambda d: d.flatMap(lambda line: line.split(" ")),
             m.each(lambda rows: [w for x in rows for w in x.split(" ")])),
            ("str", "flatMap(str.split)", lambda d: d.flatMap(str.split), m.each(lambda rows: [w for x in rows for w in x.split()])),
            ("int", "map(len)", lambda d: d.map(len), m.each(lambda rows: [len(x) for x in rows])),
            ("pair", "map(x, 1)", lambda d: d.map(lambda x: (x, 1)), m.each(lambda rows: [(x, 1) for x in rows])),
            ("str", "map(upper)", lambda d: d.map(lambda x: x.upper()), m.each(lambda rows: [x.upper() for x in rows])),
        ]  # fmt: skip
    else:
        choices = [
            ("pair", "mapValues(-v)", lambda d: d.mapValues(lambda v: -v), m.each(lambda rows: [(k, -v) for k, v in rows])),
            ("pair", "flatMapValues", lambda d: d.flatMapValues(lambda v: [v, v + 1]),
             m.each(lambda rows: [(k, w) for k, v in rows for w in (v, v + 1)])),
            ("pair", "filter(v > 1)", lambda d: d.filter(lambda kv: kv[1] > 1), m.each(lambda rows: [p for p in rows if p[1] > 1])),
            ("int", "map(kv[1])", lambda d: d.map(lambda kv: kv[1]), m.each(lambda rows: [v for _, v in rows])),
            ("pair", "partitionBy(3)", lambda d: d.partitionBy(3), m),
        ]  # fmt: skip
    return stream.then(*rng.choice(choices))


def with_other(stream: Stream, other: Stream, rng: random.Random) -> Stream:
    """Two streams of pairs, of one slide, that come from different inputs."""
    a, b = stream.model, other.model

    def of_both(function: Callable[[list[Any], list[Any]], list[Any]]) -> Model:
        return Model(a.slide, lambda n: None if (left := a.at(n)) is None else function(left, b.at(n) or []))

    def inner(left: list[Any], right: list[Any]) -> list[Any]:
        return [(k, v + w) for k, (v, w) in joined(left, right, left_outer=False, right_outer=False)]

    def right_outer(left: list[Any], right: list[Any]) -> list[Any]:
        return [(k, (v or 0) - w) for k, (v, w) in joined(left, right, left_outer=False, right_outer=True)]

    def sizes(left: list[Any], right: list[Any]) -> list[Any]:
        x, y = by_key(left), by_key(right)
        return [(k, len(x.get(k, ())) * 10 + len(y.get(k, ()))) for k in x.keys() | y.keys()]

    choices: list[tuple[str, Callable[[Any, Any], Any], Model]] = [
        ("join(other, 3)", lambda d, o: d.join(o, 3).mapValues(sum), of_both(inner)),
        ("join(other partitionBy 3, 2)", lambda d, o: d.partitionBy(2).join(o.partitionBy(3), 2).mapValues(sum), of_both(inner)),
        ("join(other partitionBy 3, 3)", lambda d, o: d.partitionBy(3).join(o.partitionBy(3), 3).mapValues(sum), of_both(inner)),
        ("rightOuterJoin(other)", lambda d, o: d.rightOuterJoin(o).mapValues(lambda v: (v[0] or 0) - v[1]), of_both(right_outer)),
        ("cogroup(other)", lambda d, o: d.cogroup(o).mapValues(lambda v: len(list(v[0])) * 10 + len(list(v[1]))), of_both(sizes)),
        ("union(other)", lambda d, o: d.union(o), of_both(lambda left, right: left + right)),
        ("transformWith(other)", lambda d, o: d.transformWith(lambda x, y: x.union(y).reduceByKey(max), o),
         of_both(lambda left, right: reduced(max)(left + right))),
    ]  # fmt: skip
    text, build, model = rng.choice(choices)
    return Stream(
        "pair", f"{stream.text}.{text} of {other.text}", lambda sources: build(stream.build(sources), other.build(sources)), model
    )


def whole_batch(stream: Stream, rng: random.Random) -> Stream:
    m = stream.model
    choices: list[tuple[str, str, Callable[[Any], Any], Model]] = [
        ("int", "count", lambda d: d.count(), m.each(lambda rows: [len(rows)])),
        ("pair", "countByValue", lambda d: d.countByValue(), m.each(lambda rows: list(Counter(rows).items()))),
        (stream.kind, "repartition(3)", lambda d: d.repartition(3), m),
        (stream.kind, "union(self)", lambda d: d.union(d), m.each(lambda rows: rows + rows)),
        (stream.kind, "transformWith(union)", lambda d: d.transformWith(lambda _, a, b: a.union(b), d), m.each(lambda rows: rows + rows)),
        (stream.kind, "cache", lambda d: d.cache(), m),
        (stream.kind, "transform(distinct)", lambda d: d.transform(lambda rdd: rdd.distinct()), m.each(lambda rows: list(set(rows)))),
    ]
    if stream.kind == "int":
        choices += [
            ("int", "reduce(add)", lambda d: d.reduce(operator.add), m.each(lambda rows: [sum(rows)] if rows else [])),
            ("int", "reduce(max)", lambda d: d.reduce(max), m.each(lambda rows: [max(rows)] if rows else [])),
        ]
    if stream.kind == "pair":
        small = lambda rows: [(k, v) for k, v in rows if v % 2]  # noqa: E731 (used twice, here)
        choices = [
            ("pair", "reduceByKey(add)", lambda d: d.reduceByKey(operator.add), m.each(reduced(operator.add))),
            ("pair", "reduceByKey(a + b)", lambda d: d.reduceByKey(lambda a, b: a + b, 3), m.each(reduced(operator.add))),
            ("pair", "reduceByKey(min)", lambda d: d.reduceByKey(min), m.each(reduced(min))),
            ("pair", "reduceByKey(xor)", lambda d: d.reduceByKey(lambda a, b: a ^ b), m.each(reduced(operator.xor))),
            ("pair", "groupByKey.sum", lambda d: d.groupByKey().mapValues(sum), m.each(reduced(operator.add))),
            ("pair", "combineByKey(count)", lambda d: d.combineByKey(lambda v: 1, lambda c, v: c + 1, lambda a, b: a + b),
             m.each(lambda rows: [(k, len(v)) for k, v in by_key(rows).items()])),
            ("pair", "join(odd).sum", lambda d: d.join(d.filter(lambda kv: kv[1] % 2 == 1)).mapValues(sum),
             m.each(lambda rows: [(k, sum(v)) for k, v in joined(rows, small(rows), left_outer=False, right_outer=False)])),
            ("pair", "leftOuterJoin(odd)",
             lambda d: d.leftOuterJoin(d.filter(lambda kv: kv[1] % 2 == 1)).mapValues(lambda v: v[0] + (v[1] or 0)),
             m.each(lambda rows: [(k, v[0] + (v[1] or 0)) for k, v in joined(rows, small(rows), left_outer=True, right_outer=False)])),
            ("pair", "fullOuterJoin(x2)",
             lambda d: d.map(lambda kv: (kv[0], 2)).fullOuterJoin(d.filter(lambda kv: kv[1] % 2 == 1)).mapValues(
                 lambda v: (v[0] or 0) + (v[1] or 0)),
             m.each(lambda rows: [(k, (v[0] or 0) + (v[1] or 0)) for k, v in joined([(k, 2) for k, _ in rows], small(rows), left_outer=True,
                                                                                    right_outer=True)])),
            ("pair", "cogroup",
             lambda d: d.cogroup(d.filter(lambda kv: kv[1] % 2 == 1)).mapValues(lambda v: len(v[0]) * 10 + len(v[1])),
             m.each(lambda rows: [(k, len(v) * 10 + len(by_key(small(rows)).get(k, []))) for k, v in by_key(rows).items()])),
        ]  # fmt: skip
    return stream.then(*rng.choice(choices))


def over_time(stream: Stream, rng: random.Random, scale: float) -> Stream:
    m, step = stream.model, stream.model.slide
    slide = step * rng.choice([1, 1, 2])
    length = slide * rng.choice([1, 2, 3, 5, 6])
    w, s = length * scale, slide * scale
    ones = m.each(lambda rows: [(1, 1)] * len(rows))
    counted = reduced_window(ones, operator.add, operator.sub, length, slide).each(lambda rows: [v for _, v in rows])
    choices: list[tuple[str, str, Callable[[Any], Any], Model]] = [
        (stream.kind, f"window({length}, {slide})", lambda d: d.window(w, s), window(m, length, slide)),
        ("int", f"countByWindow({length}, {slide})", lambda d: d.countByWindow(w, s), counted),
        ("pair", f"countByValueAndWindow({length}, {slide})", lambda d: d.countByValueAndWindow(w, s),
         window(m, length, slide).each(lambda rows: list(Counter(rows).items()))),
    ]  # fmt: skip
    if stream.kind == "pair":
        positive = lambda kv: kv[1] > 0  # noqa: E731 (a filter of both sides)
        choices += [
            ("pair", f"reduceByKeyAndWindow(add, None, {length}, {slide})", lambda d: d.reduceByKeyAndWindow(operator.add, None, w, s),
             reduced_window(m, operator.add, None, length, slide)),
            ("pair", f"reduceByKeyAndWindow(add, sub, {length}, {slide})",
             lambda d: d.reduceByKeyAndWindow(operator.add, operator.sub, w, s),
             reduced_window(m, operator.add, operator.sub, length, slide)),
            ("pair", f"reduceByKeyAndWindow(add, sub, {length}, {slide}, filter)",
             lambda d: d.reduceByKeyAndWindow(lambda a, b: a + b, lambda a, b: a - b, w, s, 2, positive),
             reduced_window(m, operator.add, operator.sub, length, slide, positive)),
            ("pair", f"groupByKeyAndWindow({length}, {slide}).sum", lambda d: d.groupByKeyAndWindow(w, s).mapValues(sum),
             reduced_window(m.each(lambda rows: [(k, [v]) for k, v in rows]), operator.add, lambda a, b: a[len(b):], length, slide).each(
                 lambda rows: [(k, sum(v)) for k, v in rows])),
            ("pair", "updateStateByKey(total)", lambda d: d.updateStateByKey(total), updated(m, total)),
            ("pair", "updateStateByKey(latest)", lambda d: d.updateStateByKey(latest).mapValues(lambda s: s[0] * 10 + s[1]),
             updated(m, latest).each(lambda rows: [(k, s[0] * 10 + s[1]) for k, s in rows])),
        ]  # fmt: skip
    return stream.then(*rng.choice(choices))


@dataclass
class Program:
    """One random program over the inputs."""

    seed: int
    inputs: dict[str, list[list[Any]]]
    scale: float
    stream: Stream = field(init=False)

    def __post_init__(self) -> None:
        rng = random.Random(self.seed)  # noqa: S311 (seeded, no secret)
        sources = [self._source(number, name) for number, name in enumerate(self.inputs)]
        stream = rng.choice(sources)
        for _ in range(rng.randint(1, 5)):
            roll = rng.random()
            if roll < 0.4:
                stream = element_wise(stream, rng)
            elif roll < 0.5 and stream.kind == "pair" and stream.model.slide == 1:
                stream = with_other(stream, rng.choice([source for source in sources if source.kind == "pair"]), rng)
            elif roll < 0.7:
                stream = whole_batch(stream, rng)
            elif stream.model.slide <= 2:
                stream = over_time(stream, rng, self.scale)
        self.stream = stream

    def _source(self, number: int, name: str) -> Stream:
        batches = self.inputs[name]
        model = Model(1, lambda n: batches[n - 1] if n <= len(batches) else [])
        return Stream("pair" if name == "odd" else name, name, lambda sources: sources[number], model)

    def __str__(self) -> str:
        return f"program {self.seed}: {self.stream.text}"


def random_inputs(seed: int, batches: int) -> dict[str, list[list[Any]]]:
    """Small batches with few keys, some of them empty."""
    rng = random.Random(seed)  # noqa: S311 (seeded, no secret)
    words = ["a", "b", "c", "a b", "b  c", "", "d e a"]

    def size() -> int:
        return rng.choice([0, 1, 3, 8])

    return {
        "int": [[rng.randrange(6) for _ in range(size())] for _ in range(batches)],
        "str": [[rng.choice(words) for _ in range(size())] for _ in range(batches)],
        "pair": [[(rng.choice("xyz"), rng.randrange(5)) for _ in range(size())] for _ in range(batches)],
        "odd": [[(rng.choice(ODD_KEYS), rng.randrange(5)) for _ in range(size())] for _ in range(batches)],
    }


def in_order(rows: list[Any]) -> list[Any]:
    """Rows sorted; which of equal keys stands for all is left to chance, so it is the same for all."""
    return sorted(map(plain, rows), key=repr)


def plain(one: Any) -> Any:
    if isinstance(one, tuple):
        return tuple(map(plain, one))
    return int(one) if isinstance(one, bool | float) and one == int(one) else one


def run(ssc: Any, programs: list[Program], inputs: dict[str, list[list[Any]]], wait: Callable[[], None]) -> dict[int, list[Any]]:
    """Run all programs in one context; for each, by order of its batches, what `foreachRDD` collected: (time, sorted elements)."""
    sources = [ssc.queueStream(batches) for batches in inputs.values()]
    found: dict[int, list[Any]] = {program.seed: [] for program in programs}
    for program in programs:

        def take(time: Any, rdd: Any, to: list[Any] = found[program.seed]) -> None:
            to.append((time, in_order(rdd.collect())))

        program.stream.build(sources).foreachRDD(take)
    ssc.start()
    wait()
    return found


def expected(program: Program, batches: int) -> list[list[Any]]:
    return [in_order(found) for n in range(1, batches + 1) if (found := program.stream.model.at(n)) is not None]

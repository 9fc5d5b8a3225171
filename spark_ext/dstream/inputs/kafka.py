"""Kafka's topics as a stream of batches: the driver plans offsets, the workers read them.

A plan is ``{"from": document, "until": document}`` (`spark_ext.kafka.offsets.Document`): the exact ranges of a batch, written
down before it runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Final

from pyspark import SparkContext, StorageLevel
from pyspark.core.rdd import RDD, PipelinedRDD

from spark_ext.dstream.batch import Batch
from spark_ext.dstream.closures import users_functions
from spark_ext.dstream.columns.blocks import decode, unpack
from spark_ext.dstream.graph import InputNode
from spark_ext.dstream.inputs.kafka_params import Begin, KafkaParams
from spark_ext.dstream.inputs.kafka_reading import Elements, Reading
from spark_ext.dstream.inputs.kafka_words import OffsetRange
from spark_ext.dstream.rows import Reader, Rows
from spark_ext.kafka.offsets import Document, Range, Seen, check_ids
from spark_ext.kafka.options import Place, SourceOptions
from spark_ext.kafka.planner import Planner
from spark_ext.paths import file_system, write_whole

__all__ = ["KafkaInput", "KafkaRDD", "KafkaRows", "kafka_rows", "planned_ranges"]

FIRST: Final = "first.json"  # where a new checkpoint starts


class KafkaRDD(PipelinedRDD[Any, Any]):
    """The records of some ranges; partition ``i`` holds those of ``offsetRanges()[i]``, in the order of their offsets."""

    def __init__(self, base: RDD[Any], read: Reader, ranges: Sequence[Range]) -> None:
        super().__init__(base, lambda index, content: chain.from_iterable(map(unpack, read(index, content))), True)
        self._ranges = [OffsetRange(one.topic, one.partition, one.first, one.end) for one in ranges]

    def offsetRanges(self) -> list[OffsetRange]:
        """Return what each partition holds; an empty range has an empty partition."""
        return list(self._ranges)


class KafkaRows(Rows):
    """Rows right out of Kafka: their RDD knows its ranges."""

    def __init__(self, base: RDD[Any], ranges: Sequence[Range], read: Reader) -> None:
        super().__init__(base, is_blocks=True, read=read, is_nothing=all(one.start == one.end for one in ranges))
        self._ranges, self._reader = ranges, read

    def rdd(self) -> RDD[Any]:  # noqa: D102 (Rows')
        if self._rdd is None:
            self._rdd = KafkaRDD(self.base, self._reader, self._ranges)
        return self._rdd

    def persisted(self, level: StorageLevel) -> Rows:  # noqa: D102 (Rows')
        return KafkaRows(self.blocks().persist(level), self._ranges, lambda _, blocks: map(decode, blocks))


def kafka_rows(context: SparkContext, ranges: Sequence[Range], reading: Reading) -> KafkaRows:
    """Return the rows of ranges, one partition each, in this order."""
    places = context.parallelize(range(len(ranges)), len(ranges)) if ranges else context.emptyRDD()
    # One number per partition; PySpark gives up a worker, and its consumers, that has not read all of its input.
    return KafkaRows(places, ranges, lambda index, there: chain.from_iterable(reading.blocks(ranges[index]) for _ in there))


class KafkaInput(InputNode):
    """`createDirectStream`.

    Parameters
    ----------
    options : SourceOptions
        What to read, without a limit on a batch but that of each partition.
    params : KafkaParams
        What `kafkaParams` say.
    begin : Begin
        Where a new checkpoint starts.
    elements : Elements
        What elements are made of.
    """

    kind = "createDirectStream"

    def __init__(self, options: SourceOptions, params: KafkaParams, begin: Begin, elements: Elements, slide_ms: int) -> None:
        super().__init__(slide_ms)
        self._options, self._begin, self._elements = options, begin, elements
        self._planner = Planner(options)
        # A client of its own: the planner's would commit what is read, asked or not.
        self._group = None if params.group is None else Planner(replace(options, group=params.group))
        self._commits = params.commits
        self._committed: dict[Place, int] = {}
        self._first: Document | None = None  # of a checkpoint without a plan
        self._added: Document | None = None  # topics that the checkpoint does not know
        self._is_stopped = False

    def start(self, folder: str, planned: Any | None) -> None:  # noqa: D102 (InputNode's)
        self._is_stopped = False
        seen = self._planner.look()
        if planned is None:
            self._first = _written(folder) or self._beginning(seen)
            _write(folder, self._first)
            return
        known = Document.from_json(planned["until"]).ids
        check_ids(known, seen.ids)
        added = {topic: id_ for topic, id_ in seen.ids.items() if topic not in known}
        if added:
            offsets = self._beginning(seen).offsets
            self._added = Document(added, {at: offset for at, offset in offsets.items() if at[0] in added})

    def plan(self, planned: Any | None, time_ms: int) -> dict[str, Any]:  # noqa: D102 (InputNode's)
        del time_ms  # what had arrived when the plan is made
        begun = self._begun(planned)
        end = self._planner.next(begun, unlimited=self._options.max_offsets_per_partition is None)
        if end is begun:
            end = replace(begun, lost={}, latest={})
        latest = self._planner.latest()
        known = latest.offsets if latest else {}
        new = dict.fromkeys(known, 0)  # partitions without a record yet are listed too
        end = replace(end, ids={**(latest.ids if latest else {}), **end.ids}, offsets={**new, **end.offsets}, began=None)
        return {"from": Document(begun.ids, begun.offsets).to_json(), "until": end.to_json()}

    def has_news(self, planned: Any | None) -> bool:  # noqa: D102 (InputNode's)
        begun = self._begun(planned).offsets
        return any(end > begun.get(at, 0) for at, end in self._planner.look().ends.items())

    def compute(self, batch: Batch) -> Rows:  # noqa: D102 (Node's)
        planned = batch.plan.inputs[self.name]
        self._planner.check(Document.from_json(planned["until"]))
        ranges = planned_ranges(planned)
        return kafka_rows(batch.context, ranges, Reading(self._options, len(ranges), self._elements))

    def row_count(self, planned: Any) -> int:  # noqa: D102 (InputNode's)
        return sum(one.end - one.first for one in planned_ranges(planned))

    def describe(self, planned: Any) -> dict[str, Any]:  # noqa: D102 (InputNode's)
        ranges = planned_ranges(planned)
        lines = [f"topic: {at.topic}\tpartition: {at.partition}\toffsets: {at.first} to {at.end}" for at in ranges if at.first != at.end]
        lost = [OffsetRange(at.topic, at.partition, at.start, at.first) for at in ranges if at.start < at.first]
        told: dict[str, Any] = {"offsets": [OffsetRange(at.topic, at.partition, at.first, at.end) for at in ranges]}
        return {**told, **({"lost": lost} if lost else {}), "Description": "\n".join(lines)}

    def finished(self, planned: Any) -> None:  # noqa: D102 (InputNode's)
        if self._commits:
            self.commit(Document.from_json(planned["until"]).offsets)

    def commit(self, offsets: Mapping[Place, int]) -> bool:
        """Let the group show offsets; False if there is none. Waits only after `stop`; what the broker does not do is logged."""
        if self._group is None:
            return False
        self._committed |= offsets  # each commit has all of them: one that did not succeed is made good by the next
        self._group.show(Document({}, dict(self._committed)))
        if self._is_stopped:
            self._group.close()
        return True

    def stop(self, *, graceful: bool) -> None:  # noqa: D102 (InputNode's)
        del graceful  # nothing is received beforehand
        self._is_stopped = True
        self._planner.close()
        if self._group is not None:
            self._group.close()

    def ended(self, planned: Any) -> None:  # noqa: D102 (InputNode's)
        self.finished(planned)

    def functions(self) -> Iterable[Any]:  # noqa: D102 (Node's)
        return users_functions(self._elements)

    def _begun(self, planned: Any | None) -> Document:
        if planned is None:
            assert self._first is not None, "started"  # noqa: S101 (a fact)
            return self._first
        begun = Document.from_json(planned["until"])
        added = self._added
        if added is None or any(topic in begun.ids for topic in added.ids):
            return begun
        return replace(begun, ids={**begun.ids, **added.ids}, offsets={**begun.offsets, **added.offsets})

    def _beginning(self, seen: Seen) -> Document:
        planner, begin = self._planner, self._begin
        offsets = planner.positions(begin.reset, seen, others=seen.first)
        times = {at: time for at in seen.ends if (time := begin.time_of(at)) is not None}
        for time in set(times.values()):
            found = planner.positions(time, seen, others={})
            offsets |= {at: offset for at, offset in found.items() if times.get(at) == time}
        if begin.offsets:
            given: dict[str, dict[int, int]] = {}
            for (topic, number), offset in begin.offsets.items():
                given.setdefault(topic, {})[number] = offset
            offsets = planner.positions(given, seen, others=offsets)
        return Document(seen.ids, offsets)


def planned_ranges(planned: Any) -> list[Range]:
    """Return the range of each partition of a plan, empty ones too, in the order of topic and partition."""
    since, until = Document.from_json(planned["from"]), Document.from_json(planned["until"])
    found = []
    for at, end in sorted(until.offsets.items()):
        start = since.offsets.get(at, 0)
        found.append(Range(*at, start=start, first=max(start, until.lost.get(at, (0, 0))[1]), end=end))
    return found


def _written(folder: str) -> Document | None:
    files, root = file_system(folder)
    try:
        with files.open_input_stream(f"{root}/{FIRST}") as opened:
            return Document.from_json(json.loads(opened.readall()))
    except FileNotFoundError:
        return None


def _write(folder: str, first: Document) -> None:
    """Write down where the first batch starts: before it is planned, "latest" must not move at a restart."""
    files, root = file_system(folder)
    files.create_dir(root, recursive=True)
    write_whole(files, f"{root}/{FIRST}", json.dumps(first.to_json()).encode())

"""What survives a change of code, and how what cannot is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from spark_ext.dstream.batch import Batch
from spark_ext.dstream.graph import Graph, InputNode, Node
from spark_ext.dstream.plans import Plan, PlanLog
from spark_ext.dstream.rows import Rows
from spark_ext.dstream.shape import Shape, agree, shape_of
from spark_ext.dstream.store import Store
from spark_ext.dstream.upkeep import Begun, take_up
from spark_ext.errors import CheckpointMismatchError
from spark_ext.queries import Checkpoint


class Input(InputNode):
    kind = "input"

    def plan(self, planned: Any | None, time_ms: int) -> Any:
        return time_ms

    def compute(self, batch: Batch) -> Rows | None:
        return None


class Stateful(Node):
    kind = "state"
    keeps = True

    def __init__(self, parent: Node, partitions: int | None = None) -> None:
        super().__init__((parent,), parent.slide_ms)
        self.partitions = partitions or 2
        self.is_given = partitions is not None

    def compute(self, batch: Batch) -> Rows | None:
        return None

    def shape(self) -> dict[str, Any]:
        return {"partitions": self.partitions}

    def restore(self, shape: dict[str, Any]) -> None:
        if not self.is_given:
            self.partitions = shape["partitions"]


class Window(Stateful):
    kind = "window"


def program(*kinds: type[Stateful], partitions: int | None = None, interval_ms: int = 1000) -> Graph:
    graph = Graph(interval_ms)
    source = graph.add(Input(interval_ms))
    for kind in kinds:
        graph.add_output(graph.add(kind(source, partitions)), lambda *_: None, "out")
    graph.add_output(source, lambda *_: None, "out")
    return graph


def wrong(before: Graph, now: Graph, **how: Any) -> str:
    with pytest.raises(CheckpointMismatchError) as caught:
        agree(shape_of(before, 0), shape_of(now, 0), folder="a/b", **how)
    return str(caught.value)


def test_a_shape_is_read_as_it_was_written_and_holds_only_what_counts(tmp_path: Path) -> None:
    shape = shape_of(program(Stateful, partitions=3), 5000)
    shape.write(str(tmp_path))
    assert Shape.read(str(tmp_path)) == shape
    assert Shape.read(str(tmp_path / "nowhere")) is None
    assert {name: entry["kind"] for name, entry in shape.streams.items()} == {"input-0": "input", "state-0": "state"}
    assert shape.streams["state-0"]["partitions"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["graph.json"]


def test_a_damaged_shape_is_named(tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text('{"interval_ms": 1')
    with pytest.raises(CheckpointMismatchError, match=r"the program's shape in graph\.json"):
        Shape.read(str(tmp_path))


def test_the_same_program_and_one_with_more_streams_agree() -> None:
    assert agree(shape_of(program(Stateful), 0), shape_of(program(Stateful), 0), folder="") == set()
    assert agree(shape_of(program(), 0), shape_of(program(Stateful, Window), 0), folder="") == set()


def test_a_stream_that_is_gone_is_named_with_the_line_where_it_was() -> None:
    said = wrong(program(Stateful, Window), program(Stateful))
    assert "'window-0' (window at test_dstream_shape.py:" in said
    assert "is not in the program" in said
    assert "name what may be lost in forget=" in said
    assert "state-0" not in said


def test_all_that_differs_is_named_at_once() -> None:
    said = wrong(program(Stateful, partitions=2), program(partitions=3, interval_ms=500))
    assert "the batch interval was 1000 ms and is 500 ms" in said
    assert "'state-0'" in said
    assert "had slide_ms 1000 and has 500" in said


def test_another_number_of_partitions_is_refused_and_may_be_lost() -> None:
    before, now = program(Stateful, partitions=2), program(Stateful, partitions=3)
    assert "had partitions 2 and has 3" in wrong(before, now)
    assert agree(shape_of(before, 0), shape_of(now, 0), folder="", forget=["state-0", "other"]) == {"state-0"}
    assert agree(shape_of(before, 0), shape_of(before, 0), folder="", forget=["state-0"]) == set(), "what agrees is not lost"


def test_another_interval_cannot_be_forgotten() -> None:
    assert "batch interval" in wrong(program(), program(interval_ms=500), forget=["input-0"])


def test_a_renamed_stream_is_a_lost_one_and_a_new_one() -> None:
    now = program(Stateful)
    now.order()[1].name = "counts"
    said = wrong(program(Stateful), now)
    assert "'state-0'" in said
    assert "give streams that moved their old names with setName" in said


# Taking up ---------------------------------------------------------------------------------------------------------------


class Folder:
    """A checkpoint as a run leaves it, made by hand."""

    def __init__(self, path: Path, *, committed: int | None, plans: Mapping[int, Plan]) -> None:
        self.path = str(path)
        self.checkpoint = Checkpoint.claim(self.path, pipeline="dstream", sources=[])
        self.plans, self.store = PlanLog(f"{path}/plans"), Store(f"{path}/store")
        for plan in plans.values():
            self.plans.write(plan)
        commits = path / "spark" / "commits"
        commits.mkdir(parents=True)
        for number in range(0 if committed is None else committed + 1):
            (commits / str(number)).touch()

    def take_up(self, graph: Graph, now_ms: int = 10_700, **how: Any) -> Begun:
        return take_up(graph, self.checkpoint, self.plans, self.store, folder=self.path, now_ms=now_ms, forget=how.get("forget", ()))


def test_a_program_begins_at_the_next_multiple_of_its_interval(tmp_path: Path) -> None:
    folder = Folder(tmp_path, committed=None, plans={})
    assert folder.take_up(program(), now_ms=10_700) == Begun(10_000)
    assert folder.take_up(program(), now_ms=20_000) == Begun(20_000), "nothing has been planned: it begins anew"
    assert folder.take_up(program(interval_ms=500), now_ms=20_700) == Begun(20_500), "and may have another interval"


def test_it_goes_on_after_the_last_batch_that_spark_has_noted(tmp_path: Path) -> None:
    plans = {n: Plan(n, 11_000 + n * 1000, {"input-0": n}) for n in range(3)}
    folder = Folder(tmp_path, committed=1, plans=plans)
    shape_of(program(), 10_000).write(folder.path)
    assert folder.take_up(program(), now_ms=99_000) == Begun(10_000, plans[1])


def test_a_first_batch_that_is_tried_again_keeps_its_time(tmp_path: Path) -> None:
    folder = Folder(tmp_path, committed=None, plans={0: Plan(0, 11_000, {"input-0": 0})})
    shape_of(program(), 10_000).write(folder.path)
    assert folder.take_up(program(), now_ms=99_000) == Begun(10_000, None)


def test_what_has_been_removed_by_hand_is_missed(tmp_path: Path) -> None:
    folder = Folder(tmp_path, committed=1, plans={0: Plan(0, 11_000)})
    with pytest.raises(CheckpointMismatchError, match=r"expected plans/1\.json"):
        folder.take_up(program())
    folder.plans.write(Plan(1, 12_000))
    with pytest.raises(CheckpointMismatchError, match=r"expected graph\.json"):
        folder.take_up(program())


def test_a_number_of_partitions_that_is_not_given_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    folder = Folder(tmp_path, committed=0, plans={0: Plan(0, 11_000, {"input-0": 0})})
    shape_of(program(Stateful, partitions=7), 10_000).write(folder.path)
    now = program(Stateful)
    folder.take_up(now)
    assert now.keepers()[0].shape() == {"partitions": 7}


def test_what_may_be_lost_leaves_nothing_behind_and_begins_anew(tmp_path: Path) -> None:
    plans = {n: Plan(n, 11_000 + n * 1000, {"input-0": n, "input-1": n}) for n in range(2)}
    folder = Folder(tmp_path, committed=0, plans=plans)
    before = program(Stateful, partitions=7)
    before.add(Input(1000))
    shape_of(before, 10_000).write(folder.path)
    for stream in ("state-0", "state-0.initial", "state-01"):
        folder.store.write(stream, 11_000, 0, b"x")
    begun = folder.take_up(program(Stateful, partitions=8), forget=["state-0", "input-1"])
    assert begun.last == Plan(0, 11_000, {"input-0": 0})
    assert folder.plans.read(1) == Plan(1, 12_000, {"input-0": 1}), "the batch that is tried again asks a new input anew"
    assert [path.name for path in Path(folder.store.path).iterdir()] == ["state-01"]
    assert folder.take_up(program(Stateful, partitions=8)).zero_ms == 10_000, "the new shape has been written down"

"""What an operator is made of: a pure function from a bucket's state and its new rows to its next state and rows by tag.

A kernel knows nothing of Spark, clocks or files. The same one runs in a stream, over a bounded table in one call, and in tests
without a JVM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import pyarrow as pa

__all__ = ["EARLIEST", "FOREVER_US", "LATEST", "NEVER_US", "JoinKernel", "Kernel", "Moment", "State", "Step", "empty_state"]

NEVER_US: Final = -(2**62)  # a watermark before any row; room is left for arithmetic
FOREVER_US: Final = 2**62  # a watermark behind every row

EARLIEST: Final = datetime(1900, 1, 1, tzinfo=UTC)  # event times before are absurd, unless somebody says otherwise
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)

State = Mapping[str, pa.Table]


@dataclass(frozen=True, slots=True)
class Moment:
    """When a step takes place. All of it is in Spark's log, so a replay gets the same.

    Attributes
    ----------
    watermark_us : int
        Event time up to which input counts as complete, microseconds since 1970; `NEVER_US` before any.
    batch_us : int
        When the batch was planned, microseconds since 1970; of a bounded run, when it was started.
    """

    watermark_us: int
    batch_us: int


@dataclass(frozen=True, slots=True)
class Step:
    """What a kernel makes of one bucket and one micro-batch.

    Every input row is folded into `state` or `out`, or repeated in one of the tags for rows that are not accepted.

    Attributes
    ----------
    state : mapping of str to pa.Table
        The bucket's next state, schemas as `Kernel.state_schema`. All tables empty: nothing is kept.
    out : mapping of str to pa.Table
        Output rows by tag, schemas as `Kernel.out_schema`. A tag without rows may be left out.
    wake_us : int or None
        The bucket wants a call without rows once the watermark has reached this; None: not before it gets rows.
    """

    state: State
    out: Mapping[str, pa.Table]
    wake_us: int | None


class Kernel(Protocol):
    """One stateful operator over columns. Instances are frozen and can be sent to workers.

    Attributes
    ----------
    operator : str
        Name and version of the state's layout, such as ``"windows_v1"``. Another layout gets another name.
    settings : str
        Everything the state depends on, as JSON: a checkpoint made with other settings is refused.
    in_schema : pa.Schema
        The columns of the rows it takes.
    state_schema, out_schema : mapping of str to pa.Schema
        The tables of the state, and the columns of each tag. Names of the state's columns follow `spark_ext.state.inspect`, so
        that a checkpoint can be shown without the kernel.
    """

    @property
    def operator(self) -> str: ...  # noqa: D102

    @property
    def settings(self) -> str: ...  # noqa: D102

    @property
    def in_schema(self) -> pa.Schema: ...  # noqa: D102

    @property
    def state_schema(self) -> Mapping[str, pa.Schema]: ...  # noqa: D102

    @property
    def out_schema(self) -> Mapping[str, pa.Schema]: ...  # noqa: D102

    def step(self, state: State, rows: pa.Table, moment: Moment) -> Step:
        """Fold one micro-batch into the bucket.

        Called once per bucket that has rows or whose `Step.wake_us` has come. Deterministic up to the order of `rows`,
        which must not matter.

        Parameters
        ----------
        state : mapping of str to pa.Table
            As this method last returned it; at first `empty_state`.
        rows : pa.Table
            The operator's input columns, in any order; no rows when the bucket was woken.
        moment : Moment
            Watermark and batch time.
        """
        ...


class JoinKernel(Protocol):
    """A stateful operator over several inputs; as `Kernel`, but for the rows that it takes.

    Attributes
    ----------
    in_schemas : mapping of str to pa.Schema
        The columns of the rows of each input, by its name.
    """

    @property
    def operator(self) -> str: ...  # noqa: D102

    @property
    def settings(self) -> str: ...  # noqa: D102

    @property
    def in_schemas(self) -> Mapping[str, pa.Schema]: ...  # noqa: D102

    @property
    def state_schema(self) -> Mapping[str, pa.Schema]: ...  # noqa: D102

    @property
    def out_schema(self) -> Mapping[str, pa.Schema]: ...  # noqa: D102

    def step(self, state: State, rows: Mapping[str, pa.Table], moment: Moment) -> Step:
        """Fold one micro-batch into the bucket: a table of rows for each input, perhaps empty; see `Kernel.step`."""
        ...


def empty_state(kernel: Kernel | JoinKernel) -> dict[str, pa.Table]:
    """Return the state of a bucket that has seen nothing."""
    return {name: schema.empty_table() for name, schema in kernel.state_schema.items()}

"""Join each row with the last rows of its key on the other side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from spark_ext.joins.layout import Layout
from spark_ext.joins.shapes import Counts
from spark_ext.state.kernel import Moment, State, Step

__all__ = ["CountJoin"]


@dataclass(frozen=True)
class CountJoin:
    """To be written."""

    layout: Layout
    within: Counts

    @property
    def operator(self) -> str:
        """Name and version of the state's layout."""
        return "count_join_v1"

    @property
    def settings(self) -> str:
        """What the state depends on, as JSON."""
        how = {"how": self.layout.how, "left": self.layout.left.settings, "right": self.layout.right.settings}
        return json.dumps({**how, "rows": [self.within.left, self.within.right]})

    @property
    def in_schemas(self) -> Mapping[str, pa.Schema]:
        """Columns of both sides."""
        return self.layout.in_schemas

    @property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        """Tables of the state."""
        return self.layout.in_schemas

    @property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        """Columns of each tag, see `Layout.out_schema`."""
        return self.layout.out_schema

    def step(self, state: State, rows: Mapping[str, pa.Table], moment: Moment) -> Step:
        """Join one micro-batch of the bucket."""
        raise NotImplementedError

"""Keyed state by bucket: the one runtime under all stateful operators.

    rows -- bucket --> pack -- shuffle --> kernel, once per bucket -- spread --> tagged rows

`kernel` is what an operator is made of, `operator` runs it over a stream or a bounded frame, `codec` is what the state looks like as
bytes, `buckets` says how many there are, `control` tells a stream that its input has ended, `inspect` shows the state of a checkpoint.
"""

from spark_ext.state.buckets import buckets_for
from spark_ext.state.control import Control
from spark_ext.state.kernel import FOREVER_US, NEVER_US, JoinKernel, Kernel, Moment, Step, empty_state
from spark_ext.state.operator import Input, apply_kernel, apply_to_inputs, input_schema

__all__ = [
    "FOREVER_US", "NEVER_US", "Control", "Input", "JoinKernel", "Kernel", "Moment", "Step", "apply_kernel", "apply_to_inputs",
    "buckets_for", "empty_state", "input_schema",
]  # fmt: skip

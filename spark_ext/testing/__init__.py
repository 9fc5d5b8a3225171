"""Test a job by crashing it: a stream as a list of steps, named crash points, a comparison with the run that did not crash.

What flows in: a `JobUnderTest` and steps. What flows out: a `Result`, read without Spark, and a failure that shows rows. `random_walk`
makes steps from a seed, `kill_cycles` kills a whole program. Needs no pytest; `spark_ext.testing.plugin` is for it. See
``docs/testing.md``.
"""

from spark_ext.testing.clock import Clock
from spark_ext.testing.compare import Difference, DifferenceError, assert_same, differences
from spark_ext.testing.crashes import Attempt, Hit, KillPoint, SimulatedCrashError
from spark_ext.testing.kills import Cycle, KillError, kill_cycles
from spark_ext.testing.result import JobUnderTest, Result
from spark_ext.testing.run import run_script
from spark_ext.testing.steps import (
    At,
    Check,
    Crash,
    CrashInOperator,
    Restart,
    Rows,
    ScriptError,
    Start,
    Step,
    Stop,
    as_python,
    without_crashes,
)
from spark_ext.testing.stream import crash_site
from spark_ext.testing.walks import EVENTS, IN_OPERATOR, Walk, events, random_walk

__all__ = [
    "EVENTS",
    "IN_OPERATOR",
    "At",
    "Attempt",
    "Check",
    "Clock",
    "Crash",
    "CrashInOperator",
    "Cycle",
    "Difference",
    "DifferenceError",
    "Hit",
    "JobUnderTest",
    "KillError",
    "KillPoint",
    "Restart",
    "Result",
    "Rows",
    "ScriptError",
    "SimulatedCrashError",
    "Start",
    "Step",
    "Stop",
    "Walk",
    "as_python",
    "assert_same",
    "crash_site",
    "differences",
    "events",
    "kill_cycles",
    "random_walk",
    "run_script",
    "without_crashes",
]

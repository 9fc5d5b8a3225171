"""The two engines by name, opened alike, and heard alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Final

import pyspark.streaming
from pyspark import SparkContext

import spark_ext.dstream

ENGINES: Final[dict[str, Any]] = {"pyspark.streaming": pyspark.streaming, "millrace": spark_ext.dstream}


def opened(who: str, context: SparkContext, interval_s: float, on_batch: Callable[[Any], None], **given: Any) -> Any:
    """Return a StreamingContext that tells of each batch that is done."""

    class Listener(ENGINES[who].StreamingListener):  # type: ignore[misc]
        def onBatchCompleted(self, batchCompleted: Any) -> None:  # noqa: N802, N803 (Spark's)
            on_batch(batchCompleted.batchInfo())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Spark deprecates its own
        ssc = ENGINES[who].StreamingContext(context, interval_s, **given)
    ssc.addStreamingListener(Listener())
    return ssc

"""The flights job as a skilled user would write it in plain Structured Streaming: the yardstick for our layer.

The same tables from the same topic, with Spark's and Delta's own means only; it keeps bad and late rows apart, but
names no reasons, and believes an empty value, a missing field, a second document or year 9999.
"""

from __future__ import annotations

import json
from pathlib import Path

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

SCHEMA = (
    "event string, event_time timestamp, scheduled_time timestamp, carrier string, flight int, tailnum string, origin string, "
    "dest string, delay_minutes int, _corrupt_record string"
)


def events(spark: SparkSession, servers: str, topic: str, out: Path, limit: int) -> None:
    """Topic -> flight_events, late_events, dead_letters."""
    checkpoint = out / "checkpoints" / "events"
    records = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", servers)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", limit)
        .load()
    )
    parsed = records.select(
        F.struct("topic", "partition", "offset", "timestamp").alias("source"),
        "key",
        "value",
        F.inline(F.array(F.from_json(F.col("value").cast("string"), SCHEMA))),
    ).withWatermark("event_time", "6 hours")

    def write(batch: DataFrame, batch_id: int) -> None:
        watermark_ms = json.loads((checkpoint / "offsets" / str(batch_id)).read_text().splitlines()[1])["batchWatermarkMs"]
        batch = batch.persist()
        dead = F.col("event_time").isNull() | F.col("_corrupt_record").isNotNull()
        late = F.date_trunc("hour", "event_time") + F.expr("interval 1 hour") <= F.timestamp_millis(F.lit(watermark_ms))
        good = batch.where(~dead).drop("key", "value", "_corrupt_record").withColumn("event_date", F.to_date("event_time"))
        tables = {
            "flight_events": good.where(~late),
            "late_events": good.where(late),
            "dead_letters": batch.where(dead).select("source.*", "key", "value"),
        }
        for name, frame in tables.items():
            if name == "flight_events" or not frame.isEmpty():
                writer = (
                    frame.write.format("delta").mode("append").option("txnAppId", f"by-hand-{checkpoint}").option("txnVersion", batch_id)
                )
                writer.save(str(out / "tables" / name))
        batch.unpersist()

    writer = parsed.writeStream.foreachBatch(write).option("checkpointLocation", str(checkpoint)).trigger(availableNow=True)
    writer.start().awaitTermination()


def hours(spark: SparkSession, out: Path) -> None:
    """flight_events -> hourly_departures."""
    facts = spark.readStream.format("delta").option("startingVersion", 0).load(str(out / "tables" / "flight_events"))
    left = F.col("event") == "departure"
    windows = (
        facts.where("event <> 'arrival'")
        .withWatermark("event_time", "6 hours")
        .groupBy("origin", F.window("event_time", "1 hour"))
        .agg(
            F.count_if(left).alias("departures"),
            F.count_if(~left).alias("cancelled"),
            F.avg(F.when(left, F.col("delay_minutes"))).alias("mean_delay_minutes"),
            F.max(F.when(left, F.col("delay_minutes"))).alias("worst_delay_minutes"),
            F.size(F.collect_set(F.when(left, F.col("tailnum")))).cast("bigint").alias("distinct_aircraft"),
        )
        .select("origin", F.col("window.start").alias("window_start"), F.col("window.end").alias("window_end"), "departures", "cancelled",
                "mean_delay_minutes", "worst_delay_minutes", "distinct_aircraft")
    )  # fmt: skip
    table = str(out / "tables" / "hourly_departures")

    def write(batch: DataFrame, batch_id: int) -> None:
        del batch_id
        measured = spark.read.format("delta").load(str(out / "tables" / "weather"))
        weather = measured.select("origin", F.col("time_hour").alias("window_start"), "temp", "wind_speed", "precip", "visib")
        enriched = batch.join(F.broadcast(weather), ["origin", "window_start"], "left")
        target = DeltaTable.forPath(spark, table).alias("old")
        merge = target.merge(enriched.alias("new"), "old.origin = new.origin AND old.window_start = new.window_start")
        merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()

    writer = windows.writeStream.foreachBatch(write).option("checkpointLocation", str(out / "checkpoints" / "hours"))
    writer.outputMode("update").trigger(availableNow=True).start().awaitTermination()

"""The Yahoo query in Flink SQL; run by the Python that has PyFlink, so nothing else is imported here.

Streaming mode, two slots, no checkpoints, objects reused. Windows close by a watermark per partition; the end of the
bounded topic closes the rest.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC
from pathlib import Path

from pyflink.common import Configuration  # type: ignore[import-not-found]
from pyflink.table import EnvironmentSettings, TableEnvironment  # type: ignore[import-not-found]

EVENTS = """
CREATE TABLE events (
  ad_id STRING, event_type STRING, event_time STRING,
  happened AS TO_TIMESTAMP_LTZ(CAST(event_time AS BIGINT), 3),
  WATERMARK FOR happened AS happened - INTERVAL '1' SECOND
) WITH (
  'connector' = 'kafka', 'properties.bootstrap.servers' = '{servers}', 'topic' = '{topic}',
  'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset',
  'format' = 'json', 'json.ignore-parse-errors' = 'true'
)
"""
COUNTS = """
SELECT campaign, window_start, COUNT(*)
FROM TABLE(TUMBLE(
  (SELECT * FROM (SELECT campaign_of(ad_id) AS campaign, happened FROM events WHERE event_type = 'view') WHERE campaign IS NOT NULL),
  DESCRIPTOR(happened), INTERVAL '10' SECOND))
GROUP BY campaign, window_start, window_end
"""


def main(job_file: str, ads_file: str, answer_file: str, classes: str, *jars: str) -> None:
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    settings = Configuration()
    for key, value in {
        "parallelism.default": "2",
        "pipeline.object-reuse": "true",
        "pipeline.jars": ";".join(Path(jar).as_uri() for jar in jars),
        "pipeline.classpaths": Path(classes).as_uri() + "/",
        "pipeline.global-job-parameters": f"ads:{ads_file}",
        "table.local-time-zone": "UTC",
    }.items():
        settings.set_string(key, value)
    tables = TableEnvironment.create(EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(settings).build())
    tables.execute_sql(EVENTS.format(**job))
    tables.execute_sql("CREATE TEMPORARY SYSTEM FUNCTION campaign_of AS 'CampaignOf'")
    with Path(answer_file).open("w", encoding="utf-8") as out, tables.execute_sql(COUNTS).collect() as rows:
        for campaign, start, count in rows:
            start_ms = round(start.replace(tzinfo=UTC).timestamp() * 1000)
            out.write(f"{campaign}\t{start_ms}\t{count}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

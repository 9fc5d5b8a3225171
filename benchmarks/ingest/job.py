"""What one run of one variant is told, and the file in which it leaves its answer: the same for all, in any language."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

__all__ = ["Counts", "Job"]

Counts = dict[tuple[str, int], int]
"""Views per (campaign, start of the window in ms since 1970)."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run: a bounded topic in, counts out.

    Attributes
    ----------
    servers, topic : str
        Where the events are; the topic gets no more.
    events, views : int
        Records in the topic, and how many of them the answer counts: for peers that must be told when to stop.
    batch : int
        Most records of one micro-batch.
    folder : str
        Empty at the start, removed at the end: for state, checkpoints, the table of ads and the answer.
    """

    servers: str
    topic: str
    events: int
    views: int
    batch: int
    folder: str

    @classmethod
    def from_argument(cls) -> Self:
        """Read the job that the command line names."""
        return cls(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))

    def save(self) -> Path:
        """Write the job into its folder and return the file."""
        file = Path(self.folder, "job.json")
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return file

    @property
    def ads_file(self) -> Path:
        """One line per ad: its id, a comma, its campaign."""
        return Path(self.folder, "ads.csv")

    @property
    def answer_file(self) -> Path:
        """One line per window: campaign, start in ms, count, with tabs between."""
        return Path(self.folder, "answer.tsv")

    def save_ads(self, campaign_of: Mapping[str, str]) -> None:
        """Write the static table."""
        self.ads_file.write_text("".join(f"{ad},{campaign}\n" for ad, campaign in campaign_of.items()), encoding="utf-8")

    def load_ads(self) -> dict[str, str]:
        """Read the static table: ad -> campaign."""
        lines = self.ads_file.read_text(encoding="utf-8").splitlines()
        return dict(line.split(",") for line in lines)

    def save_answer(self, counts: Counts) -> None:
        """Write the answer."""
        lines = (f"{campaign}\t{start_ms}\t{count}\n" for (campaign, start_ms), count in counts.items())
        self.answer_file.write_text("".join(lines), encoding="utf-8")

    def load_answer(self) -> Counts:
        """Read the answer; a window that is named twice is an error."""
        counts: Counts = {}
        for line in self.answer_file.read_text(encoding="utf-8").splitlines():
            campaign, start_ms, count = line.split("\t")
            assert (campaign, int(start_ms)) not in counts, line
            counts[campaign, int(start_ms)] = int(count)
        return counts

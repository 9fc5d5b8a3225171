"""Notes of what a stream left: none before its first, and each one missed after that."""

from __future__ import annotations

from pathlib import Path

import pytest

from spark_ext.dstream.state.notes import Note, Notes
from spark_ext.dstream.store import Store
from spark_ext.errors import StateError


def test_a_note_is_missed_only_after_the_first(tmp_path: Path) -> None:
    store, written = Store(str(tmp_path)), Note((1, 0), placed="f", is_filtered=False)
    notes = Notes()
    assert notes.between(store, "window-0", range(1000, 5000, 1000)) == []
    for time_ms in (5000, 6000):
        notes.write(store, "window-0", time_ms, written, needed_from_ms=0)
    again = Notes()  # as after a restart
    assert again.between(store, "window-0", range(3000, 7000, 1000)) == [(5000, (1, 0), written), (6000, (1, 0), written)]
    store.drop("window-0", before_ms=6000)
    with pytest.raises(StateError, match="cannot continue stream 'window-0': expected what the batch at 5000 ms left"):
        Notes().read(store, "window-0", 5000)
    assert Notes().read(store, "other-0", 5000) is None
    store.remove("window-0")
    assert Notes().read(store, "window-0", 5000) is None, "a stream that was given up begins anew"

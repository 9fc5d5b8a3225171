"""What an epoch has made is given up after it, and never hides what the epoch itself has raised."""

from __future__ import annotations

import logging

import pytest

from spark_ext.epochs.scope import after_epoch, epoch_scope


def test_all_that_was_made_is_given_up_and_the_epochs_own_error_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def fail() -> None:
        raise OSError("the session is gone")

    def epoch() -> None:
        with epoch_scope():
            after_epoch(lambda: done.append("first"))
            after_epoch(fail)
            after_epoch(lambda: done.append("last"))
            raise ValueError("of the epoch")

    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="of the epoch"):
        epoch()
    assert done == ["first", "last"]
    assert "the session is gone" in caplog.text


def test_outside_of_an_epoch_nothing_is_given_up() -> None:
    done: list[str] = []
    after_epoch(lambda: done.append("never"))
    with epoch_scope():
        pass
    assert done == []

"""What to do when another writer's commit came first, by the class of the conflict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from deltalake.exceptions import CommitFailedError, DeltaError
from py4j.protocol import Py4JJavaError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from spark_ext.delta.commits import open_table, skipped
from spark_ext.delta.txn import Txn, Writer, Written
from spark_ext.errors import EpochError

__all__ = ["Conflict", "conflict_of", "settle"]

Conflict = Literal["rows", "table", "transaction"]
ATTEMPTS: Final = 5
WAITS: Final = wait_random_exponential(multiplier=0.05, max=2)
# delta-rs has one class for all of them, so its words have to tell.
WORDS: Final[dict[str, Conflict]] = {
    "a concurrent transactions added new data": "rows",
    "a concurrent transaction deleted data this operation read": "rows",
    "a concurrent transaction deleted the same data": "rows",
    "exceeded maximum commit attempts": "rows",
    "Metadata changed since last commit": "table",
    "Protocol changed since last commit": "table",
    "A Delta Lake table already exists at that location": "table",
    "A table already exists at": "table",
    "Concurrent transaction failed": "transaction",
}
CLASSES: Final[dict[str, Conflict]] = {
    "ConcurrentAppendException": "rows",
    "ConcurrentDeleteReadException": "rows",
    "ConcurrentDeleteDeleteException": "rows",
    "ConcurrentWriteException": "rows",
    "MetadataChangedException": "table",
    "ProtocolChangedException": "table",
    "ConcurrentTransactionException": "transaction",
}


def conflict_of(error: BaseException) -> Conflict | None:
    """Return the class of a commit conflict, None for any other error.

    ``rows``: another commit added or removed rows that this one read. ``table``: it changed the schema or the protocol, or made the
    table. ``transaction``: it had the same transaction id.
    """
    if isinstance(error, CommitFailedError | DeltaError):
        text = str(error)
        return next((conflict for words, conflict in WORDS.items() if words in text), None)
    name = error.java_exception.getClass().getSimpleName() if isinstance(error, Py4JJavaError) else type(error).__name__
    return CLASSES.get(name)


def settle(attempt: Callable[[], Written], *, path: str, txn: Txn | None, writer: Writer) -> Written:
    """Call `attempt`, again if it meets a conflict that a fresh look at the table resolves.

    Guarantee: at most five attempts, each of which has to begin with a fresh snapshot; they wait a random time in between, at most
    two seconds. A conflict with the same transaction id is never tried again: either the other commit did this very write, which is
    then skipped, or two writers use one id.

    Raises
    ------
    EpochError
        Another writer uses this transaction id, or conflicts did not end.
    """
    again = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=WAITS,
        retry=retry_if_exception(lambda error: conflict_of(error) in {"rows", "table"}),
        retry_error_callback=_give_up(path),
    )
    try:
        return again(attempt)
    except Exception as error:
        if conflict_of(error) != "transaction" or txn is None:
            raise
        done = skipped(open_table(path), path, txn, writer)
        if done is not None:
            return done
        raise EpochError(
            "write",
            "batch to table",
            path,
            expected=f"one writer with transaction id {txn.app_id!r}",
            got=f"another commit with it while version {txn.version} was written",
            todo="stop the other one; what was written stays, and the next attempt at this batch goes on from there",
        ) from error


def _give_up(path: str) -> Callable[[RetryCallState], Written]:
    def give_up(state: RetryCallState) -> Written:
        error = state.outcome.exception() if state.outcome else None
        raise EpochError(
            "write",
            "batch to table",
            path,
            expected="a moment without other writers",
            got=f"{ATTEMPTS} conflicts in a row, the last: {error}",
            why="others change the rows that this write reads",
            todo="let fewer jobs write to the table, or let them write to partitions of their own; nothing of this attempt was written",
        ) from error

    return give_up

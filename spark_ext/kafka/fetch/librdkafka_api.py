"""The public C functions of librdkafka that the fetcher needs, from the library that confluent-kafka brings."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from spark_ext.kafka.fetch import gather_kernel
from spark_ext.kafka.fetch.protocol import FetcherUnusableError

__all__ = ["Library", "Message", "address_of", "load"]

OLDEST: Final = 0x01_09_00_FF  # 1.9.0

Pointer: Final = ctypes.c_void_p
Text: Final = ctypes.c_char_p
Int: Final = ctypes.c_int
Int32: Final = ctypes.c_int32
Int64: Final = ctypes.c_int64
Size: Final = ctypes.c_size_t

Library = Any  # a ctypes.CDLL whose functions have types

FUNCTIONS: Final[dict[str, tuple[Any, list[Any]]]] = {
    "rd_kafka_version": (Int, []),
    "rd_kafka_err2str": (Text, [Int]),
    "rd_kafka_last_error": (Int, []),
    "rd_kafka_conf_new": (Pointer, []),
    "rd_kafka_conf_set": (Int, [Pointer, Text, Text, Pointer, Size]),
    "rd_kafka_conf_set_events": (None, [Pointer, Int]),
    "rd_kafka_conf_destroy": (None, [Pointer]),
    "rd_kafka_new": (Pointer, [Int, Pointer, Pointer, Size]),
    "rd_kafka_destroy_flags": (None, [Pointer, Int]),
    "rd_kafka_queue_get_main": (Pointer, [Pointer]),
    "rd_kafka_set_log_queue": (Int, [Pointer, Pointer]),
    "rd_kafka_queue_new": (Pointer, [Pointer]),
    "rd_kafka_queue_destroy": (None, [Pointer]),
    "rd_kafka_queue_poll": (Pointer, [Pointer, Int]),
    "rd_kafka_event_type": (Int, [Pointer]),
    "rd_kafka_event_error_string": (Text, [Pointer]),
    "rd_kafka_event_log": (Int, [Pointer, ctypes.POINTER(Text), ctypes.POINTER(Text), ctypes.POINTER(Int)]),
    "rd_kafka_event_destroy": (None, [Pointer]),
    "rd_kafka_topic_new": (Pointer, [Pointer, Text, Pointer]),
    "rd_kafka_topic_destroy": (None, [Pointer]),
    "rd_kafka_consume_start_queue": (Int, [Pointer, Int32, Int64, Pointer]),
    "rd_kafka_consume_stop": (Int, [Pointer, Int32]),
    "rd_kafka_consume_batch_queue": (ctypes.c_ssize_t, [Pointer, Int, Pointer, Size]),
    "rd_kafka_query_watermark_offsets": (Int, [Pointer, Text, Int32, ctypes.POINTER(Int64), ctypes.POINTER(Int64), Int]),
    "rd_kafka_message_errstr": (Text, [Pointer]),
    "rd_kafka_message_destroy": (None, [Pointer]),
    "rd_kafka_message_timestamp": (Int64, [Pointer, Pointer]),
    "rd_kafka_message_headers": (Int, [Pointer, Pointer]),
    "rd_kafka_header_cnt": (Size, [Pointer]),
    "rd_kafka_header_get_all": (Int, [Pointer, Size, Pointer, Pointer, Pointer]),
}


class Message(ctypes.Structure):
    """``rd_kafka_message_t``."""

    _fields_ = (
        ("err", Int),
        ("rkt", Pointer),
        ("partition", Int32),
        ("payload", Pointer),
        ("len", Size),
        ("key", Pointer),
        ("key_len", Size),
        ("offset", Int64),
        ("private", Pointer),
    )


LAYOUT: Final = (
    (Message.err, gather_kernel.ERROR),
    (Message.payload, gather_kernel.VALUE),
    (Message.len, gather_kernel.VALUE_SIZE),
    (Message.key, gather_kernel.KEY),
    (Message.key_len, gather_kernel.KEY_SIZE),
    (Message.offset, gather_kernel.OFFSET),
)


@cache
def load() -> Library:
    """Return the library with typed functions.

    Raises
    ------
    FetcherUnusableError
        There is none, it is too old, or this platform lays messages out in another way.
    """
    if any(field.offset != place for field, place in LAYOUT) or sys.byteorder != "little":
        raise _unusable("a 64-bit little-endian platform", sys.platform)
    failures = []
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
            for name, (result, arguments) in FUNCTIONS.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            failures.append(f"{path}: {error}")
            continue
        if library.rd_kafka_version() >= OLDEST:
            return library
        failures.append(f"{path}: version {library.rd_kafka_version():#x}")
    raise _unusable("a librdkafka of version 1.9.0 or later", "; ".join(failures) or "none")


def address_of(function: Any) -> int:
    """Return where a C function is."""
    return ctypes.cast(function, Pointer).value or 0


def _candidates() -> Iterator[str]:
    """Yield the extension module of confluent-kafka first: looking a name up in it finds the very library it is linked to."""
    try:
        found = importlib.util.find_spec("confluent_kafka.cimpl")
    except ImportError:
        found = None
    if found is not None and found.origin:
        yield found.origin
    if system := ctypes.util.find_library("rdkafka"):
        yield system


def _unusable(expected: str, got: str) -> FetcherUnusableError:
    return FetcherUnusableError("load", "library", "librdkafka", expected=expected, got=got, todo="reinstall confluent-kafka")

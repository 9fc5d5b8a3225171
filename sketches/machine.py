"""Instructions that kernels need and NumPy has no word for: unaligned words, bits counted, CRC32C.

Only compiled code calls them. Words in memory are little-endian, as the machines that numba compiles for are.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba's scalars are wrapped by NumPy's types, which NumPy's stubs see as others)

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches.jit import HAS_NUMBA, njit

__all__ = ["crc_byte", "crc_word", "leading_zeros", "load4", "load8", "store4", "store8", "trailing_zeros"]

POLYNOMIAL: Final = 0x82F63B78  # of CRC32C, its bits reversed


def _table() -> NDArray[np.uint64]:
    """Return for each byte what it makes of a checksum, and for each place in a word that."""
    rows = np.zeros((8, 256), np.uint64)
    rest = np.arange(256, dtype=np.uint64)
    for _ in range(8):
        rest = (rest >> np.uint64(1)) ^ np.where(rest & np.uint64(1), np.uint64(POLYNOMIAL), np.uint64(0))
    rows[0] = rest
    for place in range(1, 8):
        rows[place] = (rows[place - 1] >> np.uint64(8)) ^ rest[(rows[place - 1] & np.uint64(255)).astype(np.int64)]
    return rows


TABLE = _table()


@njit()
def _crc_word_by_table(crc: np.uint64, word: np.uint64) -> np.uint64:
    word ^= crc
    found = np.uint64(0)
    for place in range(8):
        found ^= TABLE[7 - place, (word >> np.uint64(8 * place)) & np.uint64(255)]
    return found


@njit()
def _crc_byte_by_table(crc: np.uint64, byte: np.uint64) -> np.uint64:
    return (crc >> np.uint64(8)) ^ TABLE[0, (crc ^ byte) & np.uint64(255)]


def _stand_in(*_: Any) -> Any:
    raise NotImplementedError


load4: Callable[..., Any] = _stand_in
load8: Callable[..., Any] = _stand_in
store4: Callable[..., Any] = _stand_in
store8: Callable[..., Any] = _stand_in
leading_zeros: Callable[..., Any] = _stand_in
trailing_zeros: Callable[..., Any] = _stand_in
crc_word: Callable[..., Any] = _crc_word_by_table
crc_byte: Callable[..., Any] = _crc_byte_by_table

if HAS_NUMBA:
    import numba
    from llvmlite import binding, ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    WORDS: Final[dict[int, tuple[Any, Any]]] = {4: (ir.IntType(32), types.uint32), 8: (ir.IntType(64), types.uint64)}

    def _loader(size: int) -> Callable[..., Any]:
        def load(typing: Any, data: Any, at: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                array = context.make_array(signature.args[0])(context, builder, args[0])
                place = builder.bitcast(builder.gep(array.data, [args[1]]), ir.PointerType(WORDS[size][0]))
                found = builder.load(place)
                found.align = 1
                return found

            return WORDS[size][1](data, types.int64), generate

        return intrinsic(load)

    def _storer(size: int) -> Callable[..., Any]:
        def store(typing: Any, data: Any, at: Any, word: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                array = context.make_array(signature.args[0])(context, builder, args[0])
                place = builder.bitcast(builder.gep(array.data, [args[1]]), ir.PointerType(WORDS[size][0]))
                builder.store(args[2], place).align = 1
                return context.get_dummy_value()

            return types.void(data, types.int64, WORDS[size][1]), generate

        return intrinsic(store)

    def _zeros(name: str) -> Callable[..., Any]:
        def count(typing: Any, word: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                return getattr(builder, name)(args[0], ir.Constant(ir.IntType(1), 0))

            return types.uint64(types.uint64), generate

        return intrinsic(count)

    def _crc(name: str, bits: int) -> Callable[..., Any]:
        wide = ir.IntType(64 if bits == 64 else 32)

        def step(typing: Any, crc: Any, word: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                kind = ir.FunctionType(wide, [wide, ir.IntType(bits)])
                function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
                if bits == 64:
                    return builder.call(function, args)
                narrow = [builder.trunc(args[0], wide), builder.trunc(args[1], ir.IntType(bits))]
                return builder.zext(builder.call(function, narrow), ir.IntType(64))

            return types.uint64(types.uint64, types.uint64), generate

        return intrinsic(step)

    def _has_crc() -> bool:
        """Tell whether the code that numba makes here may use the instruction."""
        if numba.config.CPU_NAME or numba.config.CPU_FEATURES:  # type: ignore[attr-defined]  # compiled for some other machine
            return False
        return binding.get_process_triple().startswith("x86_64") and bool(binding.get_host_cpu_features().get("sse4.2"))

    load4, load8, store4, store8 = _loader(4), _loader(8), _storer(4), _storer(8)
    leading_zeros, trailing_zeros = _zeros("ctlz"), _zeros("cttz")
    if _has_crc():
        crc_word, crc_byte = _crc("llvm.x86.sse42.crc32.64.64", 64), _crc("llvm.x86.sse42.crc32.32.8", 8)

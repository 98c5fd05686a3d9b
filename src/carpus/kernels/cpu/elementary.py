"""Exponential and logarithms that the compiler can vectorise: no table, no branch, no call.

In float32 `decay` and `log1p` are within 2 units in the last place of the true value, and `log` within 1e-7, or 1e-7 of
the value where that is larger than 1; in float64, for tests, all call the library.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

LOG2_E = np.float32(1.4426950408889634)
# log(2) as the sum of two float32, the first so short that its product with a small integer is exact.
LOG_2, LOG_2_REST = np.float32(0.693359375), np.float32(-2.12194440e-4)
# Adding 1.5 * 2**23 rounds a float32 to an integer, which then stands in the low bits of the sum.
ROUND = np.float32(12582912.0)
ONE = np.float32(1)
SHIFT, ONE_BITS = np.int32(23), np.int32(0x3F800000)
LOWEST = np.float32(-87.33)  # exp(LOWEST) is still a normal number
# Minimax polynomials (relative error 2e-9 and 5e-9) of exp(x) on |x| <= log(2) / 2 and of log1p(x) / x on [0, 1].
A1, A2, A3 = np.float32(1.0), np.float32(0.49999991059303284), np.float32(0.16666419804096222)
A4, A5, A6 = np.float32(0.04166822507977486), np.float32(0.008374817669391632), np.float32(0.001383684342727065)
B1, B2, B3 = np.float32(-0.4999990165233612), np.float32(0.3332996368408203), np.float32(-0.24954134225845337)
B4, B5, B6 = np.float32(0.1967593878507614), np.float32(-0.15305592119693756), np.float32(0.10603653639554977)
B7, B8, B9 = np.float32(-0.05695951730012894), np.float32(0.019851453602313995), np.float32(-0.0032440233044326305)


def _integer_of_bits(_: Any, value: Any) -> Any:
    return types.int32(types.float32), lambda _, builder, __, values: builder.bitcast(values[0], ir.IntType(32))


def _float_of_bits(_: Any, value: Any) -> Any:
    return types.float32(types.int32), lambda _, builder, __, values: builder.bitcast(values[0], ir.FloatType())


def _fused(_: Any, a: Any, b: Any, c: Any) -> Any:
    """A * b + c of float32, rounded once, as the compiler's own contraction cannot be told where to do it."""
    signature = types.float32(types.float32, types.float32, types.float32)
    return signature, lambda _, builder, __, values: builder.fma(*values)


def _lowest_bit(_: Any, word: Any) -> Any:
    """The index of the lowest set bit of an integer; of 0, how many bits it has."""
    defined_at_zero = ir.Constant(ir.IntType(1), 0)
    return word(word), lambda _, builder, __, values: builder.cttz(values[0], defined_at_zero)


def _set_bits(_: Any, word: Any) -> Any:
    """How many bits of an integer are set."""
    return word(word), lambda _, builder, __, values: builder.ctpop(values[0])


# Any, because a type checker cannot know that the first parameter is numba's.
integer_of_bits: Any = intrinsic(_integer_of_bits)
float_of_bits: Any = intrinsic(_float_of_bits)
fused: Any = intrinsic(_fused)
lowest_bit: Any = intrinsic(_lowest_bit)
set_bits: Any = intrinsic(_set_bits)


def decay(x: float) -> float:
    """exp(-x) for x >= 0, in float32 no smaller than 1.18e-38; NaN stays NaN."""
    return math.exp(-x)


def log1p(e: float) -> float:
    """log(1 + e) for e in [0, 1]; NaN stays NaN."""
    return math.log1p(e)


def log(q: float) -> float:
    """log(q) for normal numbers q > 0; NaN stays NaN."""
    return math.log(q)


@overload(decay, jit_options={"fastmath": {"contract"}})
def _decay(x):
    if x != types.float32:
        return lambda x: math.exp(-x)

    def single(x):
        x = LOWEST if -x < LOWEST else -x
        rounded = x * LOG2_E + ROUND
        whole = rounded - ROUND
        rest = (x - whole * LOG_2) - whole * LOG_2_REST
        value = ONE + rest * (A1 + rest * (A2 + rest * (A3 + rest * (A4 + rest * (A5 + rest * A6)))))
        return value * float_of_bits(np.int32((integer_of_bits(rounded) << SHIFT) + ONE_BITS))

    return single


@overload(log1p, jit_options={"fastmath": {"contract"}})
def _log1p(e):
    if e != types.float32:
        return lambda e: math.log1p(e)

    def single(e):
        tail = B4 + e * (B5 + e * (B6 + e * (B7 + e * (B8 + e * B9))))
        return e * (ONE + e * (B1 + e * (B2 + e * (B3 + e * tail))))

    return single


@overload(log, jit_options={"fastmath": {"contract"}})
def _log(q):
    if q != types.float32:
        return lambda q: math.log(q)

    def single(q):
        # q = 2**n m with m in [1, 2): the exponent's bits are n, the others are those of m.
        bits = integer_of_bits(q)
        n = (bits >> SHIFT) - np.int32(127)
        m = float_of_bits(np.int32(bits - (n << SHIFT)))
        return np.float32(n) * LOG_2 + (np.float32(n) * LOG_2_REST + log1p(m - ONE))

    return single

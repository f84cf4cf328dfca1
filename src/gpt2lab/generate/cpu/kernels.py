"""The kernels of a GPT-2 step, each a loop or two over vectors of 16 lanes, called from `step.py`.

Every array is flat; an argument that ends in `_at` is an offset in elements. Weights lie in panels of 64 columns
(`packing.py`). All numbers of a column are added in the order of k, whatever the number of rows in a call.

Legend: K numbers a row of input has (a multiple of 64), R rows of a tile, columns those of the panel's 64 that a tile
computes.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import config, types
from numba.core.codegen import get_host_cpu_features

from gpt2lab.generate.cpu.compiled import compiled
from gpt2lab.generate.cpu.vectors import (
    F32,
    FLOATS,
    I8,
    I16,
    I32,
    I64,
    INTS,
    LANES,
    Array,
    Emitter,
    Value,
    constant,
    index,
    int_constant,
    kernel,
)

PANEL = 64
"""Columns of a panel of weights."""
ACTIVATION_BLOCKS = {16: 256, 8: 64}
"""Inputs that share one scale where they are rounded, to 16 bits (256 at most, or 32-bit sums overflow) or to 8."""
GROUP = 32
"""Inputs that share one scale of 4-bit weights."""
BIAS = 128
"""What is added to 8-bit weights in memory: the instruction that multiplies bytes wants them without a sign."""

# What numba compiles for, which its environment variables can make less than the machine has.
_FEATURES = (get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES).split(",")
WIDE_REGISTERS = "+avx512f" in _FEATURES
"""Whether the machine has 32 vector registers of 16 lanes: tiles are cut so that their sums fit the registers."""
DOTS_OF_BYTES = "+avx512vnni" in _FEATURES
"""Whether one instruction multiplies 64 bytes by 64 and adds them four and four."""
WIDENS_FLOAT16 = "+f16c" in _FEATURES or platform.machine().lower() not in ("x86_64", "amd64")
"""Whether an instruction makes float32 of float16; for others LLVM calls a function that may be in no library."""

SMALLEST_ROUNDED = 1e-30
"""Inputs of which no one in a block is larger are rounded to 0: the inverse of their scale might be infinite."""
PAIRS = ir.VectorType(I16, 2 * LANES)
PRODUCTS = ir.VectorType(I32, 2 * LANES)


@dataclass(frozen=True)
class _WholeInputs:
    """Rows of inputs rounded to `bits` (16 or 8), their scales and, a block each, the sums of their whole numbers."""

    bits: int
    numbers: list[Value]
    sums: list[Value]
    scales: list[Value]


def _tile(rows: int, columns: int) -> Any:
    """A kernel that computes `rows` rows of `columns` columns of a panel."""
    vectors = columns // LANES

    @kernel()
    def tile(
        emit: Emitter,
        weights: Array,
        weights_at: Value,
        ahead_at: Value,
        scales: Array,
        scales_at: Value,
        column: Value,
        bias: Array,
        bias_at: Value,
        inputs: Array,
        rounded: Array,
        inputs_at: Value,
        inputs_stride: Value,
        sums: Array,
        factors: Array,
        factors_at: Value,
        factors_stride: Value,
        length: Value,
        out: Array,
        out_at: Value,
        out_stride: Value,
        add: Value,
    ) -> None:
        """Out [R, columns from `column` on] = inputs x weights * scales + bias (+ out, where `add` is not 0).

        Weights of whole numbers are multiplied by `rounded`, which has `sums` and `factors` a block of inputs; others
        by `inputs`. Both are [R, K] from `inputs_at` on. Tiles of four rows of all columns of 8-bit weights
        ask for half a panel from `ahead_at` on, so that the memory goes on while they compute.
        """
        b = emit.builder
        ahead = weights.at(ahead_at) if (rows, columns) == (4, PANEL) else None
        tiling = _Tile(emit, rows, vectors, column, length, ahead)
        panel, scales_of_panel = weights.at(weights_at), scales.at(scales_at, column)

        def of_rows(array: Array, at: Value, stride: Value) -> list[Value]:
            return [array.at(at, (stride, row)) for row in range(rows)]

        column_scales = None
        if weights.element in (types.float32, types.uint16):
            totals = tiling.float_sums(
                panel, weights.element == types.uint16, of_rows(inputs, inputs_at, inputs_stride)
            )
        else:
            whole = _WholeInputs(
                rounded.element.bitwidth,
                of_rows(rounded, inputs_at, inputs_stride),
                of_rows(sums, factors_at, factors_stride),
                of_rows(factors, factors_at, factors_stride),
            )
            if weights.element == types.int8:
                totals = tiling.int8_sums(panel, whole)
                column_scales = [emit.load(emit.at(scales_of_panel, index(v * LANES))) for v in range(vectors)]
            else:
                totals = tiling.int4_sums(panel, scales_of_panel, whole)
        biases = [emit.load(bias.at(bias_at, column, index(v * LANES))) for v in range(vectors)]
        for number, total in enumerate(totals):
            row, v = divmod(number, vectors)
            result = emit.fma(total, column_scales[v], biases[v]) if column_scales else b.fadd(total, biases[v])
            pointer = out.at(out_at, column, (out_stride, row), index(v * LANES))
            with b.if_else(b.icmp_signed("!=", add, index(0))) as (then, otherwise):
                with then:
                    emit.store(b.fadd(emit.load(pointer), result), pointer)
                with otherwise:
                    emit.store(result, pointer)

    return tile


class _Tile:
    """The sums of a tile, for each way that weights are stored: rows x vectors of them, row by row."""

    def __init__(
        self, emit: Emitter, rows: int, vectors: int, column: Value, length: Value, ahead: Value | None
    ) -> None:
        self.emit, self.rows, self.vectors, self.column, self.length = emit, rows, vectors, column, length
        self.ahead = ahead

    def float_sums(self, weights: Value, bfloat16: bool, inputs_of: list[Value]) -> list[Value]:
        """Float weights, [K, 64] a panel, by float inputs."""
        emit, b = self.emit, self.emit.builder

        def body(place: Value, sums: Sequence[Value]) -> list[Value]:
            sums = list(sums)
            for unrolled in range(4):
                k = emit.offset(place, index(unrolled))
                columns = []
                for v in range(self.vectors):
                    pointer = emit.at(weights, (k, PANEL), self.column, index(v * LANES))
                    if bfloat16:
                        high = b.shl(b.zext(emit.load(pointer, I16), INTS), int_constant(16))
                        columns.append(b.bitcast(high, FLOATS))
                    else:
                        columns.append(emit.load(pointer))
                for row in range(self.rows):
                    x = emit.splat(emit.number(emit.at(inputs_of[row], k)))
                    for v in range(self.vectors):
                        n = row * self.vectors + v
                        sums[n] = emit.fma(columns[v], x, sums[n])
            return sums

        return emit.loop(index(0), self.length, 4, [constant(0.0)] * (self.rows * self.vectors), body)

    def int8_sums(self, weights: Value, inputs: _WholeInputs) -> list[Value]:
        """8-bit weights + BIAS, [K/4, 64, 4] a panel, by whole inputs: whole numbers add up exactly, in any order."""
        emit, b = self.emit, self.emit.builder
        count = self.rows * self.vectors
        size = ACTIVATION_BLOCKS[inputs.bits]

        def four(place: Value, sums: Sequence[Value]) -> list[Value]:
            columns = []
            for v in range(self.vectors):
                pointer = emit.at(weights, (place, PANEL), (self.column, 4), index(v * 4 * LANES))
                columns.append(emit.load(pointer, I8, 4 * LANES))
            if self.ahead is not None:
                for line in range(2):
                    emit.prefetch(emit.at(self.ahead, (place, PANEL // 2), index(64 * line)))
            if inputs.bits == 8 and DOTS_OF_BYTES:
                return self._dots_of_bytes(place, columns, inputs, sums)
            pairs = [b.bitcast(column, PAIRS) for column in columns]
            even = [b.and_(pair, ir.Constant(PAIRS, [0xFF] * 2 * LANES)) for pair in pairs]
            odd = [b.lshr(pair, ir.Constant(PAIRS, [8] * 2 * LANES)) for pair in pairs]
            return self._dots_of_pairs(place, even, odd, inputs, sums)

        def block(start: Value, sums: Sequence[Value]) -> list[Value]:
            last = emit.offset(start, index(size))
            end = b.select(b.icmp_signed("<", last, self.length), last, self.length)
            number = b.udiv(start, index(size))
            bias = []  # BIAS times the sum of the inputs is taken from the sum before it begins
            for total in inputs.sums:
                whole = b.mul(emit.number(emit.at(total, number), I32), ir.Constant(I32, -BIAS))
                bias += [emit.splat(whole)] * self.vectors
            whole = emit.loop(start, end, 4, bias, four)
            scales = [emit.splat(emit.number(emit.at(scale, number))) for scale in inputs.scales]
            return [
                emit.fma(b.sitofp(whole[n], FLOATS), scales[n // self.vectors], total) for n, total in enumerate(sums)
            ]

        return emit.loop(index(0), self.length, size, [constant(0.0)] * count, block)

    def int4_sums(self, weights: Value, weight_scales: Value, inputs: _WholeInputs) -> list[Value]:
        """4-bit weights + 8, [K/4, 64, 2] bytes a panel, inputs 0 and 2, then 1 and 3; scales [K/32, 64]."""
        emit, b = self.emit, self.emit.builder
        count = self.rows * self.vectors

        def four(place: Value, sums: Sequence[Value]) -> list[Value]:
            even: list[Value] = []
            odd: list[Value] = []
            for v in range(self.vectors):
                pointer = emit.at(weights, (place, PANEL // 2), (self.column, 2), index(v * 2 * LANES))
                both = b.zext(b.bitcast(emit.load(pointer, I8, 2 * LANES), ir.VectorType(I16, LANES)), INTS)
                for found, shift in ((even, 0), (odd, 8)):
                    byte = b.lshr(both, int_constant(shift))
                    low = b.and_(byte, int_constant(0xF))
                    high = b.and_(b.shl(byte, int_constant(12)), int_constant(0xF0000))
                    found.append(b.sub(b.bitcast(b.or_(low, high), PAIRS), ir.Constant(PAIRS, [8] * 2 * LANES)))
            return self._dots_of_pairs(place, even, odd, inputs, sums)

        def group(start: Value, sums: Sequence[Value]) -> list[Value]:
            end = emit.offset(start, index(GROUP))
            whole = emit.loop(start, end, 4, [int_constant(0)] * count, four)
            number = b.udiv(start, index(GROUP))
            columns = [
                self._widened(emit.load(emit.at(weight_scales, (number, PANEL), index(v * LANES)), I16))
                for v in range(self.vectors)
            ]
            block = b.udiv(start, index(ACTIVATION_BLOCKS[inputs.bits]))
            scales = [emit.splat(emit.number(emit.at(scale, block))) for scale in inputs.scales]
            return [
                emit.fma(
                    b.sitofp(whole[n], FLOATS), b.fmul(columns[n % self.vectors], scales[n // self.vectors]), total
                )
                for n, total in enumerate(sums)
            ]

        return emit.loop(index(0), self.length, GROUP, [constant(0.0)] * count, group)

    def _widened(self, bits: Value) -> Value:
        """Finite float16 numbers, given as their bits, as float32."""
        b = self.emit.builder
        if WIDENS_FLOAT16:
            return b.fpext(b.bitcast(bits, ir.VectorType(ir.HalfType(), LANES)), FLOATS)
        wide = b.zext(bits, INTS)
        sign = b.shl(b.and_(wide, int_constant(0x8000)), int_constant(16))
        small = b.shl(b.and_(wide, int_constant(0x7FFF)), int_constant(13))
        return b.fmul(b.bitcast(b.or_(sign, small), FLOATS), constant(2.0**112))  # its exponents begin 112 higher

    def _dots_of_pairs(
        self, place: Value, even: list[Value], odd: list[Value], inputs: _WholeInputs, sums: Sequence[Value]
    ) -> list[Value]:
        """Sums + weights (inputs 0 and 2, 1 and 3 of the four at `place`) x inputs, by multiply-and-add of pairs."""
        emit, b = self.emit, self.emit.builder
        sums = list(sums)
        for row, numbers in enumerate(inputs.numbers):
            pointer = emit.at(numbers, place)
            if inputs.bits == 16:  # stored in this order already
                both = [emit.number(emit.at(pointer, index(n)), I32) for n in (0, 2)]
                pairs = [b.bitcast(emit.splat(pair), PAIRS) for pair in both]
            else:
                bytes_ = b.bitcast(emit.splat(emit.number(pointer, I32)), PAIRS)
                eight = ir.Constant(PAIRS, [8] * 2 * LANES)
                pairs = [b.ashr(b.shl(bytes_, eight), eight), b.ashr(bytes_, eight)]
            for columns, x in ((even, pairs[0]), (odd, pairs[1])):
                for v in range(self.vectors):
                    products = b.mul(b.sext(columns[v], PRODUCTS), b.sext(x, PRODUCTS))
                    first = emit.shuffle(products, range(0, 2 * LANES, 2))
                    second = emit.shuffle(products, range(1, 2 * LANES, 2))
                    n = row * self.vectors + v
                    sums[n] = b.add(sums[n], b.add(first, second))
        return sums

    def _dots_of_bytes(
        self, place: Value, columns: list[Value], inputs: _WholeInputs, sums: Sequence[Value]
    ) -> list[Value]:
        """The same for inputs of 8 bits, by the instruction for it."""
        emit, b = self.emit, self.emit.builder
        sums = list(sums)
        for row, numbers in enumerate(inputs.numbers):
            x = emit.splat(emit.number(emit.at(numbers, place), I32))
            for v in range(self.vectors):
                n = row * self.vectors + v
                sums[n] = emit.call("llvm.x86.avx512.vpdpbusd.512", sums[n], b.bitcast(columns[v], INTS), x)
        return sums


COLUMNS_2, COLUMNS_4 = (PANEL, PANEL) if WIDE_REGISTERS else (32, 16)
tile_1, tile_2, tile_4 = _tile(1, PANEL), _tile(2, COLUMNS_2), _tile(4, COLUMNS_4)


def _is_stored(*elements: Any) -> Any:
    """A question that the compiler answers: whether weights are stored in one of some types."""

    @kernel(types.boolean)
    def stored(_: Emitter, weights: Array) -> Value:
        return ir.Constant(ir.IntType(1), weights.element in elements)

    return stored


are_whole, are_int8, are_int4 = _is_stored(types.int8, types.uint8), _is_stored(types.int8), _is_stored(types.uint8)


@kernel(types.float32)
def number_at(emit: Emitter, weights: Array, at: Value) -> Value:
    """One stored number as float32; of 8-bit numbers BIAS more than the number, and without its scale."""
    b = emit.builder
    stored = b.load(weights.at(at))
    if weights.element == types.float32:
        return stored
    if weights.element == types.uint16:
        return b.bitcast(b.shl(b.zext(stored, I32), ir.Constant(I32, 16)), F32)
    return b.uitofp(stored, F32)


@kernel()
def layer_norm(
    emit: Emitter,
    inputs: Array,
    inputs_at: Value,
    width: Value,
    padded: Value,
    parameters: Array,
    gain_at: Value,
    bias_at: Value,
    epsilon: Value,
    out: Array,
    out_at: Value,
) -> None:
    """Out = (inputs - mean) / sqrt(variance + epsilon) * gain + bias over `width` numbers; zeros up to `padded`.

    NaN where the variance is beyond float32: a scale of 0 would make ordinary numbers of it.
    """
    b, x = emit.builder, inputs.at(inputs_at)
    count = b.sitofp(width, F32)

    def add(k: Value, sums: Sequence[Value]) -> list[Value]:
        return [b.fadd(sums[0], emit.load(emit.at(x, k)))]

    (total,) = emit.loop(index(0), padded, LANES, [constant(0.0)], add)
    mean = emit.splat(b.fdiv(emit.across(b.fadd, total), count))

    def add_square(k: Value, sums: Sequence[Value]) -> list[Value]:
        apart = b.fsub(emit.load(emit.at(x, k)), mean)
        apart = b.select(emit.first_lanes(k, width), apart, constant(0.0))
        return [emit.fma(apart, apart, sums[0])]

    (total,) = emit.loop(index(0), padded, LANES, [constant(0.0)], add_square)
    variance = b.fdiv(emit.across(b.fadd, total), count)
    inverse = b.fdiv(ir.Constant(F32, 1.0), emit.sqrt(b.fadd(variance, epsilon)))
    is_finite = b.fcmp_ordered("<", variance, ir.Constant(F32, float("inf")))
    scale = emit.splat(b.select(is_finite, inverse, ir.Constant(F32, float("nan"))))

    def write(k: Value, _: Sequence[Value]) -> list[Value]:
        normal = b.fmul(b.fsub(emit.load(emit.at(x, k)), mean), scale)
        gain, bias = emit.load(parameters.at(gain_at, k)), emit.load(parameters.at(bias_at, k))
        emit.store(emit.fma(normal, gain, bias), out.at(out_at, k))
        return []

    emit.loop(index(0), padded, LANES, [], write)


def rounding(emit: Emitter, largest: Value, bits: int) -> tuple[Value, Value]:
    """The scale of whole numbers of some bits, the largest of which stands for `largest`; and its inverse, a vector."""
    b, top = emit.builder, ir.Constant(F32, float(2 ** (bits - 1) - 1))
    is_large = b.fcmp_ordered(">", largest, ir.Constant(F32, SMALLEST_ROUNDED))
    return b.fdiv(largest, top), emit.splat(b.select(is_large, b.fdiv(top, largest), ir.Constant(F32, 0.0)))


@kernel()
def round_inputs(
    emit: Emitter,
    inputs: Array,
    inputs_at: Value,
    length: Value,
    out: Array,
    out_at: Value,
    sums: Array,
    factors: Array,
    factors_at: Value,
) -> None:
    """Inputs as whole numbers of 16 or 8 bits, with a factor and the sum of the whole numbers for each block of them.

    Of 16 bits, each four of them lie in the order 0, 2, 1, 3, in which weights are unpacked. A block that holds a NaN
    or an infinity has such a factor, so that what is computed from it is no number either.
    """
    b, x, bits = emit.builder, inputs.at(inputs_at), out.element.bitwidth
    size = ACTIVATION_BLOCKS[bits]
    order = [4 * (lane // 4) + (0, 2, 1, 3)[lane % 4] for lane in range(LANES)]

    def block(start: Value, _: Sequence[Value]) -> list[Value]:
        end = emit.smaller(emit.offset(start, index(size)), length)
        largest = emit.largest(start, end, lambda k: emit.load(emit.at(x, k)))
        number = emit.offset(factors_at, b.udiv(start, index(size)))
        factor, inverse = rounding(emit, largest, bits)
        b.store(factor, factors.at(number), align=4)

        def write(k: Value, total: Sequence[Value]) -> list[Value]:
            whole = b.fptosi(emit.nearest(b.fmul(emit.load(emit.at(x, k)), inverse)), INTS)
            narrow = b.trunc(whole, ir.VectorType(ir.IntType(bits), LANES))
            emit.store(emit.shuffle(narrow, order) if bits == 16 else narrow, out.at(out_at, k))
            return [b.add(total[0], whole)]

        (total,) = emit.loop(start, end, LANES, [int_constant(0)], write)
        b.store(emit.across(b.add, total), sums.at(number), align=4)
        return []

    emit.loop(index(0), length, size, [], block)


@kernel()
def gelu_tanh(emit: Emitter, values: Array, at: Value, length: Value) -> None:
    """GELU by tanh, in place: x / (1 + exp(-2u)) with u = sqrt(2/pi) (x + 0.044715 x**3)."""
    b = emit.builder

    def body(k: Value, _: Sequence[Value]) -> list[Value]:
        pointer = values.at(at, k)
        x = emit.load(pointer)
        cubic = emit.fma(b.fmul(x, constant(0.044715)), b.fmul(x, x), x)
        power = b.fmul(cubic, constant(-2 * 0.7978845608028654))
        far = b.fcmp_ordered(">", power, constant(80.0))  # x is below -8: -0 in float32
        power = b.select(far, constant(80.0), power)
        result = b.fdiv(x, b.fadd(constant(1.0), emit.exp(power)))
        emit.store(b.select(far, constant(-0.0), result), pointer)
        return []

    emit.loop(index(0), length, LANES, [], body)


@kernel(types.int64)
def greatest(emit: Emitter, values: Array, at: Value, end: Value) -> Value:
    """Where the greatest of the values from `at` to `end` lies, the first of equals; -1 where one is not finite."""
    b = emit.builder

    lowest, nowhere = constant(float("-inf")), int_constant(2**31 - 1)

    def look(k: Value, found: Sequence[Value]) -> list[Value]:
        best, places, most = found
        inside = emit.first_lanes(k, end)
        x = b.select(inside, emit.load(values.at(k)), lowest)
        better = b.fcmp_ordered(">", x, best)
        here = b.add(emit.splat(b.trunc(b.sub(k, at), I32)), ir.Constant(INTS, list(range(LANES))))
        bits = b.select(inside, b.bitcast(emit.absolute(x), INTS), int_constant(0))
        return [b.select(better, x, best), b.select(better, here, places), emit.larger_whole(bits, most)]

    best, places, most = emit.loop(at, end, LANES, [lowest, nowhere, int_constant(0)], look)
    top = emit.splat(emit.across(emit.larger, best))
    first = emit.across(emit.smaller, b.select(b.fcmp_ordered("==", best, top), places, nowhere))
    largest = b.bitcast(emit.across(emit.larger_whole, most), F32)
    is_finite = b.fcmp_ordered("<", largest, ir.Constant(F32, float("inf")))
    return b.select(is_finite, b.add(b.sext(first, I64), at), index(-1))


@kernel(types.int64)
def _atomic_add(emit: Emitter, array: Array, at: Value) -> Value:
    """Add 1 to a number that other threads change; gives what it was."""
    return emit.builder.atomic_rmw("add", array.at(at), index(1), "seq_cst")


@kernel()
def _atomic_store(emit: Emitter, array: Array, at: Value, value: Value) -> None:
    emit.builder.store_atomic(value, array.at(at), "seq_cst", 8)


@kernel(types.int64)
def _atomic_load(emit: Emitter, array: Array, at: Value) -> Value:
    return emit.builder.load_atomic(array.at(at), "seq_cst", 8)


@kernel()
def _pause(emit: Emitter) -> None:
    """Tell the processor that this thread only waits."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        emit.call_nothing("llvm.x86.sse2.pause")


@kernel()
def _yield_processor(emit: Emitter) -> None:
    """Let another thread have the processor."""
    if platform.system() != "Windows":
        emit.call_nothing("sched_yield")


SPINS = 1_000
"""Looks at a barrier (about 30 microseconds) before a waiting thread offers its processor to others: to the very thread
that it waits for, where another program keeps the other processor busy."""


@compiled
def barrier(state, threads):  # type: ignore[no-untyped-def]
    """Wait until `threads` threads have come here; `state` int64 [16]: arrivals at 0, rounds at 8 (a line apart)."""
    round_ = _atomic_load(state, 8)
    if _atomic_add(state, 0) == threads - 1:
        _atomic_store(state, 0, 0)
        _atomic_store(state, 8, round_ + 1)
        return
    looks = 0
    while _atomic_load(state, 8) == round_:
        looks += 1
        _pause()
        if looks > SPINS:
            _yield_processor()

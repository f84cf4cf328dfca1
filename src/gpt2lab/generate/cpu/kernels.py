"""The kernels of a GPT-2 step, each a loop or two over vectors of 16 lanes, called from `step.py`.

Every array is flat; an argument that ends in `_at` is an offset in elements. Weights lie in panels of 64 columns
(`packing.py`). All numbers of a column are added in the order of k, whatever the number of rows in a call.

Legend: K numbers a row of input has (a multiple of 64), R rows of a tile, columns those of the panel's 64 that a tile
computes, S tokens that a sequence holds.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
from llvmlite import binding, ir
from numba.core import types
from numba.extending import intrinsic

from gpt2lab.generate.cpu.vectors import (
    F32,
    FLOATS,
    I8,
    I16,
    I32,
    I64,
    INTS,
    LANES,
    Emitter,
    Value,
    constant,
    index,
    int_constant,
)

PANEL = 64
"""Columns of a panel of weights: one cache line of 8-bit numbers."""
ACTIVATION_BLOCKS = {16: 256, 8: 64}
"""Inputs that share one scale where they are rounded, to 16 bits (256 at most, or 32-bit sums overflow) or to 8."""
GROUP = 32
"""Inputs that share one scale of 4-bit weights."""
BLOCK_TOKENS = 16
"""Tokens of a block of the KV cache: the lanes of a vector, so that 16 tokens' scores are one vector."""

_I64, _F32 = types.int64, types.float32
_FLOAT_ARRAY = types.Array(types.float32, 1, "C")
LOWEST = -3.0e38
PAIRS = ir.VectorType(I16, 2 * LANES)
PRODUCTS = ir.VectorType(I32, 2 * LANES)

_FEATURES = (numba.config.CPU_FEATURES or binding.get_host_cpu_features().flatten()).split(",")
WIDE_REGISTERS = "+avx512f" in _FEATURES
"""Whether the machine has 32 vector registers of 16 lanes: tiles are cut so that their sums fit the registers."""
DOTS_OF_BYTES = "+avx512vnni" in _FEATURES
"""Whether one instruction multiplies 64 bytes by 64 and adds them four and four."""
BIAS = 128
"""What is added to 8-bit weights in memory: that instruction wants them without a sign."""


def _tile(rows: int, columns: int) -> Callable[..., Any]:
    """A kernel that computes `rows` rows of `columns` outputs: out = input x weights * scale + bias (+ out)."""

    @intrinsic
    def tile(
        _typing: Any,
        weights: Any,
        weights_at: Any,
        scales: Any,
        scales_at: Any,
        column: Any,
        bias: Any,
        bias_at: Any,
        inputs: Any,
        inputs_at: Any,
        inputs_stride: Any,
        rounded: Any,
        input_sums: Any,
        input_scales: Any,
        input_scales_at: Any,
        input_scales_stride: Any,
        length: Any,
        out: Any,
        out_at: Any,
        out_stride: Any,
        add: Any,
    ) -> Any:
        signature = types.void(
            weights, _I64, scales, _I64, _I64, bias, _I64, inputs, _I64, _I64, rounded, input_sums, input_scales, _I64,
            _I64, _I64, out, _I64, _I64, _I64,
        )  # fmt: skip

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
            emit = Emitter(context, builder, signature, arguments)
            (_, weights_at, _, scales_at, column, _, bias_at, _, inputs_at, stride, _, _, _, input_scales_at,
             scales_stride, length, _, out_at, out_stride, add) = arguments  # fmt: skip
            vectors = columns // LANES
            tiling = _Tile(emit, rows, vectors, column, length)
            bias_pointer = emit.array(5, emit.offset(bias_at, column))
            if weights.dtype in (types.float32, types.uint16):
                inputs_of = [emit.array(7, emit.offset(inputs_at, (stride, row))) for row in range(rows)]
                sums = tiling.float_sums(emit.array(0, weights_at), weights.dtype == types.uint16, inputs_of)
                scales_of = None
            else:
                bits = rounded.dtype.bitwidth
                whole = _WholeInputs(
                    bits,
                    [emit.array(10, emit.offset(inputs_at, (stride, row))) for row in range(rows)],
                    [emit.array(11, emit.offset(input_scales_at, (scales_stride, row))) for row in range(rows)],
                    [emit.array(12, emit.offset(input_scales_at, (scales_stride, row))) for row in range(rows)],
                )
                scales_pointer = emit.array(2, emit.offset(scales_at, column))
                if weights.dtype == types.int8:
                    sums = tiling.int8_sums(emit.array(0, weights_at), whole)
                    scales_of = [emit.load(emit.at(scales_pointer, index(v * LANES))) for v in range(vectors)]
                else:
                    sums = tiling.int4_sums(emit.array(0, weights_at), scales_pointer, whole)
                    scales_of = None
            biases = [emit.load(emit.at(bias_pointer, index(v * LANES))) for v in range(vectors)]
            for number, total in enumerate(sums):
                row, v = divmod(number, vectors)
                result = emit.fma(total, scales_of[v], biases[v]) if scales_of else builder.fadd(total, biases[v])
                pointer = emit.array(16, emit.offset(out_at, column, (out_stride, row), index(v * LANES)))
                with builder.if_else(builder.icmp_signed("!=", add, index(0))) as (then, otherwise):
                    with then:
                        emit.store(builder.fadd(emit.load(pointer), result), pointer)
                    with otherwise:
                        emit.store(result, pointer)
            return context.get_dummy_value()

        return signature, code

    return tile  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _WholeInputs:
    """Rows of inputs rounded to `bits` (16 or 8), their scales and, a block each, the sums of their whole numbers."""

    bits: int
    numbers: list[Value]
    sums: list[Value]
    scales: list[Value]


class _Tile:
    """The sums of a tile, for each way that weights are stored: rows x vectors of them, row by row."""

    def __init__(self, emit: Emitter, rows: int, vectors: int, column: Value, length: Value) -> None:
        self.emit, self.rows, self.vectors, self.column, self.length = emit, rows, vectors, column, length

    def float_sums(self, weights: Value, bfloat16: bool, inputs_of: list[Value]) -> list[Value]:
        """Float weights, [K, 64] a panel, by float inputs."""
        emit, b = self.emit, self.emit.builder

        def body(place: Value, sums: Any) -> list[Value]:
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
                    x = emit.splat(b.load(emit.at(inputs_of[row], k), align=4))
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

        def four(place: Value, sums: Any) -> list[Value]:
            columns = []
            for v in range(self.vectors):
                pointer = emit.at(weights, (place, PANEL), (self.column, 4), index(v * 4 * LANES))
                columns.append(emit.load(pointer, I8, 4 * LANES))
            if inputs.bits == 8 and DOTS_OF_BYTES:
                return self._dots_of_bytes(place, columns, inputs, sums)
            pairs = [b.bitcast(column, PAIRS) for column in columns]
            even = [b.and_(pair, ir.Constant(PAIRS, [0xFF] * 2 * LANES)) for pair in pairs]
            odd = [b.lshr(pair, ir.Constant(PAIRS, [8] * 2 * LANES)) for pair in pairs]
            return self._dots_of_pairs(place, even, odd, inputs, sums)

        def block(start: Value, sums: Any) -> list[Value]:
            last = emit.offset(start, index(size))
            end = b.select(b.icmp_signed("<", last, self.length), last, self.length)
            number = b.udiv(start, index(size))
            bias = []  # BIAS times the sum of the inputs is taken from the sum before it begins
            for total in inputs.sums:
                whole = b.mul(b.load(emit.at(total, number), align=4), ir.Constant(I32, -BIAS))
                bias += [emit.splat(whole)] * self.vectors
            whole = emit.loop(start, end, 4, bias, four)
            scales = [emit.splat(b.load(emit.at(scale, number), align=4)) for scale in inputs.scales]
            return [
                emit.fma(b.sitofp(whole[n], FLOATS), scales[n // self.vectors], total) for n, total in enumerate(sums)
            ]

        return emit.loop(index(0), self.length, size, [constant(0.0)] * count, block)

    def int4_sums(self, weights: Value, weight_scales: Value, inputs: _WholeInputs) -> list[Value]:
        """4-bit weights + 8, [K/4, 64, 2] bytes a panel, inputs 0 and 2, then 1 and 3; scales [K/32, 64]."""
        emit, b = self.emit, self.emit.builder
        count = self.rows * self.vectors

        def four(place: Value, sums: Any) -> list[Value]:
            even, odd = [], []
            for v in range(self.vectors):
                pointer = emit.at(weights, (place, PANEL // 2), (self.column, 2), index(v * 2 * LANES))
                both = b.zext(b.bitcast(emit.load(pointer, I8, 2 * LANES), ir.VectorType(I16, LANES)), INTS)
                for found, shift in ((even, 0), (odd, 8)):
                    byte = b.lshr(both, int_constant(shift))
                    low = b.and_(byte, int_constant(0xF))
                    high = b.and_(b.shl(byte, int_constant(12)), int_constant(0xF0000))
                    found.append(b.sub(b.bitcast(b.or_(low, high), PAIRS), ir.Constant(PAIRS, [8] * 2 * LANES)))
            return self._dots_of_pairs(place, even, odd, inputs, sums)

        def group(start: Value, sums: Any) -> list[Value]:
            end = emit.offset(start, index(GROUP))
            whole = emit.loop(start, end, 4, [int_constant(0)] * count, four)
            number = b.udiv(start, index(GROUP))
            halves = ir.VectorType(ir.HalfType(), LANES)
            columns = []
            for v in range(self.vectors):
                stored = emit.load(emit.at(weight_scales, (number, PANEL), index(v * LANES)), I16)
                columns.append(b.fpext(b.bitcast(stored, halves), FLOATS))
            block = b.udiv(start, index(ACTIVATION_BLOCKS[inputs.bits]))
            scales = [emit.splat(b.load(emit.at(scale, block), align=4)) for scale in inputs.scales]
            return [
                emit.fma(
                    b.sitofp(whole[n], FLOATS), b.fmul(columns[n % self.vectors], scales[n // self.vectors]), total
                )
                for n, total in enumerate(sums)
            ]

        return emit.loop(index(0), self.length, GROUP, [constant(0.0)] * count, group)

    def _dots_of_pairs(
        self, place: Value, even: list[Value], odd: list[Value], inputs: _WholeInputs, sums: Any
    ) -> list[Value]:
        """Sums + weights (inputs 0 and 2, 1 and 3 of the four at `place`) x inputs, by multiply-and-add of pairs."""
        emit, b = self.emit, self.emit.builder
        sums = list(sums)
        for row, numbers in enumerate(inputs.numbers):
            pointer = emit.at(numbers, place)
            if inputs.bits == 16:  # stored in this order already
                both = [b.load(b.bitcast(emit.at(pointer, index(n)), I32.as_pointer()), align=2) for n in (0, 2)]
                pairs = [b.bitcast(emit.splat(pair), PAIRS) for pair in both]
            else:
                bytes_ = b.bitcast(emit.splat(b.load(b.bitcast(pointer, I32.as_pointer()), align=1)), PAIRS)
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

    def _dots_of_bytes(self, place: Value, columns: list[Value], inputs: _WholeInputs, sums: Any) -> list[Value]:
        """The same for inputs of 8 bits, by the instruction for it."""
        emit, b = self.emit, self.emit.builder
        sums = list(sums)
        for row, numbers in enumerate(inputs.numbers):
            x = emit.splat(b.load(b.bitcast(emit.at(numbers, place), I32.as_pointer()), align=1))
            for v in range(self.vectors):
                n = row * self.vectors + v
                sums[n] = emit.call("llvm.x86.avx512.vpdpbusd.512", sums[n], b.bitcast(columns[v], INTS), x)
        return sums


COLUMNS_2, COLUMNS_4 = (PANEL, PANEL) if WIDE_REGISTERS else (32, 16)
tile_1, tile_2, tile_4 = _tile(1, PANEL), _tile(2, COLUMNS_2), _tile(4, COLUMNS_4)


def _is_stored(*element_types: Any) -> Callable[..., Any]:
    """A question that a compiler answers: whether weights are stored in one of some types."""

    @intrinsic
    def stored(_typing: Any, weights: Any) -> Any:
        answer = ir.Constant(ir.IntType(1), weights.dtype in element_types)
        return types.boolean(weights), lambda _context, _builder, _signature, _arguments: answer

    return stored  # type: ignore[no-any-return]


are_whole = _is_stored(types.int8, types.uint8)
are_int8 = _is_stored(types.int8)
are_int4 = _is_stored(types.uint8)


@intrinsic
def number_at(_typing: Any, weights: Any, at: Any) -> Any:
    """One stored number as float32; of 8-bit numbers BIAS more than the number, and without its scale."""
    signature = types.float32(weights, _I64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        stored = builder.load(Emitter(context, builder, signature, arguments).array(0, arguments[1]))
        if weights.dtype == types.float32:
            return stored
        if weights.dtype == types.uint16:
            return builder.bitcast(builder.shl(builder.zext(stored, I32), ir.Constant(I32, 16)), F32)
        return builder.uitofp(stored, F32)

    return signature, code


@intrinsic
def layer_norm(
    _typing: Any, inputs: Any, inputs_at: Any, width: Any, padded: Any, gain: Any, gain_at: Any, bias_at: Any,
    epsilon: Any, out: Any, out_at: Any,
) -> Any:  # fmt: skip
    """Out = (inputs - mean) / sqrt(variance + epsilon) * gain + bias over `width` numbers; zeros up to `padded`."""
    signature = types.void(inputs, _I64, _I64, _I64, gain, _I64, _I64, _F32, out, _I64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        emit, b = Emitter(context, builder, signature, arguments), builder
        _, inputs_at, width, padded, _, gain_at, bias_at, epsilon, _, out_at = arguments
        x = emit.array(0, inputs_at)
        count = b.sitofp(width, F32)
        (total,) = emit.loop(
            index(0), padded, LANES, [constant(0.0)], lambda k, sums: [b.fadd(sums[0], emit.load(emit.at(x, k)))]
        )
        mean = emit.splat(b.fdiv(emit.across(emit.add, total), count))

        def squares(k: Value, sums: Any) -> list[Value]:
            apart = b.fsub(emit.load(emit.at(x, k)), mean)
            apart = b.select(emit.first_lanes(k, width), apart, constant(0.0))
            return [emit.fma(apart, apart, sums[0])]

        (total,) = emit.loop(index(0), padded, LANES, [constant(0.0)], squares)
        variance = b.fdiv(emit.across(emit.add, total), count)
        one = ir.Constant(F32, 1.0)
        scale = emit.splat(b.fdiv(one, emit.sqrt(b.fadd(variance, epsilon))))

        def write(k: Value, _: Any) -> list[Value]:
            normal = b.fmul(b.fsub(emit.load(emit.at(x, k)), mean), scale)
            gains = emit.load(emit.array(4, emit.offset(gain_at, k)))
            biases = emit.load(emit.array(4, emit.offset(bias_at, k)))
            emit.store(emit.fma(normal, gains, biases), emit.array(8, emit.offset(out_at, k)))
            return []

        emit.loop(index(0), padded, LANES, [], write)
        return context.get_dummy_value()

    return signature, code


@intrinsic
def round_inputs(
    _typing: Any, inputs: Any, inputs_at: Any, length: Any, out: Any, out_at: Any, sums: Any, scales: Any, scales_at: Any
) -> Any:  # fmt: skip
    """Inputs as whole numbers of 16 or 8 bits, with a scale and the sum of the whole numbers for each block of them.

    Of 16 bits, each four of them lie in the order 0, 2, 1, 3, in which weights are unpacked.
    """
    signature = types.void(inputs, _I64, _I64, out, _I64, sums, scales, _I64)
    bits = out.dtype.bitwidth
    size, limit = ACTIVATION_BLOCKS[bits], float(2 ** (bits - 1) - 1)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        emit, b = Emitter(context, builder, signature, arguments), builder
        _, inputs_at, length, _, out_at, _, _, scales_at = arguments
        x = emit.array(0, inputs_at)
        zero, top = ir.Constant(F32, 0.0), ir.Constant(F32, limit)
        order = [4 * (lane // 4) + (0, 2, 1, 3)[lane % 4] for lane in range(LANES)]

        def block(start: Value, _: Any) -> list[Value]:
            last = emit.offset(start, index(size))
            end = b.select(b.icmp_signed("<", last, length), last, length)
            (most,) = emit.loop(
                start,
                end,
                LANES,
                [constant(0.0)],
                lambda k, found: [emit.larger(emit.absolute(emit.load(emit.at(x, k))), found[0])],
            )
            largest = emit.across(emit.larger, most)
            number = emit.offset(scales_at, b.udiv(start, index(size)))
            b.store(b.fdiv(largest, top), emit.array(6, number), align=4)
            some = b.fcmp_ordered(">", largest, zero)
            inverse = emit.splat(b.select(some, b.fdiv(top, largest), zero))

            def write(k: Value, total: Any) -> list[Value]:
                whole = b.fptosi(emit.nearest(b.fmul(emit.load(emit.at(x, k)), inverse)), INTS)
                narrow = b.trunc(whole, ir.VectorType(ir.IntType(bits), LANES))
                emit.store(emit.shuffle(narrow, order) if bits == 16 else narrow, emit.array(3, emit.offset(out_at, k)))
                return [b.add(total[0], whole)]

            (total,) = emit.loop(start, end, LANES, [int_constant(0)], write)
            b.store(emit.across(b.add, total), emit.array(5, number), align=4)
            return []

        emit.loop(index(0), length, size, [], block)
        return context.get_dummy_value()

    return signature, code


@intrinsic
def gelu_tanh(_typing: Any, values: Any, at: Any, length: Any) -> Any:
    """GELU by tanh, in place: x / (1 + exp(-2u)) with u = sqrt(2/pi) (x + 0.044715 x**3)."""
    signature = types.void(values, _I64, _I64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        emit, b = Emitter(context, builder, signature, arguments), builder
        _, at, length = arguments

        def body(k: Value, _: Any) -> list[Value]:
            pointer = emit.array(0, emit.offset(at, k))
            x = emit.load(pointer)
            cubic = emit.fma(b.fmul(x, constant(0.044715)), b.fmul(x, x), x)
            power = b.fmul(cubic, constant(-2 * 0.7978845608028654))
            high = b.fcmp_ordered(">", power, constant(80.0))
            power = b.select(high, constant(80.0), power)
            emit.store(b.fdiv(x, b.fadd(constant(1.0), emit.exp(power))), pointer)
            return []

        emit.loop(index(0), length, LANES, [], body)
        return context.get_dummy_value()

    return signature, code


def _attention_scores(rows: int) -> Callable[..., Any]:
    """A kernel for `rows` queries of one sequence that follow each other: each sees one token more than the last."""

    @intrinsic
    def attention_scores(
        _typing: Any, queries: Any, queries_at: Any, heads: Any, width: Any, keys: Any, keys_at: Any, block_stride: Any,
        table: Any, table_at: Any, tokens: Any, scores: Any, scores_at: Any, scores_stride: Any,
    ) -> Any:  # fmt: skip
        """Scores [heads, rows, S] = queries [heads, rows, width] . keys, in blocks [heads, width, 16].

        The first query sees `tokens` tokens; what a query doesn't see is LOWEST. Memory is read block by block, from
        a block's first head to its last, as it lies.
        """
        signature = types.void(queries, _I64, _I64, _I64, keys, _I64, _I64, table, _I64, _I64, scores, _I64, _I64)

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
            emit, b = Emitter(context, builder, signature, arguments), builder
            (_, queries_at, heads, width, _, keys_at, block_stride, _, table_at, tokens, _, scores_at,
             scores_stride) = arguments  # fmt: skip
            end = emit.offset(tokens, index(rows - 1))

            def block(start: Value, _: Any) -> list[Value]:
                entry = b.load(emit.array(7, emit.offset(table_at, b.lshr(start, index(4)))))
                k_block = emit.array(4, emit.offset(keys_at, b.mul(b.sext(entry, I64), block_stride)))

                def head(number: Value, _: Any) -> list[Value]:
                    k_head = emit.at(k_block, (b.mul(number, width), LANES))
                    first = b.mul(number, index(rows))
                    queries_of = [
                        emit.array(0, emit.offset(queries_at, b.mul(emit.offset(first, index(row)), width)))
                        for row in range(rows)
                    ]

                    def four(k: Value, sums: Any) -> list[Value]:  # four sums a row: one would wait for itself
                        sums = list(sums)
                        for n in range(4):
                            column = emit.load(emit.at(k_head, (k, LANES), index(n * LANES)))
                            for row in range(rows):
                                x = emit.splat(b.load(emit.at(queries_of[row], k, index(n)), align=4))
                                sums[4 * row + n] = emit.fma(x, column, sums[4 * row + n])
                        return sums

                    sums = emit.loop(index(0), width, 4, [constant(0.0)] * (4 * rows), four)
                    for row in range(rows):
                        one, two, three, four_ = sums[4 * row : 4 * row + 4]
                        total = b.fadd(b.fadd(one, two), b.fadd(three, four_))
                        seen = emit.first_lanes(start, emit.offset(tokens, index(row)))
                        total = b.select(seen, total, constant(LOWEST))
                        place = b.mul(emit.offset(first, index(row)), scores_stride)
                        emit.store(total, emit.array(10, emit.offset(scores_at, place, start)))
                    return []

                emit.loop(index(0), heads, 1, [], head)
                return []

            emit.loop(index(0), end, LANES, [], block)
            return context.get_dummy_value()

        return signature, code

    return attention_scores  # type: ignore[no-any-return]


@intrinsic
def exponentials(_typing: Any, scores: Any, scores_at: Any, tokens: Any) -> Any:
    """Scores [S] become exp(score - the largest), in place; gives their sum."""
    signature = types.float32(scores, _I64, _I64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        emit, b = Emitter(context, builder, signature, arguments), builder
        _, scores_at, tokens = arguments
        x = emit.array(0, scores_at)
        (most,) = emit.loop(
            index(0),
            tokens,
            LANES,
            [constant(LOWEST)],
            lambda k, found: [emit.larger(emit.load(emit.at(x, k)), found[0])],
        )
        top = emit.splat(emit.across(emit.larger, most))

        def body(k: Value, sums: Any) -> list[Value]:
            pointer = emit.at(x, k)
            power = emit.exp(b.fsub(emit.load(pointer), top))
            emit.store(power, pointer)
            return [b.fadd(sums[0], power)]

        (total,) = emit.loop(index(0), tokens, LANES, [constant(0.0)], body)
        return emit.across(emit.add, total)

    return signature, code


def _weighted_values(rows: int, vectors: int) -> Callable[..., Any]:
    """A kernel for `rows` rows of weights a head and 16 * `vectors` columns of the values."""

    @intrinsic
    def weighted(
        _typing: Any, weights: Any, weights_at: Any, weights_stride: Any, heads: Any, values: Any, values_at: Any,
        width: Any, block_stride: Any, table: Any, table_at: Any, tokens: Any, out: Any, out_at: Any,
    ) -> Any:  # fmt: skip
        """Out [heads, rows, width] += weights [heads, rows, S] x values, in blocks [heads, 16, width]."""
        signature = types.void(weights, _I64, _I64, _I64, values, _I64, _I64, _I64, table, _I64, _I64, out, _I64)

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
            emit, b = Emitter(context, builder, signature, arguments), builder
            (_, weights_at, weights_stride, heads, _, values_at, width, block_stride, _, table_at, tokens, _,
             out_at) = arguments  # fmt: skip

            def block(start: Value, _: Any) -> list[Value]:
                entry = b.load(emit.array(8, emit.offset(table_at, b.lshr(start, index(4)))))
                v_block = emit.array(4, emit.offset(values_at, b.mul(b.sext(entry, I64), block_stride)))
                last = emit.offset(start, index(BLOCK_TOKENS))
                count = b.sub(b.select(b.icmp_signed("<", last, tokens), last, tokens), start)

                def head(number: Value, _: Any) -> list[Value]:
                    v_head = emit.at(v_block, (b.mul(number, width), BLOCK_TOKENS))
                    first = b.mul(number, index(rows))
                    places = [emit.offset(first, index(row)) for row in range(rows)]
                    p = [
                        emit.array(0, emit.offset(weights_at, b.mul(place, weights_stride), start)) for place in places
                    ]
                    results = [
                        emit.array(11, emit.offset(out_at, b.mul(place, width), index(v * LANES)))
                        for place in places
                        for v in range(vectors)
                    ]

                    def token(t: Value, sums: Any) -> list[Value]:
                        sums, at = list(sums), b.mul(t, width)
                        columns = [emit.load(emit.at(v_head, at, index(v * LANES))) for v in range(vectors)]
                        for row in range(rows):
                            weight = emit.splat(b.load(emit.at(p[row], t), align=4))
                            for v in range(vectors):
                                n = row * vectors + v
                                sums[n] = emit.fma(weight, columns[v], sums[n])
                        return sums

                    sums = emit.loop(index(0), count, 1, [emit.load(result) for result in results], token)
                    for total, result in zip(sums, results, strict=True):
                        emit.store(total, result)
                    return []

                emit.loop(index(0), heads, 1, [], head)
                return []

            emit.loop(index(0), tokens, BLOCK_TOKENS, [], block)
            return context.get_dummy_value()

        return signature, code

    return weighted  # type: ignore[no-any-return]


ROWS_TOGETHER = 4 if WIDE_REGISTERS else 1
"""Queries that attend together: with fewer registers their sums would not fit."""
attention_scores_1, attention_scores_n = _attention_scores(1), _attention_scores(ROWS_TOGETHER)
weighted_values_1x64, weighted_values_nx64 = _weighted_values(1, 4), _weighted_values(ROWS_TOGETHER, 4)
weighted_values_1x16, weighted_values_nx16 = _weighted_values(1, 1), _weighted_values(ROWS_TOGETHER, 1)


@intrinsic
def _atomic_add(_typing: Any, array: Any, at: Any) -> Any:
    signature = types.int64(array, _I64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        pointer = Emitter(context, builder, signature, arguments).array(0, arguments[1])
        return builder.atomic_rmw("add", pointer, index(1), "seq_cst")

    return signature, code


@intrinsic
def _atomic_store(_typing: Any, array: Any, at: Any, value: Any) -> Any:
    signature = types.void(array, _I64, _I64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        pointer = Emitter(context, builder, signature, arguments).array(0, arguments[1])
        builder.store_atomic(arguments[2], pointer, "seq_cst", 8)
        return context.get_dummy_value()

    return signature, code


@intrinsic
def _atomic_load(_typing: Any, array: Any, at: Any) -> Any:
    signature = types.int64(array, _I64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        pointer = Emitter(context, builder, signature, arguments).array(0, arguments[1])
        return builder.load_atomic(pointer, "seq_cst", 8)

    return signature, code


_ON_X86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")


@intrinsic
def _pause(_typing: Any) -> Any:
    """Tell the processor that this thread only waits."""

    def code(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Value:
        if _ON_X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(numba.core.cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def _yield_processor(_typing: Any) -> Any:
    """Let another thread have the processor."""

    def code(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Value:
        kind = ir.FunctionType(I32, [])
        builder.call(numba.core.cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), code


SPINS = 20_000
"""Looks at a barrier (a fraction of a millisecond) before a waiting thread offers its processor to others."""


@numba.njit(cache=True, nogil=True)
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

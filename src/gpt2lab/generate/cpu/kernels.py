"""The kernels of a GPT-2 step, each a loop or two over vectors of 16 lanes, called from `step.py`.

Every array is flat; an argument that ends in `_at` is an offset in elements. Weights lie in panels of 64 columns
(`packing.py`). All numbers of a column are added in the order of k, whatever the number of rows in a call.

Legend: K numbers a row of input has (a multiple of 64), R rows of a tile, columns those of the panel's 64 that a tile
computes, S tokens that a sequence holds.
"""

import platform
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import binding, ir
from numba.core import types
from numba.extending import intrinsic

from gpt2lab.generate.cpu.vectors import (
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
ACTIVATION_BLOCK = 256
"""Inputs that share one scale where they are rounded to 16 bits; 512 at most, or 32-bit sums could overflow."""
GROUP = 32
"""Inputs that share one scale of 4-bit weights."""
BLOCK_TOKENS = 16
"""Tokens of a block of the KV cache: the lanes of a vector, so that 16 tokens' scores are one vector."""

_I64, _F32 = types.int64, types.float32
_FLOAT_ARRAY = types.Array(types.float32, 1, "C")
LOWEST = -3.0e38

WIDE_REGISTERS = binding.get_host_cpu_features().get("avx512f", False)
"""Whether the machine has 32 vector registers of 16 lanes: tiles are cut so that their sums fit the registers."""


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
            weights, _I64, scales, _I64, _I64, bias, _I64, inputs, _I64, _I64, rounded, input_scales, _I64, _I64, _I64,
            out, _I64, _I64, _I64,
        )  # fmt: skip

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
            emit = Emitter(context, builder, signature, arguments)
            (_, weights_at, _, scales_at, column, _, bias_at, _, inputs_at, stride, _, _, input_scales_at,
             scales_stride, length, _, out_at, out_stride, add) = arguments  # fmt: skip
            vectors = columns // LANES
            tiling = _Tile(emit, rows, vectors, column, length)
            bias_pointer = emit.array(5, emit.offset(bias_at, column))
            if weights.dtype in (types.float32, types.uint16):
                inputs_of = [emit.array(7, emit.offset(inputs_at, (stride, row))) for row in range(rows)]
                sums = tiling.float_sums(emit.array(0, weights_at), weights.dtype == types.uint16, inputs_of)
                scales_of = None
            else:
                inputs_of = [
                    builder.bitcast(emit.array(10, emit.offset(inputs_at, (stride, row))), I32.as_pointer())
                    for row in range(rows)
                ]
                input_scales_of = [
                    emit.array(11, emit.offset(input_scales_at, (scales_stride, row))) for row in range(rows)
                ]
                scales_pointer = emit.array(2, emit.offset(scales_at, column))
                if weights.dtype == types.int8:
                    sums = tiling.int8_sums(emit.array(0, weights_at), inputs_of, input_scales_of)
                    scales_of = [emit.load(emit.at(scales_pointer, index(v * LANES))) for v in range(vectors)]
                else:
                    sums = tiling.int4_sums(emit.array(0, weights_at), scales_pointer, inputs_of, input_scales_of)
                    scales_of = None
            biases = [emit.load(emit.at(bias_pointer, index(v * LANES))) for v in range(vectors)]
            for number, total in enumerate(sums):
                row, v = divmod(number, vectors)
                result = emit.fma(total, scales_of[v], biases[v]) if scales_of else builder.fadd(total, biases[v])
                pointer = emit.array(15, emit.offset(out_at, column, (out_stride, row), index(v * LANES)))
                with builder.if_else(builder.icmp_signed("!=", add, index(0))) as (then, otherwise):
                    with then:
                        emit.store(builder.fadd(emit.load(pointer), result), pointer)
                    with otherwise:
                        emit.store(result, pointer)
            return context.get_dummy_value()

        return signature, code

    return tile  # type: ignore[no-any-return]


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

    def int8_sums(self, weights: Value, inputs_of: list[Value], scales_of: list[Value]) -> list[Value]:
        """8-bit weights, [K/2, 64, 2] a panel, by inputs of 16 bits: whole numbers add up exactly."""
        emit, b = self.emit, self.emit.builder
        count = self.rows * self.vectors

        def pairs_of(pair: Value) -> list[Value]:
            wide = ir.VectorType(I16, 2 * LANES)
            found = []
            for v in range(self.vectors):
                pointer = emit.at(weights, (pair, 2 * PANEL), (self.column, 2), index(v * 2 * LANES))
                found.append(b.sext(emit.load(pointer, I8, 2 * LANES), wide))
            return found

        def block(start: Value, sums: Any) -> list[Value]:
            last = emit.offset(start, index(ACTIVATION_BLOCK))
            end = b.select(b.icmp_signed("<", last, self.length), last, self.length)
            whole = self._whole_sums(
                b.lshr(start, index(1)), b.lshr(end, index(1)), 4, [int_constant(0)] * count, inputs_of, pairs_of
            )
            number = b.udiv(start, index(ACTIVATION_BLOCK))
            scales = [emit.splat(b.load(emit.at(scale, number), align=4)) for scale in scales_of]
            return [
                emit.fma(b.sitofp(whole[n], FLOATS), scales[n // self.vectors], total) for n, total in enumerate(sums)
            ]

        return emit.loop(index(0), self.length, ACTIVATION_BLOCK, [constant(0.0)] * count, block)

    def int4_sums(
        self, weights: Value, weight_scales: Value, inputs_of: list[Value], scales_of: list[Value]
    ) -> list[Value]:
        """4-bit weights, [K/2, 64] bytes a panel (low half: even k), scales [K/32, 64], by inputs of 16 bits."""
        emit, b = self.emit, self.emit.builder
        count = self.rows * self.vectors
        wide = ir.VectorType(I16, 2 * LANES)

        def pairs_of(pair: Value) -> list[Value]:
            found = []
            for v in range(self.vectors):
                pointer = emit.at(weights, (pair, PANEL), self.column, index(v * LANES))
                both = b.zext(emit.load(pointer, I8), INTS)
                low = b.and_(both, int_constant(0xF))
                high = b.and_(b.shl(both, int_constant(12)), int_constant(0xF0000))
                halves = b.bitcast(b.or_(low, high), wide)
                found.append(b.sub(halves, ir.Constant(wide, [8] * (2 * LANES))))
            return found

        def group(start: Value, sums: Any) -> list[Value]:
            first = b.lshr(start, index(1))
            whole = self._whole_sums(
                first, emit.offset(first, index(GROUP // 2)), 4, [int_constant(0)] * count, inputs_of, pairs_of
            )
            number = b.udiv(start, index(GROUP))
            halves = ir.VectorType(ir.HalfType(), LANES)
            columns = []
            for v in range(self.vectors):
                stored = emit.load(emit.at(weight_scales, (number, PANEL), index(v * LANES)), I16)
                columns.append(b.fpext(b.bitcast(stored, halves), FLOATS))
            block = b.udiv(start, index(ACTIVATION_BLOCK))
            scales = [emit.splat(b.load(emit.at(scale, block), align=4)) for scale in scales_of]
            return [
                emit.fma(
                    b.sitofp(whole[n], FLOATS), b.fmul(columns[n % self.vectors], scales[n // self.vectors]), total
                )
                for n, total in enumerate(sums)
            ]

        return emit.loop(index(0), self.length, GROUP, [constant(0.0)] * count, group)

    def _whole_sums(
        self,
        first: Value,
        end: Value,
        unrolled: int,
        sums: list[Value],
        inputs_of: list[Value],
        pairs_of: Callable[[Value], list[Value]],
    ) -> list[Value]:
        """Sums of products of whole numbers over pairs of k: the multiply-and-add of pairs that processors have."""
        emit, b = self.emit, self.emit.builder
        wide = ir.VectorType(I16, 2 * LANES)
        products_type = ir.VectorType(I32, 2 * LANES)

        def body(place: Value, sums: Any) -> list[Value]:
            sums = list(sums)
            for step in range(unrolled):
                pair = emit.offset(place, index(step))
                columns = [b.sext(column, products_type) for column in pairs_of(pair)]
                for row in range(self.rows):
                    both = emit.splat(b.load(emit.at(inputs_of[row], pair), align=2))
                    x = b.sext(b.bitcast(both, wide), products_type)
                    for v in range(self.vectors):
                        products = b.mul(columns[v], x)
                        even = emit.shuffle(products, range(0, 2 * LANES, 2))
                        odd = emit.shuffle(products, range(1, 2 * LANES, 2))
                        n = row * self.vectors + v
                        sums[n] = b.add(sums[n], b.add(even, odd))
            return sums

        return emit.loop(first, end, unrolled, sums, body)


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
    """One stored number as float32; of whole numbers without its scale."""
    signature = types.float32(weights, _I64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        stored = builder.load(Emitter(context, builder, signature, arguments).array(0, arguments[1]))
        if weights.dtype == types.float32:
            return stored
        if weights.dtype == types.uint16:
            return builder.bitcast(builder.shl(builder.zext(stored, I32), ir.Constant(I32, 16)), ir.FloatType())
        return builder.sitofp(stored, ir.FloatType())

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
        count = b.sitofp(width, ir.FloatType())
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
        one = ir.Constant(ir.FloatType(), 1.0)
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
def round_to_16_bits(
    _typing: Any, inputs: Any, inputs_at: Any, length: Any, out: Any, out_at: Any, scales: Any, scales_at: Any
) -> Any:
    """Inputs as whole numbers of 16 bits times a scale for every ACTIVATION_BLOCK of them."""
    signature = types.void(inputs, _I64, _I64, out, _I64, scales, _I64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        emit, b = Emitter(context, builder, signature, arguments), builder
        _, inputs_at, length, _, out_at, _, scales_at = arguments
        x = emit.array(0, inputs_at)
        zero, top = ir.Constant(ir.FloatType(), 0.0), ir.Constant(ir.FloatType(), 32767.0)

        def block(start: Value, _: Any) -> list[Value]:
            last = emit.offset(start, index(ACTIVATION_BLOCK))
            end = b.select(b.icmp_signed("<", last, length), last, length)
            (most,) = emit.loop(
                start,
                end,
                LANES,
                [constant(0.0)],
                lambda k, found: [emit.larger(emit.absolute(emit.load(emit.at(x, k))), found[0])],
            )
            largest = emit.across(emit.larger, most)
            number = b.udiv(start, index(ACTIVATION_BLOCK))
            b.store(b.fdiv(largest, top), emit.array(5, emit.offset(scales_at, number)), align=4)
            some = b.fcmp_ordered(">", largest, zero)
            inverse = emit.splat(b.select(some, b.fdiv(top, largest), zero))

            def write(k: Value, _: Any) -> list[Value]:
                whole = b.fptosi(emit.nearest(b.fmul(emit.load(emit.at(x, k)), inverse)), INTS)
                narrow = b.trunc(whole, ir.VectorType(I16, LANES))
                emit.store(narrow, emit.array(3, emit.offset(out_at, k)))
                return []

            emit.loop(start, end, LANES, [], write)
            return []

        emit.loop(index(0), length, ACTIVATION_BLOCK, [], block)
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


@intrinsic
def attention_scores(
    _typing: Any, query: Any, query_at: Any, width: Any, keys: Any, keys_at: Any, block_stride: Any, table: Any,
    table_at: Any, tokens: Any, scores: Any, scores_at: Any,
) -> Any:  # fmt: skip
    """Scores [S] = query . key of every token, in blocks [width, 16]; gives the largest. Beyond S they are lowest."""
    signature = types.float32(query, _I64, _I64, keys, _I64, _I64, table, _I64, _I64, scores, _I64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        emit, b = Emitter(context, builder, signature, arguments), builder
        _, query_at, width, _, keys_at, block_stride, _, table_at, tokens, _, scores_at = arguments
        q = emit.array(0, query_at)

        def block(start: Value, found: Any) -> list[Value]:
            entry = b.load(emit.array(6, emit.offset(table_at, b.lshr(start, index(4)))))
            base = emit.offset(keys_at, b.mul(b.sext(entry, I64), block_stride))
            k_block = emit.array(3, base)

            def four(k: Value, sums: Any) -> list[Value]:  # four sums: one would wait for itself
                return [
                    emit.fma(
                        emit.splat(b.load(emit.at(q, k, index(n)), align=4)),
                        emit.load(emit.at(k_block, (k, LANES), index(n * LANES))),
                        sums[n],
                    )
                    for n in range(4)
                ]

            sums = emit.loop(index(0), width, 4, [constant(0.0)] * 4, four)
            total = b.fadd(b.fadd(sums[0], sums[1]), b.fadd(sums[2], sums[3]))
            total = b.select(emit.first_lanes(start, tokens), total, constant(LOWEST))
            emit.store(total, emit.array(9, emit.offset(scores_at, start)))
            return [emit.larger(total, found[0])]

        (most,) = emit.loop(index(0), tokens, LANES, [constant(LOWEST)], block)
        return emit.across(emit.larger, most)

    return signature, code


@intrinsic
def exponentials(_typing: Any, scores: Any, scores_at: Any, tokens: Any, largest: Any) -> Any:
    """Scores [S] become exp(score - largest), in place; gives their sum."""
    signature = types.float32(scores, _I64, _I64, _F32)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        emit, b = Emitter(context, builder, signature, arguments), builder
        _, scores_at, tokens, largest = arguments
        top = emit.splat(largest)

        def body(k: Value, sums: Any) -> list[Value]:
            pointer = emit.array(0, emit.offset(scores_at, k))
            power = emit.exp(b.fsub(emit.load(pointer), top))
            emit.store(power, pointer)
            return [b.fadd(sums[0], power)]

        (total,) = emit.loop(index(0), tokens, LANES, [constant(0.0)], body)
        return emit.across(emit.add, total)

    return signature, code


def _weighted_values(vectors: int) -> Callable[..., Any]:
    @intrinsic
    def weighted(
        _typing: Any, weights: Any, weights_at: Any, factor: Any, values: Any, values_at: Any, row_stride: Any,
        block_stride: Any, table: Any, table_at: Any, tokens: Any, out: Any, out_at: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(weights, _I64, _F32, values, _I64, _I64, _I64, table, _I64, _I64, out, _I64)

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
            emit, b = Emitter(context, builder, signature, arguments), builder
            _, weights_at, factor, _, values_at, row_stride, block_stride, _, table_at, tokens, _, out_at = arguments

            def block(start: Value, sums: Any) -> list[Value]:
                entry = b.load(emit.array(7, emit.offset(table_at, b.lshr(start, index(4)))))
                base = emit.offset(values_at, b.mul(b.sext(entry, I64), block_stride))
                v_block, p = emit.array(3, base), emit.array(0, emit.offset(weights_at, start))
                last = emit.offset(start, index(BLOCK_TOKENS))
                end = b.select(b.icmp_signed("<", last, tokens), last, tokens)

                def token(t: Value, sums: Any) -> list[Value]:
                    weight = emit.splat(b.load(emit.at(p, t), align=4))
                    row = emit.at(v_block, b.mul(t, row_stride))
                    return [
                        emit.fma(weight, emit.load(emit.at(row, index(v * LANES))), sums[v]) for v in range(vectors)
                    ]

                return emit.loop(index(0), b.sub(end, start), 1, sums, token)

            sums = emit.loop(index(0), tokens, BLOCK_TOKENS, [constant(0.0)] * vectors, block)
            for v in range(vectors):
                pointer = emit.array(10, emit.offset(out_at, index(v * LANES)))
                emit.store(b.fmul(sums[v], emit.splat(factor)), pointer)
            return context.get_dummy_value()

        return signature, code

    return weighted  # type: ignore[no-any-return]


weighted_values_64, weighted_values_16 = _weighted_values(4), _weighted_values(1)


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

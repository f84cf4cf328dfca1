"""The kernels of attention: what goes into the KV cache, the scores, and the sum of the values that they weigh.

A block of the cache holds 16 tokens of one sequence, of each head keys [K, 16] and values [16, K]: as float32, or as
whole numbers of 16 or 8 bits that share a scale for each token's key, and one for its value (scales [2, 16]).

Legend: K width of a head, padded to whole vectors; S tokens that a sequence holds.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import types

from gpt2lab.generate.cpu.kernels import WIDE_REGISTERS, rounding
from gpt2lab.generate.cpu.vectors import (
    FLOATS,
    I64,
    INTS,
    LANES,
    Array,
    Emitter,
    Value,
    constant,
    index,
    kernel,
)

BLOCK_TOKENS = 16
"""Tokens of a block of the KV cache: the lanes of a vector, so that 16 tokens' scores are one vector."""
SCALES = 2 * BLOCK_TOKENS
"""Scales of a head in a block."""

LOWEST = -3.0e38
"""The score of a token that is not seen."""


def _block_of(emit: Emitter, table: Array, table_at: Value, token: Value) -> Value:
    """The number of the block that holds a token of the sequence whose blocks are in `table`."""
    b = emit.builder
    return b.sext(b.load(table.at(table_at, b.udiv(token, index(BLOCK_TOKENS)))), I64)


def _keep(step: int) -> Any:
    """A kernel for numbers that lie `step` apart in the cache."""

    @kernel()
    def keep(
        emit: Emitter,
        numbers: Array,
        numbers_at: Value,
        width: Value,
        cache: Array,
        cache_at: Value,
        scales: Array,
        scale_at: Value,
    ) -> None:
        """A token's key or value of one head [width] to its place in a block; zeros up to whole vectors.

        One with a NaN or an infinity has such a scale.
        """
        b = emit.builder

        def load(k: Value) -> Value:
            return b.select(emit.first_lanes(k, width), emit.load(numbers.at(numbers_at, k)), constant(0.0))

        inverse = None
        if cache.element != types.float32:
            scale, inverse = rounding(emit, emit.largest(index(0), width, load), cache.element.bitwidth)
            b.store(scale, scales.at(scale_at), align=4)

        def write(k: Value, _: Sequence[Value]) -> list[Value]:
            kept = load(k)
            if inverse is not None:
                whole = b.fptosi(emit.nearest(b.fmul(kept, inverse)), INTS)
                kept = b.trunc(whole, ir.VectorType(ir.IntType(cache.element.bitwidth), LANES))
            if step == 1:
                emit.store(kept, cache.at(cache_at, k))
            else:
                for lane in range(LANES):
                    number = b.extract_element(kept, ir.Constant(INTS.element, lane))
                    b.store(number, cache.at(cache_at, (k, step), index(lane * step)))
            return []

        emit.loop(index(0), width, LANES, [], write)

    return keep


keep_key, keep_value = _keep(BLOCK_TOKENS), _keep(1)


def _kept(emit: Emitter, cache: Array, pointer: Value) -> Value:
    """16 numbers of the cache, without their scales."""
    if cache.element == types.float32:
        return emit.load(pointer)
    whole = emit.load(pointer, ir.IntType(cache.element.bitwidth))
    return emit.builder.sitofp(emit.builder.sext(whole, INTS), FLOATS)


@kernel()
def take_query(
    emit: Emitter,
    numbers: Array,
    numbers_at: Value,
    width: Value,
    scale: Value,
    queries: Array,
    queries_at: Value,
    results: Array,
    results_at: Value,
) -> None:
    """A head's query [width] times `scale`, zeros up to whole vectors, and as many zeros where its result will be."""
    b, factor = emit.builder, emit.splat(scale)

    def write(k: Value, _: Sequence[Value]) -> list[Value]:
        query = b.fmul(emit.load(numbers.at(numbers_at, k)), factor)
        emit.store(b.select(emit.first_lanes(k, width), query, constant(0.0)), queries.at(queries_at, k))
        emit.store(constant(0.0), results.at(results_at, k))
        return []

    emit.loop(index(0), width, LANES, [], write)


@kernel()
def divide(
    emit: Emitter, numbers: Array, numbers_at: Value, length: Value, divisor: Value, out: Array, out_at: Value
) -> None:
    """Out = numbers / divisor; whole vectors only."""
    b, total = emit.builder, emit.splat(divisor)

    def write(k: Value, _: Sequence[Value]) -> list[Value]:
        emit.store(b.fdiv(emit.load(numbers.at(numbers_at, k)), total), out.at(out_at, k))
        return []

    emit.loop(index(0), length, LANES, [], write)


def _attention_scores(rows: int) -> Any:
    """A kernel for `rows` queries of one sequence that follow each other: each sees one token more than the last."""

    @kernel()
    def attention_scores(
        emit: Emitter,
        queries: Array,
        queries_at: Value,
        heads: Value,
        width: Value,
        keys: Array,
        keys_at: Value,
        block_stride: Value,
        scales: Array,
        scales_at: Value,
        scales_stride: Value,
        table: Array,
        table_at: Value,
        tokens: Value,
        scores: Array,
        scores_at: Value,
        scores_stride: Value,
    ) -> None:
        """Scores [heads, rows, S] = queries [heads, rows, width] . keys, in blocks [heads, width, 16].

        The first query sees `tokens` tokens; what a query doesn't see is LOWEST. Memory is read block by block, from
        a block's first head to its last, as it lies.
        """
        b = emit.builder

        def block(start: Value, _: Sequence[Value]) -> list[Value]:
            entry = _block_of(emit, table, table_at, start)
            k_block = keys.at(keys_at, b.mul(entry, block_stride))
            scales_of_block = scales.at(scales_at, b.mul(entry, scales_stride))

            def head(number: Value, _: Sequence[Value]) -> list[Value]:
                k_head = emit.at(k_block, (b.mul(number, width), LANES))
                places = [emit.offset((number, rows), index(row)) for row in range(rows)]
                queries_of = [queries.at(queries_at, b.mul(place, width)) for place in places]

                def four(k: Value, sums: Sequence[Value]) -> list[Value]:  # four a row: one would wait for itself
                    sums = list(sums)
                    for n in range(4):
                        column = _kept(emit, keys, emit.at(k_head, (k, LANES), index(n * LANES)))
                        for row in range(rows):
                            x = emit.splat(emit.number(emit.at(queries_of[row], k, index(n))))
                            sums[4 * row + n] = emit.fma(x, column, sums[4 * row + n])
                    return sums

                sums = emit.loop(index(0), width, 4, [constant(0.0)] * (4 * rows), four)
                factors = None
                if keys.element != types.float32:
                    factors = emit.load(emit.at(scales_of_block, (number, SCALES)))
                for row, place in enumerate(places):
                    first, second, third, fourth = sums[4 * row : 4 * row + 4]
                    total = b.fadd(b.fadd(first, second), b.fadd(third, fourth))
                    total = total if factors is None else b.fmul(total, factors)
                    seen = emit.first_lanes(start, emit.offset(tokens, index(row)))
                    total = b.select(seen, total, constant(LOWEST))
                    emit.store(total, scores.at(scores_at, b.mul(place, scores_stride), start))
                return []

            emit.loop(index(0), heads, 1, [], head)
            return []

        emit.loop(index(0), emit.offset(tokens, index(rows - 1)), BLOCK_TOKENS, [], block)

    return attention_scores


@kernel(types.float32)
def exponentials(emit: Emitter, scores: Array, scores_at: Value, tokens: Value) -> Value:
    """Scores [S] become exp(score - the largest), in place; gives their sum."""
    b, x = emit.builder, scores.at(scores_at)

    def find_largest(k: Value, found: Sequence[Value]) -> list[Value]:
        return [emit.larger(emit.load(emit.at(x, k)), found[0])]

    (most,) = emit.loop(index(0), tokens, LANES, [constant(LOWEST)], find_largest)
    top = emit.splat(emit.across(emit.larger, most))

    def body(k: Value, sums: Sequence[Value]) -> list[Value]:
        pointer = emit.at(x, k)
        power = emit.exp(b.fsub(emit.load(pointer), top))
        emit.store(power, pointer)
        return [b.fadd(sums[0], power)]

    (total,) = emit.loop(index(0), tokens, LANES, [constant(0.0)], body)
    return emit.across(b.fadd, total)


@kernel()
def times_scales(
    emit: Emitter,
    weights: Array,
    weights_at: Value,
    values: Array,
    scales: Array,
    scales_at: Value,
    scales_stride: Value,
    table: Array,
    table_at: Value,
    tokens: Value,
) -> None:
    """Weights [S] of one head times the scales of the values that they weigh, in place; where there are scales."""
    if values.element == types.float32:
        return
    b = emit.builder

    def block(start: Value, _: Sequence[Value]) -> list[Value]:
        entry = _block_of(emit, table, table_at, start)
        pointer = weights.at(weights_at, start)
        factors = emit.load(scales.at(scales_at, b.mul(entry, scales_stride), index(BLOCK_TOKENS)))
        emit.store(b.fmul(emit.load(pointer), factors), pointer)
        return []

    emit.loop(index(0), tokens, BLOCK_TOKENS, [], block)


def _weighted_values(rows: int, vectors: int) -> Any:
    """A kernel for `rows` rows of weights a head and 16 * `vectors` columns of the values."""

    @kernel()
    def weighted(
        emit: Emitter,
        weights: Array,
        weights_at: Value,
        weights_stride: Value,
        heads: Value,
        values: Array,
        values_at: Value,
        width: Value,
        block_stride: Value,
        table: Array,
        table_at: Value,
        tokens: Value,
        out: Array,
        out_at: Value,
    ) -> None:
        """Out [heads, rows, width] += weights [heads, rows, S] x values, in blocks [heads, 16, width]."""
        b = emit.builder

        def block(start: Value, _: Sequence[Value]) -> list[Value]:
            entry = _block_of(emit, table, table_at, start)
            v_block = values.at(values_at, b.mul(entry, block_stride))
            count = b.sub(emit.smaller(emit.offset(start, index(BLOCK_TOKENS)), tokens), start)

            def head(number: Value, _: Sequence[Value]) -> list[Value]:
                v_head = emit.at(v_block, (b.mul(number, width), BLOCK_TOKENS))
                places = [emit.offset((number, rows), index(row)) for row in range(rows)]
                p = [weights.at(weights_at, b.mul(place, weights_stride), start) for place in places]
                results = [
                    out.at(out_at, b.mul(place, width), index(v * LANES)) for place in places for v in range(vectors)
                ]

                def token(t: Value, sums: Sequence[Value]) -> list[Value]:
                    sums, at = list(sums), b.mul(t, width)
                    columns = [_kept(emit, values, emit.at(v_head, at, index(v * LANES))) for v in range(vectors)]
                    for row in range(rows):
                        weight = emit.splat(emit.number(emit.at(p[row], t)))
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

    return weighted


ROWS_TOGETHER = 4 if WIDE_REGISTERS else 1
"""Queries that attend together: with fewer registers their sums would not fit."""
attention_scores_1, attention_scores_n = _attention_scores(1), _attention_scores(ROWS_TOGETHER)
weighted_values_1x64, weighted_values_nx64 = _weighted_values(1, 4), _weighted_values(ROWS_TOGETHER, 4)
weighted_values_1x16, weighted_values_nx16 = _weighted_values(1, 1), _weighted_values(ROWS_TOGETHER, 1)

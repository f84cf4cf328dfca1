"""One step of the whole network, run by all threads of a team at once: rows of tokens in, logits out.

A row is one token: of one sequence each while decoding, of one sequence all while it is read. Either way a row is
computed by the same instructions in the same order, so that its numbers don't depend on the rows beside it. Rows of
norms, panels of weight columns and heads of attention are shared out among the threads, with a barrier between.

Legend: R rows, D model width, M width inside the MLP, P a width padded to whole panels, H heads.
"""

import math

import numpy as np

from gpt2lab.generate.cpu.attention import (
    BLOCK_TOKENS,
    ROWS_TOGETHER,
    SCALES,
    attention_scores_1,
    attention_scores_n,
    divide,
    exponentials,
    keep_key,
    keep_value,
    take_query,
    times_scales,
    weighted_values_1x16,
    weighted_values_1x64,
    weighted_values_nx16,
    weighted_values_nx64,
)
from gpt2lab.generate.cpu.compiled import compiled
from gpt2lab.generate.cpu.kernels import (
    BIAS,
    COLUMNS_2,
    COLUMNS_4,
    GROUP,
    PANEL,
    are_int4,
    are_int8,
    are_whole,
    barrier,
    gelu_tanh,
    greatest,
    layer_norm,
    number_at,
    round_inputs,
    tile_1,
    tile_2,
    tile_4,
)
from gpt2lab.generate.cpu.vectors import LANES

# Places in the array `shape`.
(N_LAYER, N_HEAD, N_EMBD, N_EMBD_P, N_INNER_P, N_QKV_P, N_VOCAB, N_VOCAB_P, HEAD_WIDTH, HEAD_WIDTH_P, GELU,
 X_AT, Y_AT, QKV_AT, ATTENDED_AT, INNER_AT, FACTORS_STRIDE, SCRATCH_AT, SCRATCH_STRIDE, SCORES_STRIDE, FINAL_NORM_AT,
 POSITIONS_AT, ZEROS_AT, SHAPE) = range(24)  # fmt: skip

NOT_FINITE, NO_LOGITS = -1, -2
NO_GELU, GELU_BY_TANH, GELU_BY_ERF = range(3)

# Places in `layer_at`, where a layer's weights and parameters begin.
(LN_1_GAIN, LN_1_BIAS, QKV_W, QKV_S, QKV_B, PROJ_W, PROJ_S, PROJ_B, LN_2_GAIN, LN_2_BIAS, FC_W, FC_S, FC_B, OUT_W,
 OUT_S, OUT_B, LAYER) = range(17)  # fmt: skip


@compiled
def _panel_size(weights, length):  # type: ignore[no-untyped-def]
    return length * PANEL // (2 if are_int4(weights) else 1)


@compiled
def _panel_scales(weights, length):  # type: ignore[no-untyped-def]
    if are_int4(weights):
        return length // GROUP * PANEL
    return PANEL


@compiled
def _matmul(  # type: ignore[no-untyped-def]
    thread, threads, rows, weights, weights_at, scales, scales_at, bias, bias_at, inputs, inputs_at, length, rounded,
    own, sums, factors, factors_stride, out, out_at, out_width, add, gelu,
):  # fmt: skip
    """Out [R, out_width] = inputs [R, length] x this thread's panels + bias (+ out, where `add`), with a GELU or none.

    Rounded inputs have an array of their own, where they begin at row `own`.
    """
    factors_at = own * factors_stride
    if are_whole(weights):
        inputs_at = own * length
    panels = out_width // PANEL
    size, scales_size = _panel_size(weights, length), _panel_scales(weights, length)
    for panel in range(panels * thread // threads, panels * (thread + 1) // threads):
        w_at, s_at = weights_at + panel * size, scales_at + panel * scales_size
        b_at, o_at = bias_at + panel * PANEL, out_at + panel * PANEL
        row = 0
        while row + 4 <= rows:
            # The first eight rows ask for the next panel, each four for half; to ask for this one again costs nothing.
            ahead_at = w_at + size + row // 4 * (size // 2) if row < 8 else w_at
            for column in range(0, PANEL, COLUMNS_4):
                tile_4(
                    weights, w_at, ahead_at, scales, s_at, column, bias, b_at, inputs, rounded,
                    inputs_at + row * length, length, sums, factors, factors_at + row * factors_stride, factors_stride,
                    length, out, o_at + row * out_width, out_width, add,
                )  # fmt: skip
            row += 4
        if row + 2 <= rows:
            for column in range(0, PANEL, COLUMNS_2):
                tile_2(
                    weights, w_at, w_at, scales, s_at, column, bias, b_at, inputs, rounded,
                    inputs_at + row * length, length, sums, factors, factors_at + row * factors_stride, factors_stride,
                    length, out, o_at + row * out_width, out_width, add,
                )  # fmt: skip
            row += 2
        if row < rows:
            tile_1(
                weights, w_at, w_at, scales, s_at, 0, bias, b_at, inputs, rounded, inputs_at + row * length, length,
                sums, factors, factors_at + row * factors_stride, factors_stride, length, out, o_at + row * out_width,
                out_width, add,
            )  # fmt: skip
        for row in range(rows):
            if gelu == GELU_BY_TANH:
                gelu_tanh(out, o_at + row * out_width, PANEL)
            elif gelu == GELU_BY_ERF:
                _exact_gelu(out, o_at + row * out_width, PANEL)


@compiled
def _exact_gelu(values, at, length):  # type: ignore[no-untyped-def]
    for place in range(at, at + length):
        x = values[place]
        values[place] = np.float32(0.5 * x * (1.0 + math.erf(x * 0.7071067811865476)))


@compiled
def _embed(row_at, token, position, shape, embedding, embedding_scales, parameters, work):  # type: ignore[no-untyped-def]
    """Write the sum of a token's and its position's embedding to `work` from `row_at` on."""
    width, padded = shape[N_EMBD], shape[N_EMBD_P]
    panel, column = token // PANEL, token % PANEL
    positions_at = shape[POSITIONS_AT] + position * width
    for k in range(width):
        if are_int8(embedding):
            place = panel * padded * PANEL + (k >> 2) * 4 * PANEL + 4 * column + (k & 3)
            number = (number_at(embedding, place) - np.float32(BIAS)) * embedding_scales[token]
        else:
            number = number_at(embedding, panel * padded * PANEL + k * PANEL + column)
        work[row_at + k] = number + parameters[positions_at + k]
    for k in range(width, padded):
        work[row_at + k] = np.float32(0.0)


@compiled
def _attend(thread, threads, layer, shape, positions, table_of, tables, keys, values, cache_scales, work):  # type: ignore[no-untyped-def]
    """Store this thread's heads of the new keys and values in the cache, and attend to all that it holds."""
    heads, width, padded = shape[N_HEAD], shape[HEAD_WIDTH], shape[HEAD_WIDTH_P]
    embd, qkv_width, out_width = shape[N_EMBD], shape[N_QKV_P], shape[N_EMBD_P]
    block_size = padded * BLOCK_TOKENS
    first_head, end_head = heads * thread // threads, heads * (thread + 1) // threads
    mine = end_head - first_head
    whole_vectors = width // LANES * LANES
    queries_at = shape[SCRATCH_AT] + thread * shape[SCRATCH_STRIDE]
    results_at = queries_at + heads * ROWS_TOGETHER * padded
    scores_at = results_at + heads * ROWS_TOGETHER * padded
    scores_stride = shape[SCORES_STRIDE]
    scale = np.float32(1.0) / np.float32(math.sqrt(width))
    entries = tables.shape[1]
    flat_tables = tables.reshape(-1)
    block_stride = shape[N_LAYER] * heads * block_size
    base = (layer * heads + first_head) * block_size
    scales_stride = shape[N_LAYER] * heads * SCALES
    scales_base = (layer * heads + first_head) * SCALES
    for row in range(len(positions)):
        slot = positions[row] % BLOCK_TOKENS
        entry = tables[table_of[row], positions[row] // BLOCK_TOKENS]
        block_at = base + entry * block_stride
        for head in range(mine):
            at = block_at + head * block_size
            scale_at = scales_base + entry * scales_stride + head * SCALES + slot
            key_at = shape[QKV_AT] + row * qkv_width + embd + (first_head + head) * width
            keep_key(work, key_at, width, keys, at + slot, cache_scales, scale_at)
            keep_value(
                work, key_at + embd, width, values, at + slot * padded, cache_scales, scale_at + BLOCK_TOKENS
            )  # fmt: skip
    row = 0
    while row < len(positions):
        table_at, tokens = table_of[row] * entries, positions[row] + 1
        last = row + ROWS_TOGETHER - 1
        together = (
            ROWS_TOGETHER > 1
            and last < len(positions)
            and table_of[last] == table_of[row]
            and positions[last] == positions[row] + ROWS_TOGETHER - 1
        )
        count = ROWS_TOGETHER if together else 1
        for head in range(mine):
            for number in range(count):
                from_at = shape[QKV_AT] + (row + number) * qkv_width + (first_head + head) * width
                to_at = (head * count + number) * padded
                take_query(work, from_at, width, scale, work, queries_at + to_at, work, results_at + to_at)
        if together:
            attention_scores_n(
                work, queries_at, mine, padded, keys, base, block_stride, cache_scales, scales_base, scales_stride,
                flat_tables, table_at, tokens, work, scores_at, scores_stride,
            )  # fmt: skip
        else:
            attention_scores_1(
                work, queries_at, mine, padded, keys, base, block_stride, cache_scales, scales_base, scales_stride,
                flat_tables, table_at, tokens, work, scores_at, scores_stride,
            )  # fmt: skip
        seen = tokens + count - 1
        for number in range(mine * count):
            at = scores_at + number * scores_stride
            work[at + scores_stride - 1] = exponentials(work, at, seen)
            times_scales(
                work, at, values, cache_scales, scales_base + number // count * SCALES, scales_stride, flat_tables,
                table_at, seen,
            )  # fmt: skip
        column = 0
        while column < padded:
            wide = column + 64 <= padded
            if together and wide:
                weighted_values_nx64(
                    work, scores_at, scores_stride, mine, values, base + column, padded, block_stride, flat_tables,
                    table_at, seen, work, results_at + column,
                )  # fmt: skip
            elif together:
                weighted_values_nx16(
                    work, scores_at, scores_stride, mine, values, base + column, padded, block_stride, flat_tables,
                    table_at, seen, work, results_at + column,
                )  # fmt: skip
            elif wide:
                weighted_values_1x64(
                    work, scores_at, scores_stride, mine, values, base + column, padded, block_stride, flat_tables,
                    table_at, seen, work, results_at + column,
                )  # fmt: skip
            else:
                weighted_values_1x16(
                    work, scores_at, scores_stride, mine, values, base + column, padded, block_stride, flat_tables,
                    table_at, seen, work, results_at + column,
                )  # fmt: skip
            column += 64 if wide else 16
        for head in range(mine):
            for number in range(count):
                place = head * count + number
                total = work[scores_at + place * scores_stride + scores_stride - 1]
                to_at = shape[ATTENDED_AT] + (row + number) * out_width + (first_head + head) * width
                divide(work, results_at + place * padded, whole_vectors, total, work, to_at)
                for k in range(whole_vectors, width):
                    work[to_at + k] = work[results_at + place * padded + k] / total
        row += count


@compiled
def _round_rows(first, apart, rows, work, at, length, rounded, own, sums, factors, factors_stride):  # type: ignore[no-untyped-def]
    """Round every `apart`-th of the inputs [R, length], for weights of whole numbers, into rows from `own` on."""
    for row in range(first, rows, apart):
        to = own + row
        round_inputs(work, at + row * length, length, rounded, to * length, sums, factors, to * factors_stride)


@compiled
def _find_best(thread, threads, rows, vocabulary, padded, logits, best):  # type: ignore[no-untyped-def]
    """The id of the greatest of this thread's logits in each row, the lowest of equals.

    NOT_FINITE where one is not finite, NO_LOGITS for a thread that has none.
    """
    panels = padded // PANEL
    first, end = panels * thread // threads * PANEL, min(vocabulary, panels * (thread + 1) // threads * PANEL)
    for row in range(rows):
        if first >= end:
            best[thread, row] = NO_LOGITS
            continue
        row_at = row * padded
        found = greatest(logits, row_at + first, row_at + end)
        best[thread, row] = found - row_at if found >= 0 else NOT_FINITE


@compiled
def _choose_best(threads, rows, padded, logits, best):  # type: ignore[no-untyped-def]
    """Of what all threads have found, the best comes to the first thread's row."""
    for row in range(rows):
        for thread in range(1, threads):
            found, other = best[0, row], best[thread, row]
            if found == NOT_FINITE or other == NO_LOGITS:
                continue
            if found == NO_LOGITS or other == NOT_FINITE or logits[row * padded + other] > logits[row * padded + found]:
                best[0, row] = other


@compiled
def forward(  # type: ignore[no-untyped-def]
    thread, threads, state, shape, epsilon, layer_at, weights, scales, head, head_scales, embedding, embedding_scales,
    parameters, keys, values, cache_scales, tokens, positions, table_of, tables, wanted, work, rounded, sums, factors,
    logits, best,
):  # fmt: skip
    """Logits [W, vocabulary] of the rows `wanted`, and the new keys and values in the cache.

    `best` [threads, R] has in its first row the id of the greatest logit for each, -1 where one is not finite.
    Every thread of a team calls it with its own number. `tokens`, `positions` and `table_of` (the row of `tables` that
    is a token's) are int32 [R]; keys are [blocks, L, H, K, 16], values [blocks, L, H, 16, K] and `cache_scales`
    [blocks, L, H, 2, 16] (see `attention.py`); `work` holds all that is between, and its padding is zero from the
    start. `rounded` (int16 or int8), `sums` and `factors` are for inputs that are rounded.
    """
    rows = len(tokens)
    padded, inner, qkv = shape[N_EMBD_P], shape[N_INNER_P], shape[N_QKV_P]
    x_at, y_at, qkv_at, attended_at, inner_at = (
        shape[X_AT], shape[Y_AT], shape[QKV_AT], shape[ATTENDED_AT], shape[INNER_AT]
    )  # fmt: skip
    factors_stride = shape[FACTORS_STRIDE]
    whole = are_whole(weights)
    # A lone row is normed and rounded by each thread for itself, into row `own`: sooner than to wait for another's.
    own, first, apart = (thread, 0, 1) if rows == 1 else (0, thread, threads)
    own_y_at = y_at + own * padded
    for row in range(first, rows, apart):
        _embed(
            x_at + row * padded, tokens[row], positions[row], shape, embedding, embedding_scales, parameters, work
        )  # fmt: skip
    for layer in range(shape[N_LAYER]):
        at = layer_at[layer]
        for row in range(first, rows, apart):
            layer_norm(
                work, x_at + row * padded, shape[N_EMBD], padded, parameters, at[LN_1_GAIN], at[LN_1_BIAS], epsilon,
                work, own_y_at + row * padded,
            )  # fmt: skip
        if whole:
            _round_rows(first, apart, rows, work, own_y_at, padded, rounded, own, sums, factors, factors_stride)
        if rows > 1:
            barrier(state, threads)
        _matmul(
            thread, threads, rows, weights, at[QKV_W], scales, at[QKV_S], parameters, at[QKV_B], work, own_y_at,
            padded, rounded, own, sums, factors, factors_stride, work, qkv_at, qkv, 0, NO_GELU,
        )  # fmt: skip
        barrier(state, threads)
        _attend(thread, threads, layer, shape, positions, table_of, tables, keys, values, cache_scales, work)
        barrier(state, threads)
        if whole:
            _round_rows(first, apart, rows, work, attended_at, padded, rounded, own, sums, factors, factors_stride)
            if rows > 1:
                barrier(state, threads)
        _matmul(
            thread, threads, rows, weights, at[PROJ_W], scales, at[PROJ_S], parameters, at[PROJ_B], work, attended_at,
            padded, rounded, own, sums, factors, factors_stride, work, x_at, padded, 1, NO_GELU,
        )  # fmt: skip
        barrier(state, threads)
        for row in range(first, rows, apart):
            layer_norm(
                work, x_at + row * padded, shape[N_EMBD], padded, parameters, at[LN_2_GAIN], at[LN_2_BIAS], epsilon,
                work, own_y_at + row * padded,
            )  # fmt: skip
        if whole:
            _round_rows(first, apart, rows, work, own_y_at, padded, rounded, own, sums, factors, factors_stride)
        if rows > 1:
            barrier(state, threads)
        _matmul(
            thread, threads, rows, weights, at[FC_W], scales, at[FC_S], parameters, at[FC_B], work, own_y_at,
            padded, rounded, own, sums, factors, factors_stride, work, inner_at, inner, 0, shape[GELU],
        )  # fmt: skip
        barrier(state, threads)
        if whole:
            _round_rows(first, apart, rows, work, inner_at, inner, rounded, own, sums, factors, factors_stride)
            if rows > 1:
                barrier(state, threads)
        _matmul(
            thread, threads, rows, weights, at[OUT_W], scales, at[OUT_S], parameters, at[OUT_B], work, inner_at, inner,
            rounded, own, sums, factors, factors_stride, work, x_at, padded, 1, NO_GELU,
        )  # fmt: skip
        barrier(state, threads)
    own, first, apart = (thread, 0, 1) if len(wanted) == 1 else (0, thread, threads)
    own_y_at = y_at + own * padded
    final_gain = shape[FINAL_NORM_AT]
    for number in range(first, len(wanted), apart):
        layer_norm(
            work, x_at + wanted[number] * padded, shape[N_EMBD], padded, parameters, final_gain, final_gain + padded,
            epsilon, work, own_y_at + number * padded,
        )  # fmt: skip
    if are_whole(head):
        _round_rows(first, apart, len(wanted), work, own_y_at, padded, rounded, own, sums, factors, factors_stride)
    if len(wanted) > 1:
        barrier(state, threads)
    _matmul(
        thread, threads, len(wanted), head, 0, head_scales, 0, parameters, shape[ZEROS_AT], work, own_y_at,
        padded, rounded, own, sums, factors, factors_stride, logits, 0, shape[N_VOCAB_P], 0, NO_GELU,
    )  # fmt: skip
    _find_best(thread, threads, len(wanted), shape[N_VOCAB], shape[N_VOCAB_P], logits, best)
    barrier(state, threads)
    if thread == 0:
        _choose_best(threads, len(wanted), shape[N_VOCAB_P], logits, best)

"""int8 and int4 matrices: what is stored is what the formats say, and no number moves further than they allow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2lab.checkpoints.quantization import (
    GROUP,
    dequantize,
    quantize_columns,
    quantize_groups,
    quantize_rows,
    slabs,
)

ALL = (quantize_rows, quantize_columns, quantize_groups)


def random_matrix(inputs: int, outputs: int, seed: int, exponent: float = 0.0) -> np.ndarray:
    """Columns and rows of very different sizes, some of them all zeros."""
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((inputs, outputs)) * 10.0**exponent
    matrix *= 10.0 ** generator.uniform(-3, 1, (inputs, 1)) * 10.0 ** generator.uniform(-3, 1, outputs)
    matrix[generator.random((inputs, outputs)) < 0.1] = 0
    matrix[:, generator.random(outputs) < 0.1] = 0
    return matrix.astype(np.float32)


def test_int8_of_a_column_and_of_a_row_by_hand():
    matrix = np.array([[127.0, -1.0], [-254.0, 0.25], [1.0, 0.0]], np.float32)
    by_column = quantize_columns(matrix)
    assert by_column.scales.tolist() == [2.0, np.float32(1 / 127)]
    assert by_column.values.tolist() == [[64, -127], [-127, 32], [0, 0]]  # halves to the even number
    assert dequantize(by_column)[0].tolist() == [128.0, -1.0]
    by_row = quantize_rows(matrix)
    assert by_row.scales.tolist() == [1.0, 2.0, np.float32(1 / 127)]
    assert by_row.values.tolist() == [[127, -1], [-127, 0], [127, 0]]
    assert dequantize(by_row)[1].tolist() == [-254.0, 0.0]
    assert (by_row.values.dtype, by_row.scales.dtype) == (np.int8, np.float32)


def test_int4_of_two_groups_by_hand():
    matrix = np.zeros((64, 2), np.float32)
    matrix[:4, 0] = 4, -1.2, 3.9, 0.5  # the largest is positive: it becomes -8, and the scale -0.5
    matrix[62:, 1] = -16, 15  # 15 / 2 is rounded to 8, which 4 bits have not
    quantized = quantize_groups(matrix)
    assert (quantized.values.dtype, quantized.scales.dtype) == (np.uint8, np.float16)
    assert (quantized.values.shape, quantized.scales.shape, quantized.shape) == ((32, 2), (2, 2), (64, 2))
    assert quantized.scales.tolist() == [[-0.5, 0.0], [0.0, 2.0]]
    # -8 and 2 are 0 and 10 in four bits, the even row in the low ones; -8 and -1 are 0 and 7; zeros are 8.
    assert quantized.values[:2, 0].tolist() == [0 | 10 << 4, 0 | 7 << 4]
    assert quantized.values[31, 1] == 0 | 15 << 4
    assert set(quantized.values[2:, 0].tolist()) == {0x88}
    assert dequantize(quantized)[:5, 0].tolist() == [4.0, -1.0, 4.0, 0.5, 0.0]
    assert dequantize(quantized)[62:, 1].tolist() == [-16.0, 14.0]
    assert quantized.nbytes == 64 + 8


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 70), st.integers(0, 99), st.floats(-30, 30))
def test_no_number_of_int8_moves_by_more_than_half_a_step(groups, outputs, seed, exponent):
    matrix = random_matrix(groups * GROUP, outputs, seed, exponent)
    for quantize, axis in ((quantize_rows, 1), (quantize_columns, 0)):
        quantized = quantize(matrix)
        step = np.abs(matrix).max(axis=axis, keepdims=True) / 127
        assert (np.abs(dequantize(quantized) - matrix) <= step * 0.5001).all()
        assert np.abs(quantized.values.astype(int)).max() <= 127
        again = quantize(dequantize(quantized))
        assert np.array_equal(again.values, quantized.values)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 70), st.integers(0, 99), st.floats(-2, 3))
def test_no_number_of_int4_moves_by_more_than_half_a_step_but_the_one_opposite_the_largest(
    groups, outputs, seed, exponent
):
    matrix = random_matrix(groups * GROUP, outputs, seed, exponent)
    found = dequantize(quantize_groups(matrix))
    of_groups = matrix.reshape(groups, GROUP, outputs)
    step = np.abs(of_groups).max(axis=1, keepdims=True) / 8
    error = np.abs(found.reshape(of_groups.shape) - of_groups)
    slack = 1e-3 * 8 * step + 8 * 6e-8  # the scale is rounded to float16, whose smallest number is 6e-8
    assert (error <= step + slack).all()
    largest, smallest = of_groups.max(axis=1, keepdims=True), of_groups.min(axis=1, keepdims=True)
    opposite = np.where(largest > -smallest, of_groups < -7 * step, of_groups > 7 * step)
    assert (error[~opposite] <= (0.5 * step + slack + 0 * error)[~opposite]).all()


@pytest.mark.parametrize("quantize", ALL)
def test_matrices_of_many_slabs_other_types_and_turned_around_give_the_same(quantize):
    matrix = random_matrix(512, 1500, 1)
    assert len(list(slabs(matrix))) > 2
    whole = quantize(matrix)
    parts = [quantize(matrix[:, start : start + 300]) for start in range(0, 1500, 300)]
    if quantize is not quantize_rows:  # a part of a row has another scale
        assert np.array_equal(whole.values, np.concatenate([part.values for part in parts], axis=1))
        assert np.array_equal(dequantize(whole), np.concatenate([dequantize(part) for part in parts], axis=1))
    turned = quantize(np.asfortranarray(matrix))
    assert np.array_equal(turned.values, whole.values)
    assert np.array_equal(turned.scales, whole.scales)
    half = matrix.astype(np.float16)
    assert np.array_equal(quantize(half).values, quantize(half.astype(np.float32)).values)


@pytest.mark.parametrize("quantize", ALL)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(quantize, bad):
    matrix = random_matrix(64, 3, 1)
    matrix[40, 2] = bad
    with pytest.raises(OverflowError):
        quantize(matrix)


def test_int4_refuses_what_its_scales_cannot_hold_and_inputs_that_are_no_groups():
    with pytest.raises(OverflowError):
        quantize_groups(np.full((32, 1), 6e5, np.float32))
    with pytest.raises(ValueError, match="48 inputs are no multiple of 32"):
        quantize_groups(np.ones((48, 1), np.float32))


@pytest.mark.parametrize("quantize", ALL)
@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-39, 1e-12])
def test_numbers_too_small_for_a_scale_become_zero_or_nearly(quantize, size):
    matrix = np.full((64, 3), size, np.float32)
    matrix[1] *= -1
    assert np.abs(dequantize(quantize(matrix)) - matrix).max() <= size

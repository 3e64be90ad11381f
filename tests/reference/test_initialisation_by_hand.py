"""The normal numbers again, one at a time in Python's own integers and floats, with the standard library's quantile."""

import numpy as np
import pytest
from order_by_hand import normal, uniform

from treering.model.normal import normal_numbers

INDICES = (*range(300), 32_767, 32_768, 99_999)
NAME = "gpt_neox.layers.0.attention.query_key_value.weight"


@pytest.mark.parametrize(("seed", "deviation"), [(0, 1.0), (1234, 0.02), (2**63 - 1, 0.006014)])
def test_a_stream_is_that_of_plain_arithmetic(seed: int, deviation: float) -> None:
    stream = normal_numbers("model/weights", seed, NAME, 100_000, deviation)
    expected = np.array([normal("model/weights", seed, NAME, index) * deviation for index in INDICES])
    # The two quantiles differ in the last bits of fp64; rounding to fp32 hides that but for the rare number at a border.
    assert (np.abs(stream[list(INDICES)] - expected) <= 2.0**-24 * (1 + 1e-6) * np.abs(expected)).all()
    assert (stream[list(INDICES)] == expected.astype(np.float32)).mean() > 0.99


def test_no_uniform_number_is_an_end_of_its_range() -> None:
    drawn = [uniform("model/weights", 0, NAME, index) for index in range(1000)]
    assert all(0.0 < number < 1.0 for number in drawn)
    assert len(set(drawn)) == 1000

"""The layout of rows: what a format takes, and which format is for what."""

from __future__ import annotations

import pytest

from moebench.kernels.expert_parallel.wire_format import SCALED, Formats, WireRow
from moebench.kernels.problem import DType, Problem


@pytest.mark.parametrize(
    ("wire", "elements", "words", "size"),
    [
        ("bfloat16", 7168, 2, 8 + 2 * 7168),
        ("float32", 5, 0, 20),
        ("bfloat16", 5, 0, 12),  # whole words
        ("float8_e4m3fn", 7168, 16, 64 + 7168 + 4 * 7168 // SCALED),  # DeepSeek-V3's token with 8 routes
        ("float8_e4m3fn", 129, 0, 2 * 4 + 132),
    ],
)
def test_bytes_of_a_row(wire: DType, elements: int, words: int, size: int) -> None:
    assert WireRow(elements=elements, format=wire, words=words).bytes == size


def test_float8_is_for_tokens_on_their_way_out() -> None:
    problem = Problem(T=8, D=256, F=8, E=4, K=2, ranks=2, dtype="bfloat16", wire="float8_e4m3fn")
    formats = Formats.of(problem, width=2)
    assert (formats.token.format, formats.token.words) == ("float8_e4m3fn", 4)
    assert (formats.plain.format, formats.plain.words) == ("bfloat16", 0)
    assert (formats.gradient.format, formats.gradient.words) == ("bfloat16", 2)

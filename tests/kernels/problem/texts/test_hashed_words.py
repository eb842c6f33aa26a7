"""Token ids are the same on every machine, and equal for equal words alone but for rare collisions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.problem.texts.hashed_words import VOCABULARY, WORD, token_ids
from moebench.kernels.problem.texts.novel import novel_ids


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Anne's heart--was 22.", ["anne's", "heart", "-", "-", "was", "22", "."]),
        ("'Tis \u2019n o\u2019clock", ["'", "tis", "\u2019", "n", "o\u2019clock"]),
        ("snake_case x", ["snake", "_", "case", "x"]),
        ("Élan, 東京!", ["élan", ",", "東京", "!"]),
        ("  \n\t ", []),
    ],
)
def test_a_text_is_words_and_marks(text: str, words: list[str]) -> None:
    assert WORD.findall(text.lower()) == words


def test_ids_are_what_they_always_were() -> None:
    assert token_ids("The the , Élan").tolist() == [23134, 23134, 9222, 14328]


@given(text=st.text())
def test_any_text_has_ids_of_the_vocabulary(text: str) -> None:
    ids = token_ids(text)
    assert ids.dtype == np.int64
    assert ((ids >= 0) & (ids < VOCABULARY)).all()
    assert token_ids(f"{text} {text}").tolist() == ids.tolist() * 2


def test_the_novel_is_the_one_that_its_docstring_describes() -> None:
    ids = novel_ids()
    counts = np.bincount(ids)
    assert (len(ids), int((counts > 0).sum())) == (98_181, 5389)
    assert int(counts.argmax()) == token_ids(",")[0]


def test_the_novel_has_the_skew_of_a_language() -> None:
    """Zipf's law: the frequency of the r-th most frequent token falls about as 1 / r."""
    counts = np.sort(np.bincount(novel_ids()))[::-1]
    rank = np.arange(10, 1000)
    slope, _ = np.polyfit(np.log(rank), np.log(counts[rank - 1]), 1)
    assert -1.2 < slope < -0.8

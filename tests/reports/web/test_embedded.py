"""Raw records in a page are whole and readable, cannot leave their block, and stay within a limit that is said."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from moebench.reports.web.embedded import IN_BLOCK, SEPARATOR, compressed, embedded, readable
from moebench.results.record import Record

Make = Callable[..., Record]


def _text(block: str) -> str:
    return gzip.decompress(base64.b64decode(block)).decode()


def test_every_record_is_there_in_order(make: Make) -> None:
    records = [make(f"kernel{n}") for n in range(IN_BLOCK + 3)]
    found = embedded(records)
    texts = [text for block in found.blocks for text in _text(block).split(SEPARATOR)]
    assert [json.loads(text) for text in texts] == [json.loads(record.model_dump_json()) for record in records]
    assert len(found.blocks) == 2
    assert found.sentence == ""


def test_what_is_left_out_is_said_with_where_it_is(make: Make) -> None:
    records = [make(f"kernel{n}") for n in range(2 * IN_BLOCK + 5)]
    room = sum(map(len, embedded(records).blocks[:2]))
    found = embedded(records, most=room)
    assert len(found.blocks) == 2
    assert found.left_out == 5
    assert "first 500 trials" in found.sentence
    assert "5 records" in found.sentence
    assert embedded(records, most=0).left_out == len(records)


def test_samples_are_on_one_line(make: Make) -> None:
    lines = readable(make(samples=3)).splitlines()
    (line,) = [line for line in lines if "samples_ns" in line]
    assert len(json.loads(line.partition(": ")[2].rstrip(","))) == 3


def test_the_same_records_give_the_same_block(make: Make) -> None:
    assert embedded([make()]).blocks == embedded([make()]).blocks


@given(st.text())
def test_no_text_leaves_its_block_or_loses_a_character(make: Make, text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()  # a record is UTF-8
    record = make(text, config={text: [text, [1, 2]]}, reason=text)
    shown = readable(record)
    assert json.loads(shown) == json.loads(record.model_dump_json())
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert SEPARATOR not in shown
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", compressed(shown))

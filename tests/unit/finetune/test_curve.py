"""The loss curve as a table and as a picture."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from finetune.train.curve import Point, read_curve, write_curve

CURVE = [Point(2, 256, 5.9812, 3.4001), Point(4, 512, 5.5, 3.2)]


def test_the_table_has_a_line_a_point_and_is_read_again(tmp_path: Path) -> None:
    write_curve(tmp_path, CURVE)
    assert (tmp_path / "curve.csv").read_text() == (
        "step,tokens,training_loss,held_out_bits_per_byte\n2,256,5.9812,3.4001\n4,512,5.5,3.2\n"
    )
    assert read_curve(tmp_path) == CURVE


def test_the_picture_says_what_it_shows_and_is_the_same_every_time(tmp_path: Path) -> None:
    write_curve(tmp_path, CURVE)
    once = (tmp_path / "curve.svg").read_bytes()
    assert ElementTree.fromstring(once).tag.endswith("svg")  # noqa: S314 - our own
    for words in (b"training loss, nats a token", b"held-out bits per byte", b"step"):
        assert words in once
    write_curve(tmp_path, CURVE)
    assert (tmp_path / "curve.svg").read_bytes() == once


def test_a_folder_without_a_curve_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"curve\.csv"):
        read_curve(tmp_path)

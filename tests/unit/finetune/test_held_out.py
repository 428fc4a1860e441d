"""The held-out texts: chosen once and for all, by the text alone."""

from pathlib import Path

import pytest

from finetune.prepare.held_out import is_held_out
from finetune.prepare.inputs import read_input

EPISODES = Path(__file__).parents[3] / "corpus/episodes"


@pytest.mark.parametrize("region", sorted(file.stem for file in EPISODES.glob("*.jsonl")))
def test_about_a_tenth_of_every_region_is_held_out(region: str) -> None:
    texts = [document.text for document in read_input(EPISODES / f"{region}.jsonl")]
    assert len(texts) == 130
    assert 0.03 < sum(map(is_held_out, texts)) / len(texts) < 0.2


def test_other_parts_hold_out_other_shares() -> None:
    texts = [str(number) for number in range(10_000)]
    assert sum(is_held_out(text, 2) for text in texts) == pytest.approx(5000, rel=0.1)
    assert sum(is_held_out(text, 50) for text in texts) == pytest.approx(200, rel=0.3)

"""`pokegen prepare`: what it writes, what it says, and what it refuses."""

import csv
import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from finetune.documents import read_documents
from finetune.prepare.command import command, prepare
from finetune.prepare.held_out import is_held_out
from finetune.prepare.inputs import read_input
from finetune.prepare.selection import Rules
from tests.checkpoints import EPISODES


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def words(seed: int, count: int) -> str:
    """A text like no other seed's."""
    syllables = ["pi", "ka", "chu", "mi", "sty", "bro", "ck", "ash", "to", "ge", "pi", "meo", "wth"]
    generator = random.Random(seed)
    return " ".join("".join(generator.choices(syllables, k=3)) for _ in range(count)).capitalize() + "."


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    file = tmp_path / "stories.jsonl"
    file.write_text("".join(json.dumps({"text": words(seed, 30)}) + "\n" for seed in range(60)))
    return file


def test_our_own_corpus_is_kept_word_for_word_with_the_split_that_training_uses(tmp_path: Path) -> None:
    report = prepare(sorted(EPISODES.glob("*.jsonl")), tmp_path / "out", Rules())
    texts = [document.text for file in sorted(EPISODES.glob("*.jsonl")) for document in read_input(file)]
    train = [text for text in texts if not is_held_out(text)]
    held_out = [text for text in texts if is_held_out(text)]
    assert read_documents(tmp_path / "out/train.txt") == train
    assert read_documents(tmp_path / "out/held-out.txt") == held_out
    assert (len(train), len(held_out)) == (937, 103)
    assert report["dropped_documents"] == []
    assert report["changed_by_cleaning"] == 0
    assert not (tmp_path / "out/sources.csv").exists()


def test_what_was_prepared_prepares_to_itself(stories: Path, tmp_path: Path) -> None:
    prepare([stories], tmp_path / "once", Rules())
    prepare([tmp_path / "once/train.txt", tmp_path / "once/held-out.txt"], tmp_path / "twice", Rules())
    for name in ("train.txt", "held-out.txt"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


def test_near_duplicates_never_lie_on_both_sides(tmp_path: Path) -> None:
    """Sixty stories, each told five times with another word changed, in any order: one telling of each is kept."""
    lines = [
        " ".join(["Changed" if n == telling * 7 else word for n, word in enumerate(words(story, 40).split())])
        for story in range(60)
        for telling in range(5)
    ]
    random.Random(1).shuffle(lines)
    sides = {line: is_held_out(line) for line in lines}
    ends = {side: {line[-30:] for line in lines if sides[line] is side} for side in (True, False)}
    assert ends[True] & ends[False], "the split alone would have parted none: the test would show nothing"
    (tmp_path / "in.txt").write_text("\n".join(lines))

    report = prepare([tmp_path / "in.txt"], tmp_path / "out", Rules(), lines=True)

    train, held_out = (read_documents(tmp_path / f"out/{name}.txt") for name in ("train", "held-out"))
    assert len(train + held_out) == len({text[-30:] for text in train + held_out}) == 60
    assert report["dropped"] == {
        "empty": 0,
        "too short": 0,
        "too long": 0,
        "duplicate": 0,
        "near duplicate": 240,
    }


def test_the_report_says_where_every_dropped_document_was_and_why(tmp_path: Path) -> None:
    kept = [words(seed, 12) for seed in range(30)]
    (tmp_path / "kept.txt").write_text("\n".join(kept))
    (tmp_path / "more.txt").write_text(
        "\n".join(["[edit]", "Too short.", words(99, 60), kept[4], kept[6].upper(), f" {kept[7]}[1]"])
    )
    result = run(
        tmp_path / "kept.txt", tmp_path / "more.txt", "--lines", "--max-words", 50, "--out", tmp_path / "out"
    )

    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out/report.json").read_text())
    first, more = str(tmp_path / "kept.txt"), str(tmp_path / "more.txt")
    assert [
        (d["file"], d["line"], d["reason"], d.get("duplicate_of"), d.get("similarity"))
        for d in report["dropped_documents"]
    ] == [
        (more, 1, "empty", None, None),
        (more, 2, "too short", None, None),
        (more, 3, "too long", None, None),
        (more, 4, "duplicate", {"file": first, "line": 5}, 1),
        (more, 5, "near duplicate", {"file": first, "line": 7}, 1),
        (more, 6, "duplicate", {"file": first, "line": 8}, 1),
    ]
    assert report["dropped_documents"][1]["first_words"] == "Too short."
    assert (report["read"], report["kept"]) == (36, 30)
    assert report["train"]["documents"] + report["held_out"]["documents"] == 30
    table = [line.split() for line in result.output.splitlines()]
    assert ["all", "36", "30", "1", "1", "1", "2", "1"] in table
    assert [more, "6", "0", "1", "1", "1", "2", "1"] in table


def test_sources_are_kept_beside_the_texts(tmp_path: Path) -> None:
    episodes = [
        {
            "text": words(n, 20),
            "title": f"EP{n}",
            "source": f"https://wiki/?oldid={n}",
            "revision": n,
            "licence": "CC",
        }
        for n in range(40)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, episodes)))
    prepare([tmp_path / "a.jsonl"], tmp_path / "out", Rules())
    sides = {side: read_documents(tmp_path / f"out/{side}.txt") for side in ("train", "held-out")}
    with (tmp_path / "out/sources.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    text_of = {episode["title"]: episode["text"] for episode in episodes}
    for row in rows:
        assert sides[row["side"]][int(row["number"]) - 1] == text_of[row["title"]]
        assert row["source"] == f"https://wiki/?oldid={row['revision']}"
        assert row["licence"] == "CC"


def test_half_an_emoji_spoils_neither_the_report_nor_the_sources(stories: Path, tmp_path: Path) -> None:
    """JSON can spell it, and UTF-8 can't: the files would stay behind half written."""
    with stories.open("a") as file:
        file.write(json.dumps({"text": "\ud83d", "source": "dropped"}) + "\n")
        file.write(json.dumps({"text": words(99, 20) + "\ud83d", "source": "kept \ud83d"}) + "\n")
    prepare([stories], tmp_path / "out", Rules())
    [dropped] = json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8"))["dropped_documents"]
    assert (dropped["line"], dropped["first_words"]) == (61, "\ufffd")
    assert "kept \ufffd" in (tmp_path / "out/sources.csv").read_text(encoding="utf-8")


def test_a_file_that_is_named_twice_is_read_once(stories: Path, tmp_path: Path) -> None:
    once = prepare([stories], tmp_path / "out", Rules())
    assert prepare([stories, stories], tmp_path / "out", Rules()) == once
    assert [entry["read"] for entry in once["inputs"]] == [60]


def test_the_held_out_part_can_be_larger(stories: Path, tmp_path: Path) -> None:
    report = prepare([stories], tmp_path / "out", Rules(held_out_parts=2))
    assert 20 <= report["held_out"]["documents"] <= 40


def test_preparing_again_with_other_rules_replaces_the_data_set(stories: Path, tmp_path: Path) -> None:
    prepare([stories], tmp_path / "out", Rules())
    prepare([stories], tmp_path / "out", Rules(held_out_parts=2))
    fresh = prepare([stories], tmp_path / "fresh", Rules(held_out_parts=2))
    for name in ("train.txt", "held-out.txt", "report.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()
    assert fresh["rules"]["held_out_parts"] == 2


def test_another_inputs_data_set_is_never_written_over(stories: Path, tmp_path: Path) -> None:
    prepare([stories], tmp_path / "out", Rules())
    before = (tmp_path / "out/train.txt").read_bytes()
    other = stories.rename(tmp_path / "other.jsonl")
    with pytest.raises(
        FileExistsError, match=r"out holds what was prepared from .*stories\.jsonl: name another --out"
    ):
        prepare([other], tmp_path / "out", Rules())
    assert (tmp_path / "out/train.txt").read_bytes() == before


def test_a_folder_with_other_things_in_it_is_never_written_to(stories: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="exists and is no prepared data set"):
        prepare([stories], tmp_path, Rules())
    with pytest.raises(FileExistsError, match="exists and is no prepared data set"):
        prepare([stories], stories, Rules())


def test_all_dropped_says_for_what_reasons(stories: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing is left: 60 too short; see --min-words and --max-words"):
        prepare([stories], tmp_path / "out", Rules(min_words=31))
    assert not (tmp_path / "out").exists()


def test_a_single_document_cannot_be_split(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text("\n".join(words(seed, 9) for seed in range(60)))
    with pytest.raises(ValueError, match=r"all 1 documents left fall on the same side .* \(--lines\)"):
        prepare([tmp_path / "novel.txt"], tmp_path / "out", Rules())
    prepare([tmp_path / "novel.txt"], tmp_path / "out", Rules(), lines=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'INPUTS...'"),
        (["missing.jsonl"], "File 'missing.jsonl' does not exist"),
        (["{stories}", "--column", "Joke"], "Invalid value for --column: no input is a .csv"),
        (["{stories}", "--lines"], "Invalid value for --lines: no input is a .txt"),
        (["{stories}", "--held-out-parts", "1"], "1 is not in the range x>=2"),
        (["{stories}", "--similarity", "0"], "0.0 is not in the range 0<x<=1"),
        (["{stories}", "--similarity", "nan"], "nan is no finite number"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    stories: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = run(*(argument.format(stories=stories) for argument in arguments), "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())

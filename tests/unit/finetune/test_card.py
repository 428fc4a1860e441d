"""The model card: everything that was measured and everything that a person has to say, for people and for programs."""

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from huggingface_hub import ModelCard, ModelCardData
from markdown_it import MarkdownIt
from safetensors.numpy import load_file

from finetune.documents import write_documents
from finetune.evaluate.command import evaluate, read_evaluation
from finetune.publish.card import FIELDS, command, draw, metadata, quoted, read_fields, write_card
from finetune.train.curve import Point, write_curve
from server.weights import Checkpoint, CheckpointError, open_checkpoint
from server.weights.card import LARGEST, Card, Sample, read_card

CURVE = [Point(step, step * 4096, 5.0 - step / 100, 3.0 - step / 200) for step in range(100, 400, 100)]


@pytest.fixture(scope="session")
def measured(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as `pokegen finetune` and `pokegen evaluate` leave it, but tiny."""
    folder = tmp_path_factory.mktemp("measured")
    dataset = folder / "episodes"
    dataset.mkdir()
    write_documents(
        dataset / "train.txt", [f"Ash and Misty walk to town {n} and find a Pidgey." for n in range(20)]
    )
    write_documents(dataset / "held-out.txt", ["Ash and Brock walk home.", "A Pidgey sleeps in the rain."])
    checkpoint = folder / "tiny"
    shutil.copytree(tiny_checkpoint.directory, checkpoint)
    training = {"trainer": "torch", "learning_rate": 0.004, "seed": 7, "kept step": 300}
    (checkpoint / "training.json").write_text(json.dumps(training))
    write_curve(checkpoint, CURVE)
    evaluate(checkpoint, dataset, samples=2, length=20)
    return checkpoint


@pytest.fixture(scope="session")
def carded(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its card."""
    checkpoint = tmp_path_factory.mktemp("carded") / "tiny"
    shutil.copytree(measured, checkpoint)
    done = CliRunner().invoke(command, [str(checkpoint), "--seed", "5"])
    assert done.exit_code == 0, done.output
    assert "its prose is that of checkpoint/run1" in done.output
    return checkpoint


@pytest.fixture(scope="session")
def readme(carded: Path) -> str:
    return (carded / "README.md").read_text(encoding="utf-8")


def test_model_hubs_read_its_metadata_and_its_results(carded: Path, readme: str) -> None:
    data = ModelCard(readme).data
    assert isinstance(data, ModelCardData)
    assert data.language == ["en"]
    assert (data.license, data.license_name) == ("other", "fan-fiction")
    named = data.to_dict()  # type: ignore[no-untyped-call]
    assert (named["library_name"], named["pipeline_tag"]) == ("transformers", "text-generation")
    assert data.datasets == ["episodes", "shorts", "start", "plots", "leads"]
    results = {result.metric_name: result.metric_value for result in data.eval_results or []}
    own = read_evaluation(carded).perplexities[0]
    assert results["Perplexity per byte"] == round(own.perplexity_per_byte, 4)
    assert results["Perplexity per token"] == round(own.perplexity_per_token, 4)


def test_the_most_copied_training_text_counts(carded: Path, readme: str, tmp_path: Path) -> None:
    shutil.copytree(carded, tmp_path / "tiny")
    file = tmp_path / "tiny/evaluation.json"
    measured = json.loads(file.read_text())
    [copying] = measured["copying"]
    shares = {"little": 0.1, "most": 0.3, "none": None}
    measured["copying"] = [
        copying | {"training": name, "samples_share_of_12_grams": share} for name, share in shares.items()
    ]
    file.write_text(json.dumps(measured))
    data = metadata(read_card(carded), read_evaluation(tmp_path / "tiny"))
    [result] = [result for result in data.eval_results or [] if result.metric_type == "copied_12_grams"]
    assert (result.metric_value, "training text most," in str(result.metric_name)) == (0.3, True)


def test_its_example_runs_to_the_end_of_the_context(
    carded: Path, readme: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [example] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    monkeypatch.chdir(carded.parent)
    # Without an end the model goes on to where there is no more room.
    names: dict[str, Any] = {}
    exec(example.replace("do_sample=True", "do_sample=True, min_length=256"), names)  # noqa: S102 - ours
    assert names["text"].shape == (1, 256)
    assert capsys.readouterr().out.startswith("Ash and Misty are on a date when")


def test_every_table_has_what_was_measured(carded: Path, readme: str) -> None:
    evaluation = read_evaluation(carded)
    assert {model.kind for model in evaluation.perplexities} == {"checkpoint", "5-gram"}
    for model in evaluation.perplexities:
        assert (
            f"| {model.model} | {model.perplexity_per_token:.2f} | {model.perplexity_per_byte:.3f} |"
            in readme
        )
    assert "| episodes: held-out texts |" in readme
    assert "| its texts | " in readme
    assert "| learning_rate | 0.004 |" in readme
    for point in CURVE:
        assert f"| {point.step} | {point.tokens:,} | {point.training_loss:.4f} |" in readme
    assert "](curve.svg)" in readme


def test_it_says_everything_that_the_fields_say(readme: str) -> None:
    fields = read_fields(FIELDS)
    for said in (
        fields.summary,
        fields.intended_use,
        fields.out_of_scope_use,
        fields.how_it_was_made,
        fields.licence.terms,
        *fields.caveats,
        *(text for data in fields.data for text in (data.description, data.source, data.licence)),
    ):
        assert said in readme


def test_the_samples_are_for_every_prefix_and_come_again_with_the_same_seed(carded: Path) -> None:
    samples = read_card(carded).samples
    assert [sample.prefix for sample in samples.texts] == read_fields(FIELDS).prefixes
    assert (samples.seed, samples.length, samples.temperature, samples.top_k) == (5, 255, 0.2, 40)
    with open_checkpoint(carded) as checkpoint:
        assert draw(checkpoint, [""], 5).texts == samples.texts[-1:]
        assert draw(checkpoint, [""], 6).texts != samples.texts[-1:]


def test_programs_read_the_same_card(carded: Path) -> None:
    card = read_card(carded)
    assert card.name == "tiny"
    assert card.parameters == sum(tensor.size for tensor in load_file(carded / "model.safetensors").values())
    assert card.hparams["n_ctx"] == 256
    assert card.training["kept step"] == 300
    assert [point.step for point in card.curve] == [100, 200, 300]
    assert card.evaluation == json.loads((carded / "evaluation.json").read_text())


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("Ash and", " Misty_ *sang* `la` <b>loud</b> & [long](ago) # | ~~x~~"),
        ("Pikachu is arrested for tax evasion.", "s friends\n\n- one\n1. two\n=== \n    four"),
        ("Ash ", "and\n# Brock"),
        ("", "\n\nNobody."),
        ("...", "and"),
    ],
)
def test_what_a_model_writes_stays_text(prefix: str, text: str) -> None:
    shown = (
        MarkdownIt("commonmark")
        .enable("table")
        .render(quoted(Sample(prefix=prefix, text=text, finish_reason="stop")))
    )
    assert set(re.findall(r"<([a-z0-9]+)", shown)) <= {"blockquote", "p", "strong"}
    plain = html.unescape(re.sub(r"<[^>]*>", "", shown))
    assert plain.split() == (prefix + text).split()
    assert ("<strong>" in shown) == any(character.isalnum() for character in prefix)


def test_a_checkpoint_that_was_not_evaluated_has_no_card(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    shutil.copytree(tiny_checkpoint.directory, tmp_path / "tiny")
    done = CliRunner().invoke(command, [str(tmp_path / "tiny")])
    assert isinstance(done.exception, FileNotFoundError)
    assert "pokegen evaluate" in str(done.exception)
    assert not (tmp_path / "tiny/README.md").exists()


def test_figures_of_other_weights_are_refused(measured: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny"
    shutil.copytree(measured, checkpoint)
    file = checkpoint / "evaluation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"checkpoint_digest": "another"}))
    done = CliRunner().invoke(command, [str(checkpoint)])
    assert isinstance(done.exception, ValueError)
    assert "other weights" in str(done.exception)


def test_a_model_that_others_trained_has_a_card_without_a_curve(measured: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny"
    shutil.copytree(measured, checkpoint)
    for name in ("training.json", "curve.csv", "curve.svg"):
        (checkpoint / name).unlink()
    fields = yaml.safe_load(FIELDS.read_text()) | {"prefixes": ["A duck walks into a bar"]}
    (tmp_path / "jokes.yaml").write_text(yaml.safe_dump(fields))
    done = CliRunner().invoke(command, [str(checkpoint), "--fields", str(tmp_path / "jokes.yaml")])
    assert done.exit_code == 0, done.output
    text = (checkpoint / "README.md").read_text()
    assert "curve.svg" not in text
    assert "**A duck walks into a bar**" in text
    assert "prose" not in done.output


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"caveats": []}, "caveats: "),
        ({"intended_use": ""}, "intended_use: "),
        ({"accuracy": "99%"}, "accuracy: "),
        ({"data": [{"name": "x"}]}, "data.0.description: "),
        ({"prefixes": "Ash"}, "prefixes: "),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], says: str, tmp_path: Path) -> None:
    file = tmp_path / "fields.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(FIELDS.read_text()) | change))
    with pytest.raises(ValueError, match=says):
        read_fields(file)


def test_a_prefix_without_room_for_a_text_is_named(measured: Path) -> None:
    fields = read_fields(FIELDS).model_copy(update={"prefixes": ["Ash", "Pikachu! " * 600]})
    with pytest.raises(
        ValueError,
        match=r"prefixes: 'Pikachu! Pikachu! Pikachu! Pik'\.\.\. has \d+ tokens and may have \d+ at most",
    ):
        write_card(measured, fields, seed=1)


def test_a_file_that_is_not_yaml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "fields.yaml"
    file.write_text("a: [")
    with pytest.raises(ValueError, match=r"fields\.yaml is not YAML"):
        read_fields(file)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b" " * (LARGEST + 1)]
)
def test_a_broken_card_is_named_when_it_is_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"card\.json: "):
        read_card(tmp_path)


def test_what_a_newer_card_has_more_does_no_harm(carded: Path, tmp_path: Path) -> None:
    newer = json.loads((carded / "card.json").read_text()) | {"mood": "good"}
    (tmp_path / "card.json").write_text(json.dumps(newer))
    assert isinstance(read_card(tmp_path), Card)

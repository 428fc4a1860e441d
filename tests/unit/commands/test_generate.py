"""`pokegen generate`: the service's texts, to a terminal, a pipe or a file."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from server.app import create_app
from server.cli import commands
from server.engine import SamplingParams, create_engine
from server.settings import Settings
from server.weights import Checkpoint
from tests.terminal import POKEGEN, Terminal, as_shown, bare_environment, pokegen

PREFIX = "Ash and Pikachu"
LINE = "=" * 20


@pytest.fixture(autouse=True)
def settings(tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("POKEGEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("POKEGEN_CHECKPOINT", str(tiny_checkpoint.directory))


@pytest.fixture
def tiny(tiny_checkpoint: Checkpoint) -> dict[str, str]:
    """The environment of a process of its own."""
    return {"POKEGEN_CHECKPOINT": str(tiny_checkpoint.directory)}


def generate(*arguments: object, typed: bytes = b"") -> Result:
    return CliRunner().invoke(commands, ["generate", *map(str, arguments)], input=typed)


def records(*arguments: object, typed: bytes = b"") -> list[dict[str, Any]]:
    done = generate("--json", *arguments, typed=typed)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def texts(*arguments: object, typed: bytes = b"") -> list[str]:
    return [record["text"] for record in records(*arguments, typed=typed)]


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_the_texts_are_those_of_the_service(tiny_checkpoint: Checkpoint, batch_size: int) -> None:
    app = create_app(Settings(checkpoint=tiny_checkpoint.directory))
    fields = {"prefix": PREFIX, "length": 30, "seed": 5, "top_k": 40, "temperature": 1.1, "nsamples": 5}
    answer = app.test_client().post("/generate", json=fields | {"whole_sentences": False}).get_json()
    app.extensions["serving"].close()

    options = [f"--{name.replace('_', '-')}={value}" for name, value in fields.items()]
    ours = records(*options, "--batch-size", batch_size)
    assert [record["text"] for record in ours] == [sample["text"] for sample in answer["samples"]]
    assert [record["finish_reason"] for record in ours] == [s["finish_reason"] for s in answer["samples"]]
    assert [record["sample"] for record in ours] == [0, 1, 2, 3, 4]
    assert {(record["prefix"], record["seed"]) for record in ours} == {(PREFIX, 5)}


def test_without_a_prefix_the_model_begins(tiny_checkpoint: Checkpoint) -> None:
    engine = create_engine(tiny_checkpoint, "int8", max_running=1, max_waiting=0)
    (sample,) = engine.submit("", SamplingParams(length=20, seed=3)).result()
    engine.close()
    assert texts("--length=20", "--seed=3") == [sample.text]


def test_several_texts_have_a_line_behind_each_and_one_has_none() -> None:
    one = generate("--prefix", PREFIX, "--length=5", "--seed=1")
    (text,) = texts("--prefix", PREFIX, "--length=5", "--seed=1")
    assert one.stdout == f"{text}\n"
    two = texts("--length=5", "--seed=1", "--nsamples=2")
    for delimiter, line in [(LINE, f"{LINE}\n"), ("", ""), ("--\n", "--\n")]:
        done = generate("--length=5", "--seed=1", "--nsamples=2", "--sample-delim", delimiter)
        assert done.stdout == f"{two[0]}\n{line}{two[1]}\n{line}"


def test_what_a_text_is_made_of_can_be_chosen() -> None:
    (whole,) = texts("--prefix", PREFIX, "--length=40", "--seed=1")
    (bare,) = texts("--prefix", PREFIX, "--length=40", "--seed=1", "--no-include-prefix")
    assert whole == PREFIX + bare
    cut = bare[10:13]
    (truncated,) = texts("--prefix", PREFIX, "--length=40", "--seed=1", "--truncate", cut)
    assert truncated == PREFIX + bare[: bare.index(cut)]
    assert texts("--prefix", PREFIX, "--length=40", "--seed=1", "--truncate", "") == [whole]


def test_end_of_text_ends_a_text_unless_told_otherwise() -> None:
    """As gpt-2-simple, which writes on, and leaves it to `truncate`."""
    ended = records("--nsamples=40", "--temperature=3", "--length=200", "--seed=1")
    stopped = [record["sample"] for record in ended if record["finish_reason"] == "stop"]
    assert stopped
    on = records("--nsamples=40", "--temperature=3", "--length=200", "--seed=1", "--ignore-end-of-text")
    for number in stopped:
        assert on[number]["text"].startswith(ended[number]["text"])
        assert "<|endoftext|>" in on[number]["text"]


def test_a_random_seed_is_told() -> None:
    done = generate("--length=20")
    found = re.fullmatch(r"--seed (\d+) gives the same again\n", done.stderr)
    assert found
    again = generate("--length=20", "--seed", found[1])
    assert (again.stdout, again.stderr) == (done.stdout, "")


def test_each_line_of_a_file_is_a_prefix(tmp_path: Path) -> None:
    file = tmp_path / "openings.txt"
    file.write_text("Ash\r\n\nPikachu, Jigglypuff\n")
    got = records("--prefixes", file, "--nsamples=2", "--length=5", "--seed=1")
    assert [(record["prefix"], record["sample"]) for record in got] == [
        ("Ash", 0),
        ("Ash", 1),
        ("Pikachu, Jigglypuff", 0),
        ("Pikachu, Jigglypuff", 1),
    ]
    assert got[3:] == records("--prefix=Pikachu, Jigglypuff", "--nsamples=2", "--length=5", "--seed=1")[1:]


def test_standard_input_can_be_one_prefix() -> None:
    story = "Ash wakes up.\n\nMisty does not.\n"
    (text,) = texts("--prefixes=-", "--prefix-delim=", "--length=5", typed=story.encode())
    assert text.startswith(story)
    assert len(texts("--prefixes=-", "--prefix-delim=---", "--length=5", typed=b"Ash---Misty")) == 2


def test_a_file_is_replaced_or_gone_on_with_only_if_told_so(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    arguments = ["--length=5", "--seed=1", "--nsamples=4", "--destination-path", str(file)]
    done = generate(*arguments)
    assert (done.exit_code, done.output) == (0, "")
    all_four = file.read_text()
    assert all_four == generate(*arguments[:3]).stdout

    again = generate(*arguments)
    assert again.exit_code == 2
    assert f"{file} exists: give --overwrite, or --append to write behind it" in again.stderr
    assert file.read_text() == all_four
    generate(*arguments, "--overwrite")
    assert file.read_text() == all_four

    first_two = "".join(f"{part}{LINE}\n" for part in all_four.split(f"{LINE}\n")[:2])
    file.write_text(first_two)
    generate(*arguments, "--append", "--skip=2")
    assert file.read_text() == all_four


@pytest.mark.parametrize("fault", ["--temperature=9", "--isa=portable"])
def test_what_fails_leaves_no_file(tmp_path: Path, fault: str) -> None:
    file = tmp_path / "texts.txt"
    done = generate(fault, "--checkpoint", tmp_path, "--destination-path", file)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"pokegen: {tmp_path}: has neither model.safetensors nor")
    assert not file.exists()


def test_the_checkpoint_is_named_as_the_service_or_the_older_tools_name_it(
    tiny_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = texts("--length=10", "--seed=1")
    monkeypatch.setenv("POKEGEN_CHECKPOINT", str(tmp_path / "nowhere"))
    directory = tiny_checkpoint.directory
    for named in [
        ["--checkpoint", directory],
        ["--checkpoint-dir", directory.parent, "--run-name", directory.name],
        ["--models-dir", directory.parent, "--model-name", directory.name],
        ["--model-dir", directory.parent, "--model-name", directory.name],
    ]:
        assert texts("--length=10", "--seed=1", *named) == expected
    monkeypatch.chdir(tmp_path)
    assert "checkpoint/run7: can't be opened" in generate("--run-name=run7").stderr
    assert "models/124M: can't be opened" in generate("--model-name=124M").stderr


def test_the_engine_is_chosen_as_for_the_service() -> None:
    exact = texts("--engine=numpy", "--temperature=0", "--length=10", "--prefix", PREFIX)
    assert texts("--engine=float32", "--temperature=0", "--length=10", "--prefix", PREFIX) == exact
    same = [texts("--isa=portable", f"--threads={n}", "--length=10", "--seed=1") for n in (1, 2)]
    assert same[0] == same[1]


def test_options_may_be_spelt_with_underscores_as_in_the_older_tools(tiny_checkpoint: Checkpoint) -> None:
    directory = tiny_checkpoint.directory
    spelt = [
        f"--checkpoint_dir={directory.parent}",
        f"--run_name={directory.name}",
        "--top_k=3",
        "--batch_size=2",
    ]
    assert texts("--length=10", "--seed=1", *spelt) == texts("--length=10", "--seed=1", "--top-k=3")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint=a", "--run-name=b"], "--checkpoint, --run-name and --model-name each name one"),
        (["--prefix=a", "--prefixes=-"], "--prefix and --prefixes: give one of them"),
        (["--overwrite", "--append", "--destination-path=x"], "--overwrite and --append: give one of them"),
        (["--append"], "--overwrite and --append concern a file: give --destination-path"),
        (["--prefixes=-", "--nsamples=0"], "0 is without end: give one prefix, or a number"),
        (
            ["--prefix", "Ash! " * 300],
            "tokens long and may be 255 at most (n_ctx 256, one of them for the text)",
        ),
        (["--temperature=11"], "0<=x<=10"),
        (["--seed=-1"], "0<=x<=4294967295"),
        (["--top-p=1.5"], "0<=x<=1"),
        (["--prefix=\udcff"], "is not UTF-8"),
        (["--prefixes=/nowhere"], "No such file or directory"),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], message: str) -> None:
    done = generate(*arguments, typed=b"one\ntwo\n")
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert not done.stdout


def test_an_engine_whose_packages_are_missing_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.commands.options.find_spec", lambda _: None)
    done = generate("--engine=gpt2-simple")
    assert done.exit_code == 2
    assert "gpt-2-simple is not installed: run make pipeline" in done.stderr


@pytest.mark.parametrize(("typed", "message"), [(b"\n \n", "has no prefix"), (b"\xff", "is not UTF-8")])
def test_prefixes_must_be_there_and_text(typed: bytes, message: str) -> None:
    done = generate("--prefixes=-", typed=typed)
    assert done.exit_code == 2
    assert message in done.stderr


def test_an_interrupted_run_leaves_whole_texts_and_goes_on_to_the_same_end(
    tiny: dict[str, str], tmp_path: Path
) -> None:
    file, whole = tmp_path / "texts.jsonl", tmp_path / "whole.jsonl"
    arguments = ["generate", "--nsamples=0", "--json", "--length=30", f"--destination-path={file}"]
    with subprocess.Popen(
        [POKEGEN, *arguments], env=bare_environment(tiny), stderr=subprocess.PIPE, text=True
    ) as process:
        while not file.exists() or file.stat().st_size < 10_000:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    found = re.search(r"interrupted: (\d+) whole texts were written; .* goes on with (--seed .*)\n", said)
    assert found, said
    count = int(found[1])
    assert [json.loads(line)["sample"] for line in file.read_text().splitlines()] == list(range(count))

    generate(f"--nsamples={count + 3}", *arguments[2:], *found[2].split())
    seed = found[2].split()[1]
    generate(f"--nsamples={count + 3}", *arguments[2:4], "--seed", seed, "--destination-path", whole)
    assert file.read_text() == whole.read_text()


def test_what_an_interrupted_run_advises_can_be_done_where_it_was_to_overwrite(
    tiny: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "texts.txt"
    file.touch()
    arguments = ["generate", "--nsamples=0", "--length=30", f"--destination-path={file}"]
    with Terminal(*arguments, "--overwrite", env=tiny) as terminal:
        terminal.wait_for("text/s")
        terminal.type("\x03")
        status, shown = terminal.end()
    assert status == 130
    found = re.search(r"goes on with (--seed \d+ --skip (\d+) --append) in place of --overwrite\n", shown)
    assert found, shown
    before = file.read_text()
    done = generate(f"--nsamples={int(found[2]) + 2}", *arguments[2:], *found[1].split())
    assert done.exit_code == 0, done.output
    assert file.read_text().startswith(before)
    assert file.read_text().count(LINE) == before.count(LINE) + 2


def test_a_reader_who_has_had_enough_ends_it_in_silence(tiny: dict[str, str]) -> None:
    line = f"{POKEGEN} generate --nsamples 0 --length 5 --json | head -n 3; echo ${{PIPESTATUS[@]}}"
    done = subprocess.run(
        ["bash", "-c", line],
        env=bare_environment(tiny),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    *lines, statuses = done.stdout.splitlines()
    assert [json.loads(line)["sample"] for line in lines] == [0, 1, 2]
    assert (statuses, done.stderr) == ("0 0", "")


def test_a_terminal_shows_a_text_while_it_grows(checkpoint: Path) -> None:
    slow = {"POKEGEN_CHECKPOINT": str(checkpoint)}  # the terminal has time to show every piece
    arguments = ["generate", "--length=200", "--seed=1", "--ignore-end-of-text", "--prefix", PREFIX]
    with Terminal(*arguments, "--engine=numpy", env=slow) as terminal:
        terminal.wait_for(PREFIX)
        status, shown = terminal.end()
    assert status == 0
    assert terminal.reads > 20, "it came in pieces"
    expected = pokegen(*arguments, "--engine=numpy", env=slow).stdout.removeprefix(PREFIX)
    assert shown.replace("\n", "") == as_shown(expected).replace("\n", "")


def test_ctrl_c_at_a_terminal_ends_it_at_once(tiny: dict[str, str]) -> None:
    with Terminal("generate", "--nsamples=0", env=tiny) as terminal:
        terminal.wait_for(LINE)
        terminal.type("\x03")
        status, shown = terminal.end()
    assert status == 130
    assert "Traceback" not in shown


def test_a_terminal_shows_how_far_a_file_has_come(tiny: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    arguments = ["generate", "--nsamples=3", "--length=5", "--seed=1"]
    with Terminal(*arguments, "--destination-path", file, env=tiny) as terminal:
        status, shown = terminal.end()
    assert status == 0
    assert "3/3" in shown
    assert file.read_text().count(LINE) == 3
    assert pokegen(*arguments, env=tiny).stderr == ""


@pytest.mark.parametrize("option", ["--whole-sentences", "--json"])
def test_a_terminal_is_given_no_control_character_of_a_text(tiny: dict[str, str], option: str) -> None:
    """U+009B is ESC [ in one character; the prefix stands for a text that a model might write."""
    arguments = ["generate", "--length=5", "--seed=1", "--prefix", "Ash\x1b[31m\x9b31m\x7f.", option]
    with Terminal(*arguments, env=tiny) as terminal:
        assert terminal.end()[0] == 0
    received = terminal.received.decode()
    assert "Ash" in received
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", received)
    if option == "--json":
        assert json.loads(received)["prefix"] == "Ash\x1b[31m\x9b31m\x7f."


def test_a_terminal_leaves_nothing_behind_when_a_test_fails(tiny: dict[str, str]) -> None:
    with (
        pytest.raises(AssertionError, match="was not shown"),
        Terminal("generate", "--nsamples=0", env=tiny) as terminal,
    ):
        terminal.wait_for("what never comes\x00", within=2)
    with pytest.raises(ProcessLookupError):
        os.kill(terminal.pid, 0)


def test_an_output_that_is_closed_is_one_line(tiny: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{POKEGEN} generate --length 5 --seed 1 >&-"],
        env=bare_environment(tiny),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "Error: standard output is closed\n")

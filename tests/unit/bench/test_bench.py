"""`pokegen bench` on a model small enough that a test takes no time."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from server.bench.ceilings import Machine, matrix_weights
from server.bench.checkpoint import SHAPES, random_checkpoint
from server.bench.measure import Workload, decode
from server.cli import commands
from server.engine import create_engine
from server.weights import open_checkpoint
from server.weights.layout import tensor_shapes

TINY = SHAPES["tiny"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint("tiny", tmp_path_factory.mktemp("bench"))


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["bench", *map(str, arguments)])


@pytest.fixture(scope="module")
def report(checkpoint: Path) -> dict[str, Any]:
    few = ("--sequences", "3,1", "--context", 20, "--length", 8, "--repeat", 2, "--threads", 1)
    result = bench(
        "--json", "--checkpoint", checkpoint, "--engine", "numpy", "--top-p", 0.9, "--temperature", 0.8, *few
    )
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_json_has_every_figure_by_number_of_sequences(report: dict[str, Any]) -> None:
    for figures in (
        report["decode"],
        report["step_ms"],
        report["ceilings"]["decode"],
        report["ceilings"]["share"],
    ):
        assert list(figures) == ["1", "3"]
        assert all(figure > 0 for figure in figures.values())
    assert report["prefill"] > 0
    assert report["first_token_s"] > 0
    assert report["others"] == 2
    assert 0 < report["idle_rss_mb"] <= report["rss_mb"] <= report["peak_rss_mb"]
    assert set(report["start_s"]) == set(report["loading_rss_mb"]) == {"packed", "unpacked"}


def test_json_says_what_was_measured(report: dict[str, Any]) -> None:
    assert report["workload"] == {"context": 20, "length": 8, "temperature": 0.8, "top_k": 0, "top_p": 0.9}
    assert (report["checkpoint"], report["engine"], report["isa"], report["threads"]) == (
        "tiny",
        "numpy",
        "auto",
        1,
    )


def test_a_median_lies_within_its_spread(report: dict[str, Any]) -> None:
    for n, rate in report["decode"].items():
        least, most = report["spread"][f"decode {n}"]
        assert least <= rate <= most
        assert rate == pytest.approx(1000 * int(n) / report["step_ms"][n], rel=1e-3)


def test_without_json_there_is_a_table(checkpoint: Path) -> None:
    result = bench(
        "--checkpoint", checkpoint, "--engine", "numpy", "--sequences", "1,2", "--length", 4, "--repeat", 1
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("tiny: numpy, auto,")
    assert [line.split()[0] for line in lines[3:5]] == ["1", "2"]
    assert all(line.endswith("%") for line in lines[3:5])
    assert lines[-1].startswith("the machine")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sequences", "1,two"], "'1,two' is not a list of whole numbers such as 1,8,64"),
        (["--sequences", "0,8"], "'0,8' has a number that is not from 1 to 1024"),
        (["--shape", "tiny", "--context", "250"], "n_ctx is 256: lower one of the three"),
        (["--shape", "tiny", "--sequences", "190"], "286 tokens of the first sequence"),
        (["--shape", "2T"], "'2T' is not one of '124M', '355M', '774M', '1558M', 'tiny'"),
        (["--top-p", "1.5"], "1.5 is not in the range 0<=x<=1"),
        (["--isa", "sse2"], "'sse2' is not one of"),
    ],
)
def test_a_bad_option_is_named_with_its_limit(arguments: list[str], message: str) -> None:
    result = bench(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_directory_without_a_checkpoint_is_one_line(tmp_path: Path) -> None:
    result = bench("--checkpoint", tmp_path)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {tmp_path}: has neither model.safetensors nor")


def test_random_weights_are_gpt_2s_first_ones_and_always_the_same(checkpoint: Path, tmp_path: Path) -> None:
    again = random_checkpoint("tiny", tmp_path)
    for file in checkpoint.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name
    with open_checkpoint(checkpoint) as opened:
        assert opened.hparams == TINY
        assert opened.tokenizer.end_of_text == TINY.n_vocab - 1
        assert opened.tokenizer.decode(opened.tokenizer.encode("Pikachu, ピカ")) == "Pikachu, ピカ"
        for name in tensor_shapes(TINY):
            tensor = opened.tensor(name)
            if name.endswith(("/g", "/b")):
                assert (tensor == name.endswith("/g")).all(), name
            else:
                assert tensor.mean() == pytest.approx(0, abs=1e-3), name
                assert tensor.std() == pytest.approx(0.02, rel=0.05), name


def test_a_checkpoint_that_was_not_written_to_its_end_is_written_again(tmp_path: Path) -> None:
    left = tmp_path / "tiny.part"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    with open_checkpoint(random_checkpoint("tiny", tmp_path)) as opened:
        assert opened.hparams == TINY
    assert not left.exists()


def test_decode_counts_the_tokens_that_all_attend_to(checkpoint: Path) -> None:
    work = Workload(context=10, length=6)
    with open_checkpoint(checkpoint) as opened:
        engine = create_engine(opened, "numpy", max_running=1, max_waiting=0)
        try:
            run = decode(engine, work, 1)
        finally:
            engine.close()
    # The first step that counts computes the 11th token, which attends to itself, the last one the 16th.
    assert run.context == (11 + 16) / 2


def test_the_matrices_of_124m_have_as_many_weights_as_its_tensors() -> None:
    shape = SHAPES["124M"]
    tensors = tensor_shapes(shape)
    matrices = {name: sizes for name, sizes in tensors.items() if name.endswith("/w") or name == "wte"}
    assert matrix_weights(shape) == sum(rows * columns for rows, columns in matrices.values())


@pytest.mark.parametrize(
    ("sequences", "rate"),
    [
        (1, 33.7e9 / (123_532_032 + 2 * 12 * 768 * 100)),  # reading the weights takes longest
        (64, 445e9 / (123_532_032 + 2 * 12 * 768 * 100)),  # multiplying does
    ],
)
def test_the_ceiling_is_the_slower_of_reading_and_multiplying(sequences: int, rate: float) -> None:
    machine = Machine(int8_macs_per_s=445e9, bytes_per_s=33.7e9)
    assert machine.decode_ceiling(SHAPES["124M"], "int8", sequences, context=100) == pytest.approx(rate)


def test_float32_reads_four_times_as_much() -> None:
    machine = Machine(int8_macs_per_s=1e18, bytes_per_s=33.7e9)
    int8, float32 = (machine.decode_ceiling(SHAPES["124M"], engine, 8, 100) for engine in ("int8", "float32"))
    assert int8 == pytest.approx(4 * float32)

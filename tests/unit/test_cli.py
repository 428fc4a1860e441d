"""`pokegen`: every command is known, light until it is run, and says in one line what a user can mend."""

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from server.cli import COMMANDS, commands

POKEGEN = Path(sys.executable).with_name("pokegen")


def pokegen(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([POKEGEN, *arguments], capture_output=True, text=True, check=False)


def loaded(*arguments: str, **environment: str) -> tuple[str, set[str]]:
    """What it prints, and the packages that it has loaded for that."""
    code = (
        f"import sys; sys.argv = {['pokegen', *arguments]}; from server import cli\n"
        "try: cli.main()\n"
        "except SystemExit: print('loaded', *{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    printed, _, packages = done.stdout.partition("loaded ")
    return printed, set(packages.split())


@pytest.mark.parametrize(
    "asked",
    [
        {"arguments": ["--help"]},
        {"arguments": [], "_POKEGEN_COMPLETE": "zsh_complete", "COMP_WORDS": "pokegen ", "COMP_CWORD": "1"},
    ],
    ids=["help", "completion"],
)
def test_the_list_of_commands_loads_none_of_them(asked: dict[str, Any]) -> None:
    printed, packages = loaded(*asked.pop("arguments"), **asked)
    for name, (_, does) in COMMANDS.items():
        assert name in printed
        assert " ".join(does.split()[:5]) in " ".join(printed.split())
    assert packages.isdisjoint({"finetune", "torch", "numpy", "tokenizers", "pydantic", "flask"})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_of_its_own_with_examples_that_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(commands, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert f"Usage: pokegen {name}" in result.output.replace("commands", "pokegen")
    _, _, examples = result.output.partition("Examples:\n")
    lines = [line for line in examples.replace("\\\n", "").splitlines() if not line.strip().startswith("#")]
    assert lines
    for line in lines:
        for named, *arguments in named_commands(line):
            for file in filter(re.compile(r"\.(txt|csv|jsonl)$").search, arguments):
                Path(file).parent.mkdir(parents=True, exist_ok=True)
                Path(file).touch()
            command = commands.get_command(click.Context(commands), named)
            assert command, line
            with command.make_context(named, arguments):
                """Every option is there, and takes what it is given."""


def named_commands(line: str) -> list[list[str]]:
    """The arguments of each `pokegen` in a line for the shell."""
    words = shlex.shlex(line.replace('"$(', "( ").replace(')"', " )"), posix=True, punctuation_chars=True)
    words.whitespace_split = True
    return [
        list(itertools.takewhile(lambda word: word not in ("|", "<", ">", "(", ")"), words))
        for word in words
        if word == "pokegen"
    ]


def test_the_exit_status_says_how_it_went(tmp_path: Path) -> None:
    helped = pokegen("--help")
    assert "Exit status:\n    0    done\n" in helped.stdout
    assert helped.returncode == 0
    assert pokegen("env", "--nix").returncode == 2
    assert pokegen("export", str(tmp_path), str(tmp_path / "out")).returncode == 1
    asked = subprocess.Popen(
        [POKEGEN, "interactive"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert asked.stdin
    assert asked.stdout
    asked.stdin.write("Ash\n")
    asked.stdin.flush()
    asked.stdout.readline()
    asked.send_signal(signal.SIGINT)
    asked.communicate()
    assert asked.returncode == 130


def test_a_command_that_cannot_be_loaded_is_not_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "finetune.vocabulary", None)
    completing = click.Context(commands, resilient_parsing=True)
    assert commands.get_command(completing, "vocabulary") is None


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for name in [name for name in sys.modules if name.startswith("finetune")]:
        monkeypatch.delitem(sys.modules, name)
    result = CliRunner().invoke(commands, ["vocabulary"])
    assert result.exit_code == 1
    assert result.output == (
        "Error: pokegen vocabulary needs the package tokenizers, which is not installed: run `make pipeline`\n"
    )


def test_what_a_user_can_mend_is_one_line(tmp_path: Path) -> None:
    result = pokegen("export", str(tmp_path), str(tmp_path / "out"))
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"pokegen: {tmp_path}: has neither model.safetensors nor")
    assert result.stderr.count("\n") == 1


def test_where_a_value_was_refused_can_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ValueError may be a fault of ours, whose place matters."""
    texts = tmp_path / "texts.nix"
    texts.touch()
    arguments = ["prepare", str(texts), "--out", str(tmp_path / "out")]
    short = pokegen(*arguments)
    assert short.returncode == 1
    assert short.stderr == (
        f"pokegen: {texts}: can't tell its format by its name: want .jsonl, .csv or .txt"
        " (POKEGEN_LOG_LEVEL=DEBUG shows where this comes from)\n"
    )
    monkeypatch.setenv("POKEGEN_LOG_LEVEL", "DEBUG")
    long = pokegen(*arguments)
    assert long.stderr.startswith("Traceback (most recent call last):\n")
    assert "finetune/prepare/inputs.py" in long.stderr
    assert long.stderr.endswith(short.stderr)


def test_a_reader_who_has_had_enough_is_no_error() -> None:
    line = f"{POKEGEN} env | true; {POKEGEN} env | head -n 1; echo ${{PIPESTATUS[@]}}"
    for _ in range(3):  # the reader may be quicker or slower
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
        assert (done.stdout.splitlines()[-1], done.stderr) == ("0 0", "")


def test_another_pipe_that_breaks_is_one() -> None:
    code = (
        "import click, sys; from server import cli; sys.argv = ['pokegen', 'env']\n"
        "@click.command()\n"
        "def broken(): raise BrokenPipeError('of the child')\n"
        "cli.Commands.get_command = lambda *_: broken\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "pokegen: of the child\n")


def test_a_misspelt_command_is_a_usage_error() -> None:
    result = pokegen("fintune")
    assert result.returncode == 2
    assert "No such command 'fintune'" in result.stderr

"""The documentation says what the code does, where that can be compared."""

import re
import shlex
from pathlib import Path

import click
import pytest
from pydantic import TypeAdapter

from server.cli import commands
from server.settings import Settings

ROOT = Path(__file__).parents[2]


def test_every_setting_is_documented_with_its_default_and_meaning() -> None:
    table = {
        name: (default, meaning)
        for name, default, meaning in re.findall(
            r"^\| `POKEGEN_(\w+)` \| `(.*?)` \| (.*?) \|$",
            (ROOT / "docs/operations.md").read_text(),
            re.MULTILINE,
        )
    }
    for name, field in Settings.model_fields.items():
        default, meaning = table[name.upper()]
        assert meaning == field.description, name
        if name == "checkpoint":
            assert ROOT / default == field.default
        else:
            assert TypeAdapter(type(field.default)).validate_python(default) == field.default, name


def test_every_path_that_a_document_names_is_there() -> None:
    for document in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        named = re.findall(
            r"`((?:server|nginx|deploy|finetune|tests|docs|checkpoint|corpus|scripts)/[\w./-]*)`",
            document.read_text(),
        )
        missing = [path for path in named if not (ROOT / path).exists()]
        assert not missing, f"{document.name} names what is not there: {missing}"


def commands_in(file: Path) -> list[list[str]]:
    """The arguments of every `pokegen` at the beginning of a line, lines that go on joined."""
    text = re.sub(r"\\\n\s*", "", file.read_text())
    lines = re.findall(r"^\s*pokegen (.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize(
    "file", ["README.md", "docs/checkpoints.md", "docs/moving-over.md", "scripts/make-checkpoint"]
)
def test_every_option_of_a_command_that_is_named_is_there(file: str) -> None:
    named = commands_in(ROOT / file)
    assert named
    for name, *arguments in named:
        command = commands.get_command(click.Context(commands), name)
        assert command, name
        known = {option for parameter in command.params for option in parameter.opts}
        options = {argument.split("=")[0] for argument in arguments if argument.startswith("--")}
        assert options <= known, f"{file}: pokegen {name} has no {options - known}"

"""`pokegen`: every command is known, light until it is run, and says in one line what a user can mend."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from server.cli import PIPELINE, commands

POKEGEN = Path(sys.executable).with_name("pokegen")


def pokegen(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([POKEGEN, *arguments], capture_output=True, text=True, check=False)


def test_help_lists_every_command_and_loads_none_of_the_pipeline() -> None:
    code = (
        "import sys; sys.argv = ['pokegen', '--help']; from server import cli\n"
        "try: cli.main()\n"
        "except SystemExit: print([name for name in sys.modules if name.split('.')[0] in {'finetune', 'torch'}])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"\n  {name} " in out for name in ["check", "env", *PIPELINE])
    assert out.endswith("\n[]\n")


@pytest.mark.parametrize("name", PIPELINE)
def test_every_command_has_a_help_of_its_own(name: str) -> None:
    result = CliRunner().invoke(commands, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert f"Usage: pokegen {name}" in result.output.replace("commands", "pokegen")
    assert "default" in result.output or "required" in result.output


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


def test_a_misspelt_command_is_a_usage_error() -> None:
    result = pokegen("fintune")
    assert result.returncode == 2
    assert "No such command 'fintune'" in result.stderr

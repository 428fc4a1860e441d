"""`pokegen completion`: a real shell completes commands, options and their choices."""

import subprocess

import pytest

from tests.terminal import POKEGEN, bare_environment, pokegen


def complete(*words: str) -> list[str]:
    """What bash offers for a line of these words, the last of which is not finished."""
    quoted = " ".join(f"'{word}'" for word in ("pokegen", *words))
    script = f"""
        eval "$(pokegen completion bash)"
        complete -p pokegen >/dev/null || exit
        COMP_WORDS=({quoted}) COMP_CWORD={len(words)}
        _pokegen_completion pokegen && printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = bare_environment()
    environment["PATH"] = f"{POKEGEN.parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (["gen"], ["generate"]),
        (["e"], ["env", "evaluate", "export"]),
        (["--h"], ["--help"]),
        (["generate", "--te"], ["--temperature"]),
        (["generate", "--engine", "f"], ["float32"]),
        (["interactive", "--isa", "avx5"], ["avx512-vnni"]),
        (["finetune", "--trainer", ""], ["torch", "gpt-2-simple"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
    ],
)
def test_bash_completes(words: list[str], offers: list[str]) -> None:
    assert complete(*words) == offers


def test_every_shell_has_its_script() -> None:
    for shell, registers in [
        ("bash", "complete -o nosort -F _pokegen_completion pokegen"),
        ("zsh", "compdef _pokegen_completion pokegen"),
        ("fish", "complete --no-files --command pokegen"),
    ]:
        done = pokegen("completion", shell)
        assert (done.returncode, done.stderr) == (0, "")
        assert registers in done.stdout
    assert pokegen("completion", "tcsh").returncode == 2

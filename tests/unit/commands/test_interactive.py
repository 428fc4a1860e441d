"""`pokegen interactive`: a conversation at a terminal, and prompts from a pipe."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.commands.history import KEPT, history_file
from server.weights import Checkpoint
from tests.terminal import Terminal, as_shown, pokegen

ASKS = "Model prompt >>> "
SAMPLE = "=" * 40 + " SAMPLE {} " + "=" * 40 + "\n"
END = "=" * 80 + "\n"
SHORT = ["--length=8", "--seed=7"]
NOT_KEPT = "what you type will not be kept"
UP, ENTER, CTRL_C, CTRL_D = "\x1b[A", "\r", "\x03", "\x04"


@pytest.fixture
def home(tiny_checkpoint: Checkpoint, tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has typed nothing yet."""
    return {
        "POKEGEN_CHECKPOINT": str(tiny_checkpoint.directory),
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }


@pytest.fixture
def start(home: dict[str, str]) -> Iterator[Callable[..., Terminal]]:
    """Start it at a terminal, and wait until it asks."""
    with ExitStack() as running:

        def started(*arguments: str) -> Terminal:
            terminal = running.enter_context(Terminal("interactive", *arguments, env=home))
            terminal.wait_for(ASKS)
            return terminal

        yield started


@pytest.fixture
def history(home: dict[str, str]) -> Path:
    """The file of what was typed."""
    file = Path(home["XDG_STATE_HOME"]) / "pokegen/prompts.jsonl"
    file.parent.mkdir(parents=True)
    return file


@pytest.fixture
def written(home: dict[str, str]) -> Callable[..., list[str]]:
    """What `pokegen generate` writes behind a prompt, which the conversation is to equal."""

    def texts(prompt: str, *arguments: str) -> list[str]:
        done = pokegen(
            "generate", "--json", "--no-include-prefix", f"--prefix={prompt}", *arguments, env=home
        )
        return [json.loads(line)["text"] for line in done.stdout.splitlines()]

    return texts


def answers(text: str) -> list[str]:
    """The texts that were shown."""
    _, *others = text.split("=" * 40 + " SAMPLE ")
    return [part.split("=\n", 1)[1].removesuffix(END).removesuffix("\n") for part in others]


def test_a_prompt_is_continued_and_the_next_one_asked_for(
    start: Callable[..., Terminal], written: Callable[..., list[str]]
) -> None:
    terminal = start(*SHORT)
    terminal.type("Ash and Pikachu" + ENTER)
    shown = terminal.wait_for(END)
    assert (
        shown
        == f"Ash and Pikachu\n{SAMPLE.format(1)}{as_shown(written('Ash and Pikachu', *SHORT)[0])}\n{END}"
    )
    terminal.wait_for(ASKS)
    terminal.type("Misty" + ENTER)
    assert answers(terminal.wait_for(END)) == written("Misty", "--length=8", "--seed=8"), "a seed of its own"
    terminal.wait_for(ASKS)
    terminal.type(CTRL_D)
    assert terminal.end() == (0, "\n")


def test_ctrl_c_stops_a_text_and_asks_for_the_next(start: Callable[..., Terminal]) -> None:
    terminal = start("--nsamples=100000", "--length=8")
    terminal.type("Ash" + ENTER)
    terminal.wait_for(SAMPLE.format(3).strip())
    terminal.type(CTRL_C)
    terminal.wait_for(ASKS)
    terminal.type("/nsamples 1" + ENTER)
    terminal.wait_for(ASKS)
    terminal.type("Misty" + ENTER)
    assert len(answers(terminal.wait_for(END))) == 1
    terminal.wait_for(ASKS)
    terminal.type("half a prompt")
    terminal.wait_for("half a prompt")
    terminal.wait_until_it_listens()
    terminal.type(CTRL_C)
    terminal.wait_for(ASKS)
    terminal.type("/quit" + ENTER)
    assert terminal.end()[0] == 0


def test_what_was_typed_comes_back_in_the_next_session(start: Callable[..., Terminal], history: Path) -> None:
    first = start(*SHORT)
    for typed in ("Ash", "Ash", "Misty"):
        first.type(typed + ENTER)
        first.wait_for(END)
        first.wait_for(ASKS)
    first.type(CTRL_D)
    first.end()

    assert [json.loads(line) for line in history.read_text().splitlines()] == ["Ash", "Misty"]
    assert stat.S_IMODE(history.stat().st_mode) == 0o600, "nobody else's business"

    second = start(*SHORT)
    second.type(UP + UP + " and Brock" + ENTER)
    assert "Ash and Brock\n" in second.wait_for(END)
    second.wait_for(ASKS)
    second.type(CTRL_D)
    second.end()


def test_a_paste_of_several_lines_is_one_prompt(
    start: Callable[..., Terminal], written: Callable[..., list[str]]
) -> None:
    story = "Ash wakes up.\nMisty does not."
    terminal = start(*SHORT)
    terminal.type(f"\x1b[200~{story}\x1b[201~{ENTER}")
    assert answers(terminal.wait_for(END)) == written(story, *SHORT)
    terminal.wait_for(ASKS)
    terminal.type(CTRL_D)
    terminal.end()
    again = start(*SHORT)
    again.type(UP + ENTER)
    assert answers(again.wait_for(END)) == written(story, *SHORT), "and one in the history"
    again.wait_for(ASKS)
    again.type(CTRL_D)
    again.end()


def test_a_history_that_cannot_be_kept_is_said_and_no_obstacle(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder belongs")
    with Terminal("interactive", *SHORT, env=home) as terminal:
        assert NOT_KEPT in terminal.wait_for(ASKS)
        terminal.type("Ash" + ENTER)
        assert NOT_KEPT not in terminal.wait_for(END)
        terminal.wait_for(ASKS)
        terminal.type(CTRL_D)
        assert terminal.end()[0] == 0


def test_a_history_that_can_no_longer_be_kept_is_said_once(
    start: Callable[..., Terminal], history: Path
) -> None:
    terminal = start(*SHORT)
    history.unlink()
    history.mkdir()  # as a full disk: no line can be written
    for typed, complains in [("Ash", True), ("Misty", False)]:
        terminal.type(typed + ENTER)
        assert (NOT_KEPT in terminal.wait_for(END)) is complains
        terminal.wait_for(ASKS)
    terminal.type(UP + UP + " and Brock" + ENTER)
    assert "Ash and Brock\n" in terminal.wait_for(END), "this session has a memory all the same"
    terminal.wait_for(ASKS)
    terminal.type(CTRL_D)
    assert terminal.end()[0] == 0


def test_a_line_of_the_history_that_was_cut_off_takes_no_other_with_it(
    start: Callable[..., Terminal], history: Path
) -> None:
    history.write_text('"Ash"\n"Mis')
    terminal = start(*SHORT)
    terminal.type("Brock" + ENTER)
    terminal.wait_for(END)
    assert history.read_text() == '"Ash"\n"Brock"\n'


def test_the_history_does_not_grow_without_end(start: Callable[..., Terminal], history: Path) -> None:
    history.write_text("".join(f'"Ash {number}"\n' for number in range(KEPT + 5)))
    start(*SHORT)
    lines = history.read_text().splitlines()
    assert (len(lines), lines[0]) == (KEPT, '"Ash 5"')
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert list(history.parent.iterdir()) == [history]


def test_who_has_no_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has no entry in /etc/passwd."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    with pytest.raises(OSError, match="no home directory; set HOME, or XDG_STATE_HOME"):
        history_file()


def test_a_file_gets_the_texts_alone(
    home: dict[str, str], written: Callable[..., list[str]], tmp_path: Path
) -> None:
    file = tmp_path / "texts.txt"
    with Terminal("interactive", *SHORT, env=home, output=file) as terminal:
        terminal.wait_for(ASKS)
        terminal.type("Ash\n")
        terminal.wait_for(ASKS)
        terminal.type(CTRL_D)
        assert terminal.end()[0] == 0
    assert file.read_text() == f"{SAMPLE.format(1)}{written('Ash', *SHORT)[0]}\n{END}"


def test_an_empty_prompt_is_asked_for_again(start: Callable[..., Terminal]) -> None:
    terminal = start(*SHORT)
    terminal.type(ENTER)
    assert "Prompt should not be empty!" in terminal.wait_for(ASKS)
    terminal.type(CTRL_D)
    terminal.end()


def test_each_line_of_a_pipe_is_a_prompt(home: dict[str, str], written: Callable[..., list[str]]) -> None:
    done = pokegen("interactive", "--nsamples=2", *SHORT, typed="Ash\nMisty\n", env=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert ASKS not in done.stdout
    ash = written("Ash", "--nsamples=2", *SHORT)
    assert done.stdout.startswith(f"{SAMPLE.format(1)}{ash[0]}\n{SAMPLE.format(2)}{ash[1]}\n{END}")
    assert answers(done.stdout)[2:] == written("Misty", "--nsamples=2", "--length=8", "--seed=8")


def test_commands_change_what_comes(home: dict[str, str], written: Callable[..., list[str]]) -> None:
    typed = [
        "Ash",
        "/again",
        "/more",
        "/seed 3",
        "/temperature 1.5",
        "/top-k 9",
        "/length 5",
        "/again",
        "//Ash",
    ]
    done = pokegen("interactive", *SHORT, typed="\n".join(typed), env=home)
    assert (done.returncode, done.stderr) == (0, "")
    got = answers(done.stdout)
    assert got[:2] == written("Ash", *SHORT) + written("Ash", "--length=8", "--seed=8")
    assert got[2:3] == written("Ash" + got[1], "--length=8", "--seed=9"), "the last text goes on"
    changed = ["--temperature=1.5", "--top-k=9", "--length=5"]
    assert got[3:4] == written("Ash" + got[1], "--seed=3", *changed), "the same prompt once more"
    assert got[4:] == written("/Ash", "--seed=4", *changed)


def test_more_of_a_long_text_goes_on_behind_its_end(home: dict[str, str]) -> None:
    """The tiny context is full after two texts; its beginning is left away then."""
    typed = "\n".join(["Ash", "/length 120", *["/more"] * 5])
    done = pokegen("interactive", "--ignore-end-of-text", "--length=120", typed=typed, env=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(answers(done.stdout)) == 6


def test_more_can_be_had_of_any_text(home: dict[str, str], written: Callable[..., list[str]]) -> None:
    done = pokegen("interactive", "--nsamples=2", *SHORT, typed="Ash\n/nsamples 1\n/more 2\n", env=home)
    first, second, more = answers(done.stdout)
    assert [first, second] == written("Ash", "--nsamples=2", *SHORT)
    assert [more] == written("Ash" + second, "--length=8", "--seed=8")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("", "Prompt should not be empty!"),
        ("/nix", "/nix is no command: /help lists them. // begins a prompt with a slash."),
        ("/", "/ is no command"),
        ("/again", "There is no text yet: type a prompt."),
        ("/more", "There is no text yet: type a prompt."),
        ("/temperature hot", "/temperature takes a number (higher is wilder"),
        ("/temperature 11", "temperature is 11.0 and must be from 0 to 10.0"),
        ("/length 0", "length is 0 and must be at least 1"),
        ("Ash! " * 300, "tokens long and may be 255 at most: shorten it."),
        (b"\xff", "The prompt is not UTF-8."),
        ("/\x1b[31m", "/\N{REPLACEMENT CHARACTER}[31m is no command"),
    ],
)
def test_what_cannot_be_done_is_said_and_the_others_go_on(
    home: dict[str, str], typed: str | bytes, message: str
) -> None:
    line = typed.encode() if isinstance(typed, str) else typed
    done = pokegen("interactive", *SHORT, typed=line + b"\nAsh\n", env=home)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(answers(done.stdout)) == 1


def test_help_lists_the_commands_with_what_they_are_set_to(home: dict[str, str]) -> None:
    done = pokegen("interactive", "--top-p=0.9", typed="/help\n/quit\nAsh\n", env=home)
    assert done.returncode == 0
    assert "/top_p 0.9 " in done.stdout
    assert "/length 128 " in done.stdout, "half of the context, as OpenAI's script has it"
    assert "SAMPLE" not in done.stdout, "what stands behind /quit is not read"

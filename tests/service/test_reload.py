"""A checkpoint takes another's place under 200 readers: no request fails, and each answer names what wrote it."""

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server.weights import HParams
from tests.checkpoints import write_transformers
from tests.service.stack import Stack, direct_session, free_ports, metrics, running, wait_until

SIZES = HParams(n_vocab=512, n_ctx=256, n_embd=128, n_head=4, n_layer=4)
pytestmark = pytest.mark.timeout(900)  # 200 readers have a slow machine write thousands of texts

READERS = 200
PROMPTS = 8
TEXT = "/generate?prefix=Ash+{number}&length=60&whole_sentences=false&temperature=0"  # which nobody keeps


class Place:
    """What lies at POKEGEN_CHECKPOINT."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        write_transformers(directory, SIZES, seed=1)

    def lay(self, seed: int) -> None:
        """Another checkpoint, by renaming."""
        new = self.directory.with_name(f"new-{seed}")
        write_transformers(new, SIZES, seed=seed)
        old = self.directory.rename(self.directory.with_name(f"old-{seed}"))
        new.rename(self.directory)
        shutil.rmtree(old)

    def spoil(self) -> None:
        """What an interrupted copy leaves."""
        os.truncate(self.directory / "model.safetensors", 100_000)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "served")


@pytest.fixture
def stack(place: Place, tmp_path: Path) -> Iterator[Stack]:
    variables = {
        "POKEGEN_CHECKPOINT": str(place.directory),
        "POKEGEN_PACE": "0",
        "POKEGEN_MAX_WAIT": "60",
        "POKEGEN_MAX_WAITING": "128",
    }
    with running(Stack(tmp_path / "log", variables)) as stack:
        yield stack


def test_200_readers_during_five_swaps_one_of_them_corrupt(stack: Stack, place: Place) -> None:
    known: dict[str, dict[int, str]] = defaultdict(dict)  # texts by prompt, of each checkpoint
    ends = False
    answers = 0

    def read(number: int) -> None:
        """One text after the other, which must be whole, and the same for the same checkpoint and prompt."""
        nonlocal answers
        prompt = number % PROMPTS
        with direct_session() as session:
            while not ends:
                response = session.get(stack.url + TEXT.format(number=prompt), timeout=60)
                assert response.status_code == 200, response.text
                answer = response.json()
                expected = known[answer["fingerprint"]].setdefault(prompt, answer["text"])
                assert answer["text"] == expected
                answers += 1

    def texts_come() -> None:
        since = answers
        wait_until(lambda: answers > since + 2 * READERS, within=120, what="texts")

    with ThreadPoolExecutor(READERS) as pool:
        readers = [pool.submit(read, number) for number in range(READERS)]
        try:
            fingerprints = []
            for seed in (2, 3, None, 4, 5):
                texts_come()
                if seed is None:
                    place.spoil()
                else:
                    place.lay(seed)
                reloaded = stack.reload()
                assert reloaded.returncode == (1 if seed is None else 0), reloaded.stderr
                if seed is None:
                    assert "model.safetensors" in reloaded.stderr
                fingerprints.append(stack.get("/generate?length=1").json()["fingerprint"])
            texts_come()
        finally:
            ends = True
        for reader in readers:
            reader.result()
    assert fingerprints[1] == fingerprints[2], "the corrupt one changed nothing"
    assert len(set(fingerprints)) == 4
    assert set(fingerprints) <= set(known)
    texts = [known[fingerprint][0] for fingerprint in dict.fromkeys(fingerprints)]
    assert len(set(texts)) == 4, "each checkpoint writes another text"
    said = metrics(stack.http)
    assert said["pokegen_requests_refused_total"] == 0
    ended = sum(count for name, count in said.items() if name.startswith("pokegen_samples_ended_total"))
    assert ended >= answers
    assert f'pokegen_model_info{{fingerprint="{fingerprints[-1]}",model="served"}}' in said


def test_nobody_from_outside_can_reload(stack: Stack) -> None:
    assert stack.post("/reload").status_code == 404
    with direct_session() as session:
        from_elsewhere = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
        assert (
            session.post(stack.http + "/reload", json={}, headers=from_elsewhere, timeout=20).status_code
            == 403
        )
        assert session.get(stack.http + "/reload", timeout=20).status_code == 405


def test_a_new_card_is_shown_and_another_tokenizer_is_another_checkpoint(stack: Stack, place: Place) -> None:
    before = stack.get("/generate?length=1").json()["fingerprint"]
    (place.directory / "README.md").write_text("# A card\n")
    assert "is what answers already" in stack.reload().stdout
    assert "<h1>A card</h1>" in stack.get("/model", headers={"Accept": "text/html"}).text
    assert stack.get("/generate?length=1").json()["fingerprint"] == before
    config = place.directory / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"add_bos_token": True}))
    assert "answers from here on" in stack.reload().stdout
    assert stack.get("/generate?length=1").json()["fingerprint"] != before


def test_the_command_says_what_came_of_it(stack: Stack, place: Place) -> None:
    def reload(http: str = stack.http) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"POKEGEN_HTTP": http.removeprefix("http://")}
        command = [str(Path(sys.executable).with_name("pokegen")), "reload"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    assert "is what answers already" in reload().stdout
    place.lay(2)
    assert "answers from here on" in reload().stdout
    place.spoil()
    refused = reload()
    assert refused.returncode == 1
    assert "It stays as it was" in refused.stderr
    [nobody] = free_ports(1)
    assert "no service answers" in reload(f"http://127.0.0.1:{nobody}").stderr

"""The model that is served, through nginx and uWSGI: its card, and a start from a registry."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from finetune.publish.register import register
from tests.cards import CARD, write_card
from tests.service.stack import Stack, running, wait_until

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def carded(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a card."""
    directory = tmp_path_factory.mktemp("carded") / "run9"
    shutil.copytree(checkpoint, directory)
    write_card(directory)
    return directory


@pytest.fixture(scope="module")
def registry(carded: Path) -> str:
    """A registry with the checkpoint as models:/pokegen/1, which is the champion."""
    registry = f"sqlite:///{carded.parent}/registry/mlflow.db"
    register(carded, "pokegen", registry, "champion")
    return registry


@pytest.fixture(scope="module")
def served(
    environment: dict[str, str], registry: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The service, started from the registry by alias."""
    variables = {"POKEGEN_CHECKPOINT": "models:/pokegen@champion", "POKEGEN_REGISTRY": registry}
    with running(Stack(tmp_path_factory.mktemp("served") / "log", environment | variables)) as stack:
        yield stack


def test_the_service_starts_from_a_registry_and_says_which_version_it_serves(served: Stack) -> None:
    answer = served.get("/generate?prefix=Ash&length=1")
    assert answer.status_code == 200
    assert answer.json()["model"] == "pokegen/1"


def test_the_card_goes_through_nginx_in_both_forms(served: Stack) -> None:
    as_json, as_page = served.get("/model"), served.get("/model", headers=HTML)
    assert as_json.json() == CARD
    assert as_page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<h1>run9: Jokes</h1>" in as_page.text
    assert {"Accept"} <= set(as_page.headers["Vary"].split(", "))
    for answer in (as_json, as_page):
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_what_the_page_refers_to_is_there_and_the_picture_may_only_draw(served: Stack) -> None:
    page = served.get("/model", headers=HTML).text
    for address in ("style.css", "favicon.svg", "model/curve.svg"):
        assert f'"{address}"' in page
        assert served.get(f"/{address}").status_code == 200
    picture = served.get("/model/curve.svg")
    assert picture.headers["Content-Type"].startswith("image/svg+xml")
    policy = picture.headers["Content-Security-Policy"]  # "x, y" were there nginx's as well
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    assert picture.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_the_card_is_sent_again_only_when_it_changed(served: Stack, encoding: str) -> None:
    headers = {"Accept-Encoding": encoding}
    first = served.get("/model", headers=headers)
    again = served.get("/model", headers=headers | {"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_other_methods_are_refused(served: Stack) -> None:
    refused = served.post("/model")
    assert (refused.status_code, refused.headers["Content-Type"]) == (405, "application/problem+json")
    assert "GET" in refused.headers["Allow"]


def test_a_checkpoint_without_a_card_says_what_to_do(stack: Stack) -> None:
    answer = stack.get("/model")
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")
    assert "`pokegen card`" in answer.json()["detail"]


def test_a_reload_shows_the_new_card_and_the_champion_of_now(
    new_stack: Callable[..., Stack], registry: str, carded: Path, tmp_path: Path
) -> None:
    newer = Path(shutil.copytree(carded, tmp_path / "run10"))
    (newer / "README.md").write_text("# A newer card\n", encoding="utf-8")
    with running(
        new_stack(POKEGEN_CHECKPOINT="models:/pokegen@champion", POKEGEN_REGISTRY=registry)
    ) as stack:
        version = register(newer, "pokegen", registry, "champion").version
        assert "<h1>run9: Jokes</h1>" in stack.get("/model", headers=HTML).text
        assert stack.reload().returncode == 0
        wait_until(
            lambda: "<h1>A newer card</h1>" in stack.get("/model", headers=HTML).text,
            within=60,
            what="the new card",
        )
        assert stack.get("/generate?length=1").json()["model"] == f"pokegen/{version}"


def test_a_version_that_is_not_there_stops_the_start_with_one_line(
    new_stack: Callable[..., Stack], registry: str
) -> None:
    ended = new_stack(POKEGEN_CHECKPOINT="models:/pokegen/99", POKEGEN_REGISTRY=registry).run_to_the_end()
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith("pokegen: models:/pokegen/99: ")

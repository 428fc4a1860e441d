"""The application over a real, tiny checkpoint, asked through Flask's test client."""

import threading
from collections.abc import Callable, Iterator

import pytest
from flask.testing import FlaskClient
from flask_openapi3 import OpenAPI

from server.api.card import read_forms
from server.api.metrics import Texts
from server.app import assemble, create_app
from server.engine import Engine, MemoryPlan
from server.engine.core import SequentialCore
from server.engine.gpt2 import GPT2
from server.engine.kv_blocks import blocks_for
from server.engine.scheduler import Drawn, Slice
from server.serving import Served, Serving
from server.settings import Settings
from server.weights import Checkpoint


@pytest.fixture(scope="session")
def app(tiny_checkpoint: Checkpoint) -> Iterator[OpenAPI]:
    app = create_app(
        Settings(
            checkpoint=tiny_checkpoint.directory,
            length=20,
            top_k=0,
            opening="Ash and Misty",
            address_at_once=0,  # the test client closes no answer, and so would give no place back
            keep=0,  # where texts are compared, all of them are written
        )
    )
    yield app
    app.extensions["serving"].close()


@pytest.fixture(scope="session")
def client(app: OpenAPI) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def make_app(tiny_checkpoint: Checkpoint) -> Iterator[Callable[..., OpenAPI]]:
    """Make applications with settings of their own."""
    apps = []

    def make(**settings: object) -> OpenAPI:
        app = create_app(Settings(**{"checkpoint": tiny_checkpoint.directory, "keep": 0} | settings))  # type: ignore[arg-type]
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.extensions["serving"].close()


class GatedCore(SequentialCore):
    """The real core, each step of which waits until the gate is open: so a test decides what runs when.

    some_steps: so many may be taken while it is open; None: as many as there are.
    """

    def __init__(self, model: GPT2) -> None:
        super().__init__(model)
        self.open = threading.Event()
        self.entered = threading.Event()
        self.some_steps: threading.Semaphore | None = None

    def step(self, batch: list[Slice]) -> list[Drawn]:
        self.entered.set()
        self.open.wait(timeout=30)
        if self.some_steps:
            self.some_steps.acquire(timeout=30)
        return super().step(batch)


class Small:
    """A service with one place and no queue, whose model and steps are in the test's hands."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        n_blocks = blocks_for(checkpoint.hparams.n_ctx)
        self.model = GPT2(checkpoint, n_blocks)
        self.core = GatedCore(self.model)
        self.core.open.set()
        self.engine = Engine(
            self.core,
            checkpoint.hparams,
            checkpoint.tokenizer,
            n_blocks=n_blocks,
            max_running=1,
            max_waiting=0,
        )
        self.settings = Settings(
            checkpoint=checkpoint.directory,
            max_running=1,
            max_waiting=0,
            max_samples=1,
            keep=0,
        )
        served = Served(
            self.engine,
            MemoryPlan(0, 0, n_blocks, 0, 0),
            model="small",
            created=0,
            stamp="",
            fingerprint="fp_small",
            card_forms=read_forms(checkpoint.directory),
        )
        self.client = assemble(self.settings, Serving(lambda beside: beside or served), Texts()).test_client()


@pytest.fixture
def small(tiny_checkpoint: Checkpoint) -> Iterator[Small]:
    small = Small(tiny_checkpoint)
    yield small
    small.core.open.set()
    small.engine.close()

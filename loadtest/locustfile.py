"""Readers of a running service, for Locust.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8080

The stories, and how many of a hundred readers each has where none is named on the command line:

    CasualReader    50  reads a text while it is written, and then another
    ImpatientReader 20  goes away half-way, or after some seconds, in the queue too
    Sharer          15  opens one of a few permalinks, which must show the same text every time
    Script          10  posts JSON and takes texts whole, one after the other
    Crowd            5  comes within the same five seconds as all others of the crowd, every ten seconds

Whoever is turned away comes back when the service says, or a little later. With --shape the number of readers follows
a plan (loadtest/load/shapes.py). `python -m loadtest.run` does all of it, in a box.
"""

import itertools
import math
import random
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, ClassVar

from locust import LoadTestShape, User, events, task  # makes time.sleep and sockets cooperative
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtest.load import shapes
from loadtest.load.addresses import address_of, is_loopback
from loadtest.load.journal import SETTLE_SECONDS, Journal
from loadtest.load.openings import opening
from loadtest.load.reading import Question, Reading, Server, Way

WORDS_PER_SECOND = 4.0  # how fast people read
AWAY_SECONDS = 5.0  # where the service does not say when to come back
QUICKEST_SECONDS = 0.1  # from one request of a reader to the next: an address may not ask all the time
READING_SECONDS = 8.0  # from one permalink to the next: what is kept comes at once, but has to be read
CROWD_SECONDS = 10.0  # from one crowd to the next
ARRIVAL_SECONDS = 5.0  # in which it comes: all at one instant would queue in this single process
PERMALINKS = 8


class AnswerError(Exception):
    """How a request ended that was not answered; Locust counts failures by its text."""


class Reader(User):
    """One reader with an address of its own: asks, reads, waits, asks again."""

    abstract = True
    quickest = QUICKEST_SECONDS
    options: ClassVar[Namespace]
    server: ClassVar[Server]
    journal: ClassVar[Journal]
    numbers: ClassVar = itertools.count()

    def on_start(self) -> None:
        """Come in."""
        number = next(self.numbers)
        self.random = random.Random(number)  # noqa: S311
        self.source = address_of(number) if is_loopback(self.environment.host or "") else None

    def wait_time(self) -> float:
        """Seconds until the next request, in which the text is read."""
        last = self.last
        if last.ending not in ("complete", "left"):  # not all at the same moment
            return (last.retry_after_s or AWAY_SECONDS) * self.random.uniform(1, 1.5)
        pause = 0.0 if self.options.pause == "none" else self.pause(last)
        return max(pause, self.quickest - (last.total_s or 0))

    def pause(self, last: Reading) -> float:
        """As `wait_time`, where all went well and readers make pauses: what is left to read, and a moment to think."""
        read_while_written = (last.total_s or 0) - (last.first_token_s or 0)
        left_to_read = len(last.text.split()) / WORDS_PER_SECOND - read_while_written
        return max(left_to_read, 0) + self.random.uniform(1, 5)

    def ask(
        self, question: Question, way: Way = "stream", patience: float = math.inf, share: float = math.inf
    ) -> None:
        """Ask and read, as Server.ask does; what comes of it is written down and reported to Locust."""
        story = type(self).__name__
        runner = self.environment.runner
        self.last = reading = Reading(time.monotonic(), story, runner.user_count if runner else 0)
        if self.options.service == "seed":
            way = "seed"
        self.journal.asked(reading)
        try:
            self.server.ask(question, way, reading, self.source, patience, share)
            self.check(question, reading)
        finally:
            self.journal.ended(reading)
        self._report(reading)

    def check(self, question: Question, reading: Reading) -> None:
        """What a story expects of a text; `reading.fail` where it is not so."""

    def question(self) -> Question:
        """Some episode's opening."""
        return Question(opening(self.random), self.options.length)

    def _report(self, reading: Reading) -> None:
        """Two entries: to the first token, and in all. Who leaves is no failure."""
        report: dict[str, Any] = {"name": reading.story, "response_length": len(reading.text), "context": {}}
        if reading.first_token_s is not None:
            first = {"request_type": "first token", "response_time": 1000 * reading.first_token_s}
            self.environment.events.request.fire(exception=None, **first, **report)
        error = AnswerError(f"{reading.ending}: {reading.error}")
        self.environment.events.request.fire(
            request_type="text",
            response_time=1000 * (reading.total_s or 0),
            exception=None if reading.ending in ("complete", "left") else error,
            **report,
        )


class CasualReader(Reader):
    """Reads a text while it is written, and then another."""

    weight = 50

    @task
    def read(self) -> None:
        """A text to its end."""
        self.ask(self.question())


class ImpatientReader(Reader):
    """Goes away half-way, or after some seconds, in the queue too."""

    weight = 20

    @task
    def leave(self) -> None:
        """The beginning of a text."""
        self.ask(self.question(), patience=self.random.uniform(2, 20), share=self.random.uniform(0.2, 0.8))


class Sharer(Reader):
    """Opens one of a few permalinks."""

    weight = 15
    quickest = READING_SECONDS
    texts: ClassVar[dict[Question, str]] = {}

    @task
    def open(self) -> None:
        """A text that others have seen."""
        seed = self.random.randrange(PERMALINKS)
        self.ask(Question(opening(random.Random(seed)), self.options.length, seed))  # noqa: S311

    def check(self, question: Question, reading: Reading) -> None:
        """It must be the same text every time."""
        if reading.ending != "complete" or self.options.service == "seed":  # whose texts are new each time
            return
        if self.texts.setdefault(question, reading.text) != reading.text:
            reading.fail("failed", "a permalink showed another text than before")


class Script(Reader):
    """Takes texts whole, one after the other."""

    weight = 10

    @task
    def post(self) -> None:
        """A text as JSON."""
        self.ask(self.question(), "post")

    def pause(self, last: Reading) -> float:
        """A script does not read."""
        return 0.0


class Crowd(Reader):
    """Comes when all others of the crowd come."""

    weight = 5

    @task
    def come(self) -> None:
        """A text, soon after the next full ten seconds of the clock."""
        next_crowd = CROWD_SECONDS - time.monotonic() % CROWD_SECONDS
        time.sleep(next_crowd + self.random.uniform(0, ARRIVAL_SECONDS))
        self.ask(self.question())


class Plan(LoadTestShape):
    """Locust's view of a shape: is asked once a second how many readers there should be."""

    abstract = True  # Locust would take it for the shape of every run

    def __init__(self, shape: shapes.Shape, journal: Journal, length: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shape, self._journal, self._length = shape, journal, length
        self._stage = next(shape)
        self._ends = 0.0

    def tick(self) -> tuple[int, float] | None:
        """Readers, and how many come or go a second: whoever does so at once, otherwise a third of them."""
        now = time.monotonic()
        if self._ends and now >= self._ends:
            keeps_up = self._journal.keeps_up(SETTLE_SECONDS, self._length)
            try:
                self._stage = self._shape.send(keeps_up)
            except StopIteration:
                return None
            self._ends = 0.0
        if not self._ends:
            self._journal.begin(self._stage)
            self._ends = now + self._stage.seconds
        readers = self._stage.readers
        return readers, shapes.MOST_READERS if self._stage.at_once else readers / 3


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: LocustArgumentParser) -> None:
    """Our own, which Locust's page shows, too."""
    group = parser.add_argument_group("Pokegen's readers")
    group.add_argument("--length", type=int, default=128, help="New tokens of a text.")
    group.add_argument(
        "--pause",
        choices=("none", "human"),
        default="none",
        help="Between texts: none (the default: every reader streams all the time), or as long as people read.",
    )
    group.add_argument("--service", choices=("pokegen", "seed"), default="pokegen", help="What answers.")
    group.add_argument(
        "--shape", choices=("ramp", "steady", "spike", "soak"), help="A plan instead of --users."
    )
    group.add_argument("--readers", type=int, default=16, help="Of the shape; of a ramp: to begin with.")
    group.add_argument("--levels", type=int, nargs="+", help="Of a ramp: these numbers of readers instead.")
    group.add_argument("--seconds", type=float, default=60, help="Of the shape; of a ramp: of each stage.")
    group.add_argument("--times", type=int, default=20, help="Of a spike: so many times the readers.")
    group.add_argument("--out", type=Path, help="A directory for readers.csv and stages.csv.")
    group.add_argument("--began", type=float, help="What readers.csv counts from, by the monotonic clock.")


@events.init.add_listener  # type: ignore[untyped-decorator]
def set_up(environment: Environment, **_: object) -> None:
    """Give the readers what they need, once the options are known."""
    options = environment.parsed_options
    if options is None:
        raise RuntimeError("this is a file for the locust command")
    Reader.options = options
    Reader.journal = Journal(options.out, time.monotonic() if options.began is None else options.began)
    if environment.host:
        Reader.server = Server(environment.host)
    if options.shape:
        plan = Plan(_shape(options), Reader.journal, options.length)
        plan.runner = environment.runner
        environment.shape_class = plan
    if options.shape == "spike":
        CasualReader.fixed_count = options.readers  # the others are the crowd


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def find_server(environment: Environment, **_: object) -> None:
    """The address may only have been given on Locust's page."""
    Reader.server = Server(environment.host or "")


def _shape(options: Namespace) -> shapes.Shape:
    if options.shape == "ramp" and options.levels:
        return shapes.levels(options.levels, options.seconds)
    if options.shape == "ramp":
        return shapes.ramp(options.readers, options.seconds)
    if options.shape == "spike":
        return shapes.spike(options.readers, options.times, options.seconds)
    return shapes.steady(options.shape, options.readers, options.seconds)

"""`python -m loadtest.share`: how much of the engine's own speed reaches the readers of the service.

The same requests, as many at once, are put to the engine in this process and to the running service, one after the
other and again. As the same seed gives the same text, both make the same tokens; every round has new seeds, for the
service keeps what has been asked for.
"""

import itertools
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import click

from loadtest.in_process import EngineHost, running_engine
from loadtest.over_http import ServiceHost
from loadtest.readers import Fault, Host, Request
from server.engine import EngineError
from server.settings import SHIPPED_CHECKPOINT
from server.weights import CheckpointError


def tokens_per_second(
    host: Host, readers: int, texts: int, length: int, first_seed: int
) -> tuple[int, float]:
    """Tokens made, and tokens a second, by so many readers who ask for so many texts each. Raises Fault."""
    seeds = itertools.count(first_seed)
    end = first_seed + readers * texts

    def read(_: int) -> int:
        made = 0
        while (seed := next(seeds)) < end:
            visit = host.visit(Request("Ash and Pikachu were", length, seed=seed))
            if visit.ending != "complete":
                raise Fault(f"a request was {visit.ending}: are there other readers?")
            made += visit.tokens
        return made

    began = time.monotonic()
    with ThreadPoolExecutor(readers) as pool:
        made = sum(pool.map(read, range(readers)))
    return made, made / (time.monotonic() - began)


@click.command(context_settings={"show_default": True})
@click.option(
    "--url",
    default="http://127.0.0.1:8080",
    help="The running service. Its POKEGEN_ADDRESS_AT_ONCE and POKEGEN_ADDRESS_RATE must be 0.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    default=SHIPPED_CHECKPOINT,
    help="What the service was started with.",
)
@click.option(
    "--readers",
    type=click.IntRange(1),
    default=64,
    help="At once: at most the service's POKEGEN_MAX_RUNNING.",
)
@click.option("--texts", type=click.IntRange(1), default=4, help="That each reader asks for in a round.")
@click.option("--length", type=click.IntRange(1), default=400, help="New tokens of a text, at most.")
@click.option("--rounds", type=click.IntRange(1), default=5, help="Of both; their medians are compared.")
def command(url: str, checkpoint: Path, readers: int, texts: int, length: int, rounds: int) -> None:
    """Compare the running service's tokens a second with those of its engine in this process."""
    try:
        with running_engine(checkpoint, readers, 0) as engine:
            hosts: dict[str, Host] = {"engine": EngineHost(engine), "service": ServiceHost(url)}
            speeds = _compare(hosts, readers, texts, length, rounds)
    except (CheckpointError, EngineError, Fault, ValueError) as error:
        raise click.ClickException(str(error)) from error
    service, own = (median(speeds[name]) for name in ("service", "engine"))
    click.echo(
        f"the service reaches {service / own:.1%} of the engine: {service:.0f} of {own:.0f} tokens/s (medians)"
    )


def _compare(
    hosts: Mapping[str, Host], readers: int, texts: int, length: int, rounds: int
) -> dict[str, list[float]]:
    """Tokens a second in each round, by host. Raises Fault where they are not asked or do not answer the same."""
    speeds: dict[str, list[float]] = {name: [] for name in hosts}
    first_seed = secrets.randbits(31)
    for number in range(rounds):
        made = set()
        for name, host in hosts.items():
            tokens, speed = tokens_per_second(
                host, readers, texts, length, first_seed + number * readers * texts
            )
            made.add(tokens)
            speeds[name].append(speed)
            click.echo(f"{name:8} {speed:8.0f} tokens/s, {tokens} tokens")
        if len(made) > 1:
            raise Fault("the two made different tokens: is it the same checkpoint?")
    return speeds


if __name__ == "__main__":
    command()

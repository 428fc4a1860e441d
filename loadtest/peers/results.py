"""What was found, engine by engine: medians over the rounds."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from loadtest.peers.engines import Event

Rates = dict[str, dict[str, float]]  # by sampling, then by number of sequences


@dataclass
class Result:
    """One engine. Medians over the rounds, but of memory, of which it is the most.

    decode: tokens/s of all sequences together; spread: the least and the most. prefill: tokens/s of prompts that are
    read at once, the best number of them. load_s: seconds to load the model, for Pokegen to its first token.
    rss_mb: MiB resident with the most sequences, each of 256 tokens; None where that took too long.
    """

    name: str
    version: str
    decode: Rates = field(default_factory=dict)
    spread: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    prefill: float | None = None
    load_s: float | None = None
    rss_mb: float | None = None


@dataclass
class Missing:
    """An engine that was not measured, and why."""

    name: str
    why: str


@dataclass
class Comparison:
    """All of them.

    command: what measured them. machine: what on, in words. ceilings: the decode rates in tokens/s that the machine
    allows an int8 engine at most, by number of sequences.
    """

    command: str
    date: str
    machine: str
    results: list[Result]
    missing: list[Missing]
    ceilings: dict[str, float]


def summarise(name: str, version: str, events: Iterable[Event]) -> Result:
    """One engine's result from everything it said."""
    result = Result(name, version)
    rates: dict[tuple[str, str], list[float]] = {}
    prefills: dict[int, list[float]] = {}
    loads: list[float] = []
    for event in events:
        if event["event"] == "decode":
            rates.setdefault((event["sampling"], str(event["sequences"])), []).append(event["tokens_per_s"])
            prefills.setdefault(event["sequences"], []).append(event["prefill"])
        elif event["event"] == "loaded":
            loads.append(event["seconds"])
        elif event["event"] == "memory":
            result.rss_mb = max(result.rss_mb or 0, event["rss_mb"])
    for (sampling, n), values in rates.items():
        result.decode.setdefault(sampling, {})[n] = median(values)
        result.spread.setdefault(sampling, {})[n] = (min(values), max(values))
    result.prefill = max(map(median, prefills.values()), default=None)
    result.load_s = median(loads) if loads else None
    return result


def write(comparison: Comparison, file: Path) -> None:
    """As JSON."""
    file.write_text(json.dumps(asdict(comparison), indent=2) + "\n", encoding="utf-8")


def read(file: Path) -> Comparison:
    """What `write` wrote."""
    fields = json.loads(file.read_text(encoding="utf-8"))
    fields["results"] = [Result(**each) for each in fields["results"]]
    fields["missing"] = [Missing(**each) for each in fields["missing"]]
    return Comparison(**fields)

"""Server-sent events, read by the rules of the HTML standard (section 9.2.6) as a browser reads them."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class Event(NamedTuple):
    name: str
    data: Any  # what its JSON says


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """The events in these lines (without their ends); comments are skipped."""
    name = "message"
    data: list[str] = []
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Event(name, json.loads("\n".join(data)))
            name, data = "message", []
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)


def texts(events: Iterable[Event]) -> dict[int, str]:
    """The pieces of each sample, joined."""
    joined: dict[int, str] = {}
    for event in events:
        if event.name == "message":
            sample = event.data.get("sample", 0)
            joined[sample] = joined.get(sample, "") + event.data["text"]
    return joined

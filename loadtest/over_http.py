"""Readers of a running service."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.readers import LOST_AFTER, STAYS, Conduct, Fault, Request, Visit, resident_mb


class ServiceHost:
    """A `Host`: the service at `url`, such as http://127.0.0.1:8080.

    pid: that of uWSGI's master, without which nothing is known of the service's memory.
    """

    def __init__(self, url: str, pid: int | None = None) -> None:
        address = urlsplit(url)
        if address.scheme != "http" or not address.hostname:
            raise ValueError(f"the address must be http://HOST:PORT, not {url}")
        self._connect: Callable[[float], HTTPConnection] = lambda timeout: HTTPConnection(
            address.hostname or "", address.port, timeout=timeout
        )
        self._pid = pid

    def visit(self, request: Request, conduct: Conduct = STAYS) -> Visit:
        """As in `Host`, over a connection of its own."""
        fields = {name: value for name, value in asdict(request).items() if value is not None}
        body = json.dumps(fields | {"include_prefix": False, "whole_sentences": False})
        connection = self._connect(min(conduct.patience, LOST_AFTER))
        try:
            connection.request("POST", "/generate", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        except TimeoutError:
            if conduct.patience > LOST_AFTER:
                raise Fault(f"no answer after {LOST_AFTER:.0f} s") from None
            return Visit("left")
        except (OSError, HTTPException, ValueError) as error:
            raise Fault(f"no answer: {error!r}") from error
        finally:
            connection.close()
        if response.status == 503 and "busy" in answer["detail"]:
            return Visit("refused")
        if response.status in (503, 504):  # the service's own time was over, or nginx's
            return Visit("deadline")
        if response.status != 200:
            raise Fault(f"status {response.status}: {answer['title']}")
        if answer["seed"] != request.seed or len(answer["samples"]) != request.nsamples:
            raise Fault("the answer is to another question")
        texts = tuple(sample["text"] for sample in answer["samples"])
        return Visit("complete", texts, answer["usage"]["completion_tokens"])

    def resident_mb(self) -> float:
        """As in `Host`."""
        if self._pid is None:
            return math.nan
        return math.fsum(resident_mb(pid) for pid in (self._pid, *_children(self._pid)))

    def at_rest(self) -> list[str]:
        """As in `Host`: it still answers."""
        ending = self.visit(Request("Ash", 1)).ending
        return [] if ending == "complete" else [f"the service at rest answers {ending}"]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

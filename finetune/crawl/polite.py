"""A polite HTTP client: requests are spaced, robots.txt is read, and a server in trouble is given time."""

import math
import time
from collections.abc import Callable
from http import HTTPStatus
from importlib.metadata import version
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

AGENT = "pokegen-crawl"  # what robots.txt may call us
LONGEST_PAUSE = 600.0  # seconds; a server that asks for more is not waited for

TEMPORARY_STATUSES = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
# MediaWiki answers 200 to these and names them in a header: https://www.mediawiki.org/wiki/API:Errors_and_warnings
TEMPORARY_API_ERRORS = ("maxlag", "ratelimited", "readonly", "internal_api_error_")


class PoliteSession(requests.Session):
    """A requests session that waits between requests and asks again when the server has a temporary problem.

    contact   how the site's owner reaches whoever runs this; part of the User-Agent
    delay     seconds between an answer and the next request
    retries   how often a request is sent again; the pause before doubles from `pause` seconds, or is what the
              server's Retry-After asks for if that is longer
    say       told about every such pause, in one line

    `get` and its kin raise OSError when the problem stays, when the server asks for a pause longer than
    LONGEST_PAUSE, and for a redirect, because the robots.txt of another place was not read.
    """

    def __init__(
        self, contact: str, *, delay: float, retries: int, pause: float, say: Callable[[str], None]
    ) -> None:
        super().__init__()
        self.headers["User-Agent"] = f"{AGENT}/{version('pokegen')} ({contact}) {self.headers['User-Agent']}"
        self.delay = delay
        self._retries = retries
        self._pause = pause
        self._say = say
        self._answered = -math.inf  # time.monotonic()

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # noqa: ANN401
        """What requests calls for every request that goes over the wire."""
        host = urlsplit(str(request.url)).netloc
        options["allow_redirects"] = False
        for attempt in range(self._retries + 1):
            time.sleep(max(0.0, self._answered + self.delay - time.monotonic()))
            asked_pause = 0.0
            try:
                response = super().send(request, **options)
            except (
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ) as error:
                problem = f"no answer ({type(error).__name__})"
            else:
                if response.is_redirect:
                    raise OSError(
                        f"{request.url} redirects to {response.headers['Location']}: name that place with --site"
                    )
                if not _is_temporary(response):
                    return response
                problem = (
                    response.headers.get("MediaWiki-API-Error") or f"{response.status_code} {response.reason}"
                )
                asked_pause = _retry_after(response)
            finally:
                self._answered = time.monotonic()
            if asked_pause > LONGEST_PAUSE:
                raise OSError(f"{host}: {problem}, and it asks to wait {asked_pause:,.0f} s: come back then")
            if attempt < self._retries:
                pause = max(asked_pause, self._pause * 2**attempt)
                self._say(f"{host}: {problem}; asking again in {pause:g} s")
                time.sleep(pause)
        raise OSError(f"{host}: {problem}, {self._retries + 1} times in a row: try again later")


def read_robots(session: PoliteSession, url: str) -> RobotFileParser:
    """The rules of the site that `url` belongs to; its Crawl-delay becomes the session's delay if it is longer.

    As urllib.robotparser has it, 401 and 403 forbid everything, and any other 4xx allows everything. Raises OSError
    when the server does not say, because then RFC 9309 forbids everything.
    """
    response = session.get(urljoin(url, "/robots.txt"), timeout=60)
    robots = RobotFileParser()
    if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        robots.parse(["User-agent: *", "Disallow: /"])
    else:
        robots.parse(response.content.decode("utf-8", "replace").splitlines() if response.ok else [])
    session.delay = max(session.delay, float(robots.crawl_delay(AGENT) or 0))
    return robots


def _is_temporary(response: requests.Response) -> bool:
    api_error = response.headers.get("MediaWiki-API-Error", "")
    return response.status_code in TEMPORARY_STATUSES or api_error.startswith(TEMPORARY_API_ERRORS)


def _retry_after(response: requests.Response) -> float:
    """Seconds that the server asks to wait, whether it gives them as a number or as a date; 0 if it doesn't."""
    try:
        return Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    except InvalidHeader:
        return 0.0

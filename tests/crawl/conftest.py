"""One wiki behind one proxy for all the crawler's tests."""

from collections.abc import Iterator

import pytest

from tests.crawl.articles import AWKWARD_PAGES, TEMPLATES, Episode, corpus, episode_pages
from tests.crawl.front import Front, front
from tests.crawl.mediawiki import mediawiki


@pytest.fixture(scope="session")
def episodes() -> list[Episode]:
    return corpus(30)


@pytest.fixture(scope="session")
def running(episodes: list[Episode], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("mediawiki")
    pages = {**TEMPLATES, **episode_pages(episodes), **AWKWARD_PAGES}
    with front() as proxy, mediawiki(folder, proxy.url, pages) as proxy.backend:
        yield proxy


@pytest.fixture
def wiki(running: Front) -> Front:
    """The wiki as a reader reaches it, untroubled and with nothing seen yet."""
    running.reset()
    return running

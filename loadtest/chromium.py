"""The browser of the tests, of the page's measurements and of its pictures: the system's, never one of Playwright's."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. FileNotFoundError where none is installed."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if not executable:
        raise FileNotFoundError("Chromium is missing: scripts/install-system test installs it")
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []  # the sandbox needs to be somebody else
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=as_root)
        try:
            yield browser
        finally:
            browser.close()

"""A real MediaWiki (Debian's packages) over SQLite, in a folder of its own, served by PHP's built-in server."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

import requests

from tests.service.stack import free_ports, wait_until

CODE = Path("/usr/share/mediawiki")
RIGHTS = {
    "wgRightsText": "Creative Commons Attribution-NonCommercial-ShareAlike 2.5",
    "wgRightsUrl": "https://creativecommons.org/licenses/by-nc-sa/2.5/",
}


@contextmanager
def mediawiki(folder: Path, public_url: str, pages: Mapping[str, str]) -> Iterator[str]:
    """A running wiki with these pages (title -> wikitext); gives its own URL.

    public_url is what the wiki takes for its address, as a wiki behind a proxy does. Raises FileNotFoundError where
    MediaWiki is not installed.
    """
    if not (CODE / "api.php").exists() or not shutil.which("php"):
        raise FileNotFoundError("the crawler's tests need MediaWiki: run scripts/install-system test")
    _install(folder, public_url)
    _import(folder, pages)
    [port] = free_ports(1)
    root = folder / "root"
    root.mkdir()
    (root / "w").symlink_to(CODE)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            ["php", "-S", f"127.0.0.1:{port}", "-t", root],
            env=_environment(folder),
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url), within=60, what="MediaWiki to answer")
        yield url
    finally:
        server.terminate()
        server.wait(timeout=10)


def _install(folder: Path, public_url: str) -> None:
    _maintain(
        folder,
        "install.php",
        *("--dbtype", "sqlite", "--dbpath", folder / "database", "--confpath", folder),
        *("--server", public_url, "--scriptpath", "/w"),
        *("--pass", "of-no-use-to-anybody", "Testopedia", "Admin"),
        configured=False,
    )
    with (folder / "LocalSettings.php").open("a") as settings:
        settings.write('$wgArticlePath = "/wiki/$1";\n')
        settings.write(f'$wgCacheDirectory = "{folder}/cache";\n')
        settings.writelines(f'${name} = "{value}";\n' for name, value in RIGHTS.items())


def _import(folder: Path, pages: Mapping[str, str]) -> None:
    """Through MediaWiki's own importer: https://www.mediawiki.org/wiki/Help:Export#Export_format."""
    dump = "".join(
        f"<page><title>{escape(title)}</title><revision><model>wikitext</model><format>text/x-wiki</format>"
        f'<text xml:space="preserve">{escape(text)}</text></revision></page>\n'
        for title, text in pages.items()
    )
    file = folder / "pages.xml"
    file.write_text(f'<mediawiki version="0.11" xml:lang="en">\n{dump}</mediawiki>\n', encoding="utf-8")
    _maintain(folder, "importDump.php", "--no-updates", file)


def _maintain(folder: Path, script: str, *arguments: str | Path, configured: bool = True) -> None:
    done = subprocess.run(
        ["php", CODE / "maintenance" / script, *arguments],
        env=_environment(folder) if configured else None,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "MW_CONFIG_FILE": str(folder / "LocalSettings.php")}


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/w/api.php?action=query&format=json", timeout=60).ok
    except requests.ConnectionError:
        return False

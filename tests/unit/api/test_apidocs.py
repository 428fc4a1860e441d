"""/apidocs/: Swagger UI, from this machine alone."""

import re

import pytest
from flask.testing import FlaskClient

from tests.unit.api.test_refusals import problem


def test_everything_that_the_page_refers_to_is_there(client: FlaskClient) -> None:
    page = client.get("/apidocs/")
    assert (page.status_code, page.content_type) == (200, "text/html; charset=utf-8")
    addresses = re.findall(r'(?:href|src)="([^"]*)"', page.text)
    types = {name: client.get(f"/apidocs/{name}").content_type for name in addresses if "/" not in name}
    assert types == {
        "swagger-ui.css": "text/css; charset=utf-8",
        "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
        "start.js": "text/javascript; charset=utf-8",
    }
    assert set(addresses) - set(types) == {
        "../favicon.svg",
        "../openapi.json",
    }  # the site's, and the document


def test_the_page_asks_this_service_alone_and_holds_no_script(client: FlaskClient) -> None:
    page = client.get("/apidocs/")
    assert not re.search(r"https?:|<style|\sstyle=|\son\w+=|<script>", page.text)
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "validatorUrl: null" in client.get("/apidocs/start.js").text


@pytest.mark.parametrize("name", ["", "swagger-ui-bundle.js"])
def test_a_file_is_sent_again_only_when_it_changed(client: FlaskClient, name: str) -> None:
    first = client.get(f"/apidocs/{name}")
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get(f"/apidocs/{name}", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304


def test_without_its_slash_it_is_found_too(client: FlaskClient) -> None:
    answer = client.get("/apidocs")
    assert (answer.status_code, answer.headers["Location"]) == (308, "apidocs/")


@pytest.mark.parametrize(
    "name", ["__init__.py", "index.html", "../page.py", "%2e%2e/page.py", "x/start.js", "swagger-ui.css/"]
)
def test_no_other_file_is(client: FlaskClient, name: str) -> None:
    problem(client.get(f"/apidocs/{name}"), 404)

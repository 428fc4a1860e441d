"""At `/` live the site and the older services' clients; and cross-origin requests: through real nginx and uWSGI."""

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.root import AT_ROOT, BROWSER, JQUERY, answered_by
from tests.service.stack import ROOT, Stack, at_rest, running, wait_until
from tests.service.test_nginx import assert_problem

FAN, LOCAL = {"Origin": "https://fan.example"}, {"Origin": "http://[::1]:3000"}
SITE = "text/html; charset=utf-8"


@pytest.fixture(scope="module")
def stack(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that the pages of two other sites may ask."""
    origins = f"{LOCAL['Origin']},{FAN['Origin']}"
    variables = environment | {"POKEGEN_CORS_ORIGINS": origins, "POKEGEN_REQUEST_TIMEOUT": "60"}
    with running(Stack(tmp_path_factory.mktemp("compat") / "log", variables)) as stack:
        yield stack


@pytest.mark.parametrize(("address", "accept", "who"), AT_ROOT)
def test_at_the_root_is_the_site_but_for_older_clients(
    stack: Stack, address: str, accept: dict[str, str], who: str
) -> None:
    lines = [f"GET {address} HTTP/1.1", "Host: a", *(f"{name}: {value}" for name, value in accept.items())]
    status, _ = stack.raw("\r\n".join([*lines, "\r\n"]).encode())  # as it stands: requests would decode names
    assert answered_by(status) == who


def test_the_site_may_be_kept_but_is_asked_for(stack: Stack) -> None:
    answer = stack.get("/?prefix=Ash&seed=7")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, SITE)
    assert answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("path", ["/generate", "/generate?length=1", "/?sample=Ash", "/text-generate"])
def test_no_text_is_written_for_head(stack: Stack, path: str) -> None:
    answer = stack.request("HEAD", path, headers=BROWSER)
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "OPTIONS", "POST"}
    assert stack.request("HEAD", "/", headers=BROWSER).status_code == 200  # the site


@pytest.mark.parametrize("accept", [BROWSER, {"Accept": "*/*"}, JQUERY])
def test_pkm_ep_generator(stack: Stack, accept: dict[str, str]) -> None:
    answer = stack.get("/?sample=Pok%C3%A9mon", headers=accept)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json()["sample_text"].startswith("Pokémon")


@pytest.mark.parametrize("accept", [{"Accept": "*/*"}, JQUERY, {"Accept": "application/json"}])
def test_gpt_2_cloud_run(stack: Stack, accept: dict[str, str]) -> None:
    fields = "/?prefix=Ash&length=2&temperature=1.0&include_prefix=False"
    answer = stack.get(fields, headers=accept)
    assert (answer.status_code, list(answer.json())) == (200, ["text"])
    form = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
    posted = stack.post("/", b'{"prefix": "Ash", "length": "2"}', headers=accept | form)
    assert posted.status_code == 200
    assert posted.json()["text"].startswith("Ash")


def test_gpt_2_cloud_runs_errors_are_problem_documents(stack: Stack) -> None:
    for answer in (stack.get("/?length=0"), stack.post("/", b'{"length": 0}')):
        assert_problem(answer, 422)
        assert answer.json()["errors"][0]["field"] == "length"
    assert_problem(stack.post("/", b"length=5"), 400)


def test_opengpt2(stack: Stack) -> None:
    answer = stack.get("/text-generate?input_text=Ash")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert answer.text
    refused = stack.get("/text-generate?input_text=Ash&model_name=1558M")
    assert_problem(refused, 422)


# --- Cross-origin requests ---------------------------------------------------------------------------------------

ALLOWED = "Access-Control-Allow-Origin"
PREFLIGHT = FAN | {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type",
}


@pytest.mark.parametrize("path", ["/generate", "/", "/text-generate"])
def test_a_preflight_is_answered_through_nginx(stack: Stack, path: str) -> None:
    answer = stack.request("OPTIONS", path, headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers[ALLOWED] == FAN["Origin"]
    assert answer.headers["Access-Control-Allow-Headers"] == "content-type"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    stranger = stack.request("OPTIONS", path, headers=PREFLIGHT | {"Origin": "https://stranger.example"})
    assert ALLOWED not in stranger.headers


@pytest.mark.parametrize(
    "path", ["/generate?length=1", "/generate?length=0", "/?length=0", "/model", "/healthz"]
)
def test_answers_and_errors_may_be_read_by_the_listed_site_alone(stack: Stack, path: str) -> None:
    assert stack.get(path, headers=FAN).headers[ALLOWED] == FAN["Origin"]
    for other in ({}, {"Origin": "https://stranger.example"}):
        answer = stack.get(path, headers=other)
        assert ALLOWED not in answer.headers
        assert "Origin" in answer.headers["Vary"]


def test_what_nginx_refuses_by_itself_may_be_read_too(stack: Stack) -> None:
    json = {"Content-Type": "application/json"}
    listed = [(FAN, FAN["Origin"]), (LOCAL, LOCAL["Origin"])]
    both = f"{LOCAL['Origin']},{FAN['Origin']}"
    strangers = ["https://fan-example", "fan.example", both, f"x,{FAN['Origin']},|{FAN['Origin']}"]
    for origin, allowed in (*listed, *(({"Origin": stranger}, None) for stranger in strangers), ({}, None)):
        for answer in (
            stack.post("/generate", b" " * 70_000, headers=json | origin),
            stack.get("/none", headers=origin),
        ):
            assert answer.headers.get(ALLOWED) == allowed
            assert ("Retry-After" in answer.headers.get("Access-Control-Expose-Headers", "")) == bool(allowed)
            assert answer.headers["Vary"] == "Origin"
        assert ALLOWED not in stack.get("/", headers=origin).headers  # the site is nobody else's


def test_open_to_all_is_open_to_every_script(new_stack: Callable[..., Stack]) -> None:
    with running(new_stack(POKEGEN_CORS_ORIGINS="*")) as stack:
        element = {"Accept": "*/*", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "script"}
        script = stack.get("/?callback=show&sample=Ash&_=1700000000000", headers=element)
        assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert script.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert script.text.startswith('show({"sample_text": "Ash')
        assert stack.get("/healthz", headers=FAN).headers[ALLOWED] == "*"
        for origin in (FAN, {}):
            refused = stack.get("/none", headers=origin)
            assert refused.headers[ALLOWED] == "*"
            assert "Vary" not in refused.headers


@pytest.mark.parametrize("origins", [" ", '"; return 200 "', "https://fan.example $host", "(.*)"])
def test_nginx_by_itself_takes_origins_only(tmp_path: Path, origins: str) -> None:
    bare = {"NGINX_LISTEN": "8080", "NGINX_UPSTREAM": "server:3031", "NGINX_RUN": str(tmp_path)}
    ended = subprocess.run(
        [ROOT / "nginx/start"],
        env={"PATH": os.environ["PATH"], **bare, "POKEGEN_CORS_ORIGINS": origins},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert "POKEGEN_CORS_ORIGINS" in line


# --- What else is behind nginx -----------------------------------------------------------------------------------


def test_swagger_ui_is_served(stack: Stack) -> None:
    assert stack.get("/apidocs").url.endswith("/apidocs/")  # it was sent there
    page = stack.get("/apidocs/")
    assert page.status_code == 200
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    script = stack.get("/apidocs/swagger-ui-bundle.js")
    assert script.headers["Content-Encoding"] == "gzip"
    assert "SwaggerUIBundle" in script.text
    again = stack.get("/apidocs/swagger-ui-bundle.js", headers={"If-None-Match": script.headers["ETag"]})
    assert again.status_code == 304
    assert_problem(stack.get("/apidocs/nothing"), 404)


def test_a_browser_without_javascript_gets_a_page(stack: Stack) -> None:
    page = stack.get("/generate?prefix=Ash&length=2", headers=BROWSER)
    assert (page.status_code, page.headers["Content-Type"]) == (200, SITE)
    assert "<h1>Ash</h1>" in page.text
    assert "Accept" in page.headers["Vary"]
    refused = stack.get("/generate?length=0", headers=BROWSER)
    assert (refused.status_code, refused.headers["Content-Type"]) == (422, SITE)


def test_a_busy_page_tries_again_by_itself(new_stack: Callable[..., Stack]) -> None:
    one = {"POKEGEN_MAX_RUNNING": "1", "POKEGEN_MAX_WAITING": "0", "POKEGEN_MAX_SAMPLES": "1"}
    with running(new_stack(**one)) as stack, ThreadPoolExecutor() as pool:
        running_one = pool.submit(stack.get, "/generate?length=900&temperature=10")
        wait_until(lambda: not at_rest(stack.http), within=20, what="the one place to be taken")
        busy = stack.get("/generate?length=1", headers=BROWSER)
        assert (busy.status_code, busy.headers["Content-Type"]) == (503, SITE)
        assert busy.headers["Refresh"] == busy.headers["Retry-After"]
        assert running_one.result().status_code == 200


def test_the_page_of_a_text_that_takes_too_long_does_not_ask_again(new_stack: Callable[..., Stack]) -> None:
    with running(new_stack(POKEGEN_REQUEST_TIMEOUT="0.1")) as stack:
        slow = stack.get("/generate?length=1000&temperature=10", headers=BROWSER)
        assert (slow.status_code, slow.headers["Content-Type"]) == (503, SITE)
        assert "not done within 0.1 s" in slow.text
        assert "Refresh" not in slow.headers

"""What is not for readers stays where it is: the operator's figures, and every file beside the site's."""

import pytest

from tests.enemies.wire import answers, exchange, head
from tests.service.stack import ROOT, Stack, direct_session

# Each is meant to be /metrics for somebody on the way: nginx, uWSGI or the application.
METRICS = [
    b"/metrics",
    b"//metrics",
    b"///metrics",
    b"/./metrics",
    b"/metrics/",
    b"/metrics//",
    b"/metrics?",
    b"/metrics?name[]=x",
    b"/metrics#x",
    b"/metrics;x=y",
    b"/;/metrics",
    b"/Metrics",
    b"/METRICS",
    b"/%6detrics",
    b"/%6D%65%74%72%69%63%73",
    b"/%256detrics",
    b"/%2fmetrics",
    b"/%2e/metrics",
    b"/%2e%2e/metrics",
    b"/metrics%00",
    b"/metrics%20",
    b"/metrics%09",
    b"/metrics%2f",
    b"/metrics%3f",
    b"/metrics.",
    b"\\metrics",
    b"/\\metrics",
    b"/%5cmetrics",
    b"/v1/../metrics",
    b"/v1/%2e%2e/metrics",
    b"/v1/..%2fmetrics",
    b"/v1/%2e%2e%2fmetrics",
    b"/v1/%252e%252e/metrics",
    b"/v1/..;/metrics",
    b"/v1/..\\metrics",
    b"/v1/..%5cmetrics",
    b"/v1/.%2e/metrics",
    b"/v1/%c0%ae%c0%ae/metrics",
    b"/v1//metrics",
    b"/v1/metrics",
    b"/v1/models/../../metrics",
    b"/v1/models/..%2f..%2fmetrics",
    b"/apidocs/../metrics",
    b"/apidocs/%2e%2e/metrics",
    b"/apidocs/..%2fmetrics",
    b"/apidocs/metrics",
    b"/generate/../metrics",
    b"/generate%2f..%2fmetrics",
    b"/generate/metrics",
    b"/index.html/../metrics",
    b"http://x/metrics",
    b"http://127.0.0.1:5000/metrics",
    b"http://x//metrics",
    b"http://x/v1/../metrics",
    b"HTTP://x/metrics",
    b"/healthz%0d%0a/metrics",
    b"/server/../metrics",
    b"/problem/../metrics",
]
# What the server's disk holds, from the site's folder out.
FILES = [
    b"/../nginx.conf",
    b"/../../etc/passwd",
    b"/../../../../../../etc/passwd",
    b"/%2e%2e/nginx.conf",
    b"/%2e%2e%2fnginx.conf",
    b"/..%2fnginx.conf",
    b"/.%2e/nginx.conf",
    b"/%252e%252e/nginx.conf",
    b"/%252e%252e%252fnginx.conf",
    b"/..%252fnginx.conf",
    b"/..%c0%afnginx.conf",
    b"/%c0%ae%c0%ae/nginx.conf",
    b"/%uff0e%uff0e/nginx.conf",
    b"/..\\nginx.conf",
    b"/..%5cnginx.conf",
    b"/..%255cnginx.conf",
    b"/....//nginx.conf",
    b"/.../nginx.conf",
    b"/..;/nginx.conf",
    b"/js/../../nginx.conf",
    b"/js..%2f..%2fnginx.conf",
    b"/js../nginx.conf",
    b"/js/..%2f..%2fnginx.conf",
    b"/js//..//..//nginx.conf",
    b"/apidocs/../../nginx.conf",
    b"/apidocs/..%2f__init__.py",
    b"/apidocs/%2e%2e%2f__init__.py",
    b"/apidocs/..%252f__init__.py",
    b"/apidocs/__init__.py",
    b"/apidocs/..%5c__init__.py",
    b"/apidocs//etc/passwd",
    b"/apidocs/%2fetc%2fpasswd",
    b"/apidocs../server/app.py",
    b"/model/../../checkpoint/run1/card.json",
    b"/model/curve.svg/../../README.md",
    b"/v1/models/..%2f..%2f..%2fetc%2fpasswd",
    b"/v1/models/%2fetc%2fpasswd",
    b"/nginx.conf",
    b"/start",
    b"/nginx/nginx.conf",
    b"/.git/config",
    b"/.env",
    b"/.htaccess",
    b"/index.html%00",
    b"/index.html%00.txt",
    b"/index.html/../../nginx.conf",
    b"/index.html.bak",
    b"/index.html~",
    b"/robots.txt/x.html",
    b"/run/keys.toml",
    b"/etc/passwd",
    b"//etc/passwd",
    b"file:///etc/passwd",
    b"http://x/../../etc/passwd",
    b"/c:/windows/win.ini",
    b"/problem",
    b"/openai-error",
]


@pytest.fixture(scope="module")
def site() -> set[bytes]:
    return {file.read_bytes() for file in (ROOT / "nginx/site").rglob("*") if file.is_file()}


@pytest.mark.parametrize("target", METRICS, ids=ascii)
def test_the_operators_figures_are_not_to_be_had(stack: Stack, target: bytes, site: set[bytes]) -> None:
    is_kept_back(stack, target, site)


@pytest.mark.parametrize("target", FILES, ids=ascii)
def test_no_other_file_is_to_be_had(stack: Stack, target: bytes, site: set[bytes]) -> None:
    is_kept_back(stack, target, site)


def is_kept_back(stack: Stack, target: bytes, site: set[bytes]) -> None:
    for method in (b"GET", b"POST"):
        fields = [b"Content-Length: 0"] if method == b"POST" else []
        [answer] = answers(exchange(stack.port, head(method, target, b"Connection: close", *fields)))
        assert answer.status in (400, 404, 405, 415) or answer.body in site, answer
        assert b"pokegen_samples" not in answer.body
        assert b"root:" not in answer.body


def test_the_figures_are_on_the_plain_port_of_this_machine_alone(stack: Stack) -> None:
    with direct_session() as session:
        assert "pokegen_samples_running" in session.get(f"{stack.http}/metrics", timeout=20).text
    assert stack.http.startswith("http://127.0.0.1:")

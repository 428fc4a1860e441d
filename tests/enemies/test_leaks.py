"""What answers tell of the inside: nothing. Templates, tracebacks, paths, versions, other people's requests."""

import re

import pytest

from tests.enemies.places import ALONE, PLACES, Place
from tests.enemies.wire import Answer, ask, head
from tests.service.stack import ROOT, Stack

LEAKS = re.compile(
    rb"Traceback|File \"|line \d+, in |\.py\b|site-packages|object at 0x"  # Python's
    rb"|/(?:usr|srv|home|opt|tmp|var|etc|proc)/|127\.0\.0\.1:|uwsgi\.sock"  # the machine's
    rb"|(?:nginx|uwsgi|werkzeug|flask|gunicorn|python|pydantic)[/ ]v?\d|errors\.pydantic\.dev"  # versions
    rb"|1695203",  # 1301*1303, which nobody but a template computes
    re.IGNORECASE,
)


def assert_tells_nothing(answer: Answer) -> None:
    """Nothing of the above; but not in files, which are the same for everybody."""
    heads = bytes(answer.headers)
    assert not LEAKS.search(heads), heads
    assert str(ROOT).encode() not in heads + answer.body
    assert answer.headers["Server"] == "nginx"
    assert not {"X-Powered-By", "Via", "Set-Cookie"} & set(answer.headers)
    if answer.status >= 400:
        assert not LEAKS.search(answer.body), answer.body


@pytest.mark.parametrize("place", PLACES, ids=[place.name for place in PLACES])
def test_no_answer_tells_of_the_inside(stack: Stack, place: Place) -> None:
    answer = ask(stack, place.request, place.request.split()[0].decode())
    assert answer.status == place.status
    assert_tells_nothing(answer)


@pytest.mark.parametrize("place", ALONE, ids=[place.name for place in ALONE])
def test_nor_does_nginx_without_the_application(nginx_alone: Stack, place: Place) -> None:
    answer = ask(nginx_alone, place.request)
    assert answer.status == place.status
    assert_tells_nothing(answer)


TEMPLATES = [
    "{{1301*1303}}",
    "${1301*1303}",
    "#{1301*1303}",
    "<%= 1301*1303 %>",
    "{1301*1303}",
    "%{1301*1303}",
    "[[${1301*1303}]]",
    "{{config}}",
]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ("/generate?length={}", []),
        ("/generate?length={}", [b"Accept: text/html"]),
        ("/generate?{}=1", []),
        ("/?sample=a&callback={}", []),
        ("/text-generate?model_name={}", []),
        ("/v1/models/{}", []),
        ("/{}", []),
        ("/apidocs/{}", []),
    ],
    ids=["field", "page", "name", "callback", "model_name", "model", "path", "apidocs"],
)
def test_no_error_computes_what_it_repeats(
    stack: Stack, target: str, fields: list[bytes], template: str
) -> None:
    asked = target.replace("{}", "".join(f"%{byte:02x}" for byte in template.encode()))
    answer = ask(stack, head(b"GET", asked.encode(), b"Connection: close", *fields))
    assert 400 <= answer.status < 500
    assert_tells_nothing(answer)
    assert b"Served" not in answer.body
    assert b"SECRET" not in answer.body

"""Security headers: on every answer, of whatever status, of nginx and of the application alike."""

import pytest

from tests.enemies.places import ALONE, PLACES, Place
from tests.enemies.wire import Answer, ask
from tests.service.stack import Stack

# The OWASP Secure Headers Project's proposal (https://owasp.org/www-project-secure-headers/ci/headers_add.json). Left
# out of it: Strict-Transport-Security, which only TLS may send (RFC 6797, section 7.2) and who ends TLS in front does;
# Clear-Site-Data, for who logs out; upgrade-insecure-requests, which would break the page where there is no TLS; and
# no-store on files, which are the same for everybody.
VALUES = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Permitted-Cross-Domain-Policies": "none",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Of its list of features, those that ask a person for something or reach a device.
FEATURES = {
    *(
        "accelerometer",
        "camera",
        "display-capture",
        "geolocation",
        "gyroscope",
        "hid",
        "magnetometer",
        "microphone",
    ),
    *("midi", "payment", "screen-wake-lock", "serial", "usb", "xr-spatial-tracking"),
}


def assert_safe(answer: Answer) -> None:
    for name, value in VALUES.items():
        assert answer.headers.get_all(name) == [value]
    [features] = answer.headers.get_all("Permissions-Policy", [])
    assert {feature.strip() for feature in features.split(",")} == {f"{feature}=()" for feature in FEATURES}
    [policy] = answer.headers.get_all("Content-Security-Policy", [])
    directives = {part.split()[0]: part.split()[1:] for part in policy.split(";")}
    assert directives["default-src"] in (["'self'"], ["'none'"])
    if "sandbox" not in directives:
        assert directives["frame-ancestors"] == directives["base-uri"] == ["'none'"]
        assert directives["form-action"] in (["'self'"], ["'none'"])
    for sources in directives.values():
        assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "http:", "https:"} & set(sources)
    if answer.status >= 400:
        assert answer.headers.get_all("Cache-Control") == ["no-store"]


@pytest.mark.parametrize("place", PLACES, ids=[place.name for place in PLACES])
def test_every_answer(stack: Stack, place: Place) -> None:
    assert_safe(ask(stack, place.request, place.request.split()[0].decode()))


@pytest.mark.parametrize("place", ALONE, ids=[place.name for place in ALONE])
def test_every_answer_of_nginx_without_the_application(nginx_alone: Stack, place: Place) -> None:
    assert_safe(ask(nginx_alone, place.request))


def test_every_status_of_the_documents_is_among_them(stack: Stack) -> None:
    """But 411, which is for the plain port, and those for which tests/service wait: 429, 503, 504."""
    documented = {
        int(status)
        for methods in stack.get("/openapi.json").json()["paths"].values()
        for operation in methods.values()
        for status in operation["responses"]
    }
    assert documented - {411, 429, 503, 504} <= {place.status for place in PLACES + ALONE}

"""/apidocs/ in a real browser: Swagger UI works under its strict policy, and asks this service alone."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.service.stack import Stack


def test_a_request_can_be_tried_out(service: Stack, open_page: Callable[..., Page]) -> None:
    page = open_page()
    complaints: list[str] = []  # a breach of the policy would be one
    asked: list[str] = []
    page.on("console", lambda said: complaints.append(said.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{service.url}/apidocs/")
    generate = page.locator("#operations-Episodes-generate")
    generate.locator(".opblock-summary-control").click()
    generate.get_by_role("button", name="Try it out").click()
    generate.locator("tr[data-param-name=length] input").fill("5")
    generate.get_by_role("button", name="Execute").click()
    answer = generate.locator(".live-responses-table")
    expect(answer.locator("tr.response .response-col_status")).to_contain_text("200")
    expect(answer).to_contain_text('"completion_tokens": 5')
    assert not complaints
    assert [url for url in asked if not url.startswith((f"{service.url}/", "data:"))] == []
    assert [url for url in asked if "/generate?" in url]

"""GET /model: the card of the model that is being served, as JSON or as a page; and the picture in it.

The files are read when the weights are: so the card is that of the weights in memory, even while another checkpoint is
being put in their place, a reload shows the new one, and a request costs no reading.
"""

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import ClassVar

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from markdown_it import MarkdownIt
from pydantic import ConfigDict

from server.api.page import HTML, JSON, skeleton
from server.api.problems import ProblemDocument, ProblemError
from server.serving import get_serving
from server.weights.card import CARD, CURVE, LARGEST, README, Card, read_card
from server.weights.files import mark, read_bytes, read_text

logger = logging.getLogger(__name__)

blueprint = APIBlueprint("card", __name__, abp_tags=[Tag(name="The model")])

SVG = "image/svg+xml"

# The picture is a file that others wrote. Opened by itself, it may draw, and do nothing else.
_PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

_FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\n.*?\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_ALIGNMENTS = {"text-align:left": "left", "text-align:center": "center", "text-align:right": "right"}


class CardAnswer(Card):
    """The card as JSON."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        openapi_extra={"content": {HTML: {"schema": {"type": "string"}}}}  # type: ignore[typeddict-unknown-key]
    )


@dataclass(frozen=True)
class Unavailable:
    """Why a form of the card can't be shown, as a problem document says it."""

    status: HTTPStatus
    detail: str


Forms = dict[str, bytes | Unavailable]  # by media type


def stamp(directory: Path) -> str:
    """Another one as soon as one of the card's files in `directory` comes, goes or is written to."""
    return " ".join(str(mark(directory / name)) for name in (CARD, README, CURVE))


def read_forms(directory: Path) -> Forms:
    """The card of the checkpoint in `directory`, in all its forms. Raises nothing, whatever the files hold."""
    return {
        JSON: _read(directory / CARD, lambda file: f"{read_card(file.parent).model_dump_json()}\n".encode()),
        HTML: _read(directory / README, lambda file: page(read_text(file, LARGEST)).encode()),
        SVG: _read(directory / CURVE, lambda file: read_bytes(file, LARGEST)),
    }


def _read(file: Path, make: Callable[[Path], bytes]) -> bytes | Unavailable:
    command = "finetune" if file.name == CURVE else "card"
    fix = f"`pokegen {command}` writes it; then reload the service."
    try:
        if not file.exists():
            return Unavailable(HTTPStatus.NOT_FOUND, f"The checkpoint has no {file.name}: {fix}")
        return make(file)
    except Exception as error:  # a model can be served whatever is wrong with its card
        logger.error("the model's card can't be shown: %s", error)
        return Unavailable(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            f"The checkpoint's {file.name} can't be read, and the log says why: {fix}",
        )


def page(readme: str) -> str:
    """The page that a model card in Markdown makes. HTML in it is shown as text, and its front matter is left out."""
    tokens = _MARKDOWN.parse(_FRONT_MATTER.sub("", readme.removeprefix("\ufeff"), count=1))
    title = "Model card"
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before and before.type == "heading_open" and before.tag == "h1":
            title = token.content
        if alignment := _ALIGNMENTS.get(str(token.attrGet("style"))):
            token.attrs = {"class": alignment}  # the page's policy allows no style within a tag
        for child in token.children or []:
            if child.type == "image" and child.attrGet("src") == CURVE:
                child.attrSet("src", f"model/{CURVE}")  # as seen from /model
    body = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    return skeleton(title, body, "card")


@blueprint.get(
    "/model",
    operation_id="model",
    summary="What model is this?",
    responses={
        HTTPStatus.OK: CardAnswer,
        HTTPStatus.NOT_FOUND: ProblemDocument,
        HTTPStatus.NOT_ACCEPTABLE: ProblemDocument,
        HTTPStatus.INTERNAL_SERVER_ERROR: ProblemDocument,
    },
)
def model() -> Response:
    """The model's card: data, licence, intended use, caveats, evaluation, samples. As `Accept` says, else as JSON."""
    accepted = request.accept_mimetypes
    form = accepted.best_match([JSON, HTML]) if accepted else JSON
    if form is None:
        raise ProblemError(
            HTTPStatus.NOT_ACCEPTABLE,
            f"The card is to be had as {JSON} and as {HTML}: let Accept have one of them.",
        )
    response = _respond(form)
    response.vary.add("Accept")
    return response


@blueprint.get(
    f"/model/{CURVE}",
    operation_id="modelCurve",
    summary="The training curve",
    responses={
        HTTPStatus.OK: {"content": {SVG: {"schema": {"type": "string"}}}},
        HTTPStatus.NOT_FOUND: ProblemDocument,
        HTTPStatus.INTERNAL_SERVER_ERROR: ProblemDocument,
    },
)
def curve() -> Response:
    """The picture in the card: loss in training and on held-out texts."""
    response = _respond(SVG)
    response.headers["Content-Security-Policy"] = _PICTURE_POLICY
    return response


def _respond(form: str) -> Response:
    body = get_serving().current.card_forms[form]
    if isinstance(body, Unavailable):
        raise ProblemError(body.status, body.detail)
    response = Response(body, mimetype=form, headers={"Cache-Control": "no-cache"})
    response.set_etag(hashlib.sha256(body).hexdigest()[:16])
    response.make_conditional(request)
    return response

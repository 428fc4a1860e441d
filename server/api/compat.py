"""For those who move over: three older services' addresses, fields, defaults and answers.

| service | asked | answers |
|---|---|---|
| ThiagoLira/pkm-ep-generator | GET /?sample=TEXT, as JSON or with `callback` as JSONP | {"sample_text": TEXT} |
| minimaxir/gpt-2-cloud-run | GET or POST / with prefix, length, ... | {"text": TEXT} |
| emmanuelraj7/opengpt2 | GET /text-generate?input_text=TEXT&model_name=NAME | TEXT |

Their clients get what they got, but for this: fields that a service did not have are refused by name, those of
/generate that it lacked among them (seed, nsamples, whole_sentences, stream: ask /generate for these); an empty prefix
gets POKEGEN_OPENING; a prefix is taken whole or refused, where gpt-2-cloud-run cut it at 500 characters; a length that
n_ctx has no room for is lowered, and a text may end before it; and errors are this service's problem documents.
"""

import json
from copy import copy
from http import HTTPStatus
from typing import Annotated, Any, Self

from flask import Flask, Response, current_app, request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import ConfigDict, Field, model_validator

from server.api.generate import write
from server.api.page import HTML, JSON
from server.api.problems import IN_BODY, IN_QUERY, field_problem, shortened
from server.api.schemas import Fields, GenerateQuery
from server.serving import get_serving
from server.settings import ALL_ORIGINS, Settings

blueprint = APIBlueprint("compat", __name__, abp_tags=[Tag(name="For those who move over")])

JAVASCRIPT, TEXT = "text/javascript", "text/plain"


def _as_at_generate(field: str, default: object) -> Any:  # noqa: ANN401 - it stands where the default stands
    """/generate's field with the older service's default."""
    info = copy(GenerateQuery.model_fields[field])
    info.default = default
    return info


class CloudRunFields(Fields):
    """gpt-2-cloud-run's, with its defaults. JSON may have numbers in quotes, as that service's own page sends them."""

    model_config = ConfigDict(
        openapi_extra={"example": {"prefix": "Ash and Pikachu were", "length": 40}}  # type: ignore[typeddict-unknown-key]
    )

    prefix: str = _as_at_generate("prefix", "")
    length: int = _as_at_generate("length", 1023)
    temperature: float = _as_at_generate("temperature", 0.7)
    top_k: int = _as_at_generate("top_k", 0)
    top_p: float = _as_at_generate("top_p", 0.0)
    truncate: Annotated[
        str,
        Field(description="End the text in front of the first appearance of this string; empty is nowhere."),
    ] = ""
    include_prefix: bool = _as_at_generate("include_prefix", True)


class RootQuery(CloudRunFields):
    """What / takes in a query: gpt-2-cloud-run's fields, or pkm-ep-generator's `sample`."""

    sample: Annotated[
        str | None,
        Field(description="pkm-ep-generator: the beginning of the episode; the answer is as there."),
    ] = None
    callback: Annotated[
        str | None,
        Field(
            max_length=128,
            pattern=r"^[A-Za-z_$][A-Za-z0-9_$]*(\.[A-Za-z_$][A-Za-z0-9_$]*)*$",
            description="pkm-ep-generator's JSONP: the function that the answer, a script, calls with the object.",
        ),
    ] = None
    moment: Annotated[
        str | None, Field(alias="_", description="What jQuery adds to a JSONP request; of no effect.")
    ] = None

    @model_validator(mode="after")
    def _are_of_one_service(self) -> Self:
        pkm = self.model_fields_set & {"sample", "callback"}
        others = self.model_fields_set & CloudRunFields.model_fields.keys()
        if pkm and others:
            raise field_problem(
                min(others), f"It is gpt-2-cloud-run's, and {min(pkm)} is pkm-ep-generator's: leave one out"
            )
        return self


class TextGenerateFields(Fields):
    """opengpt2's."""

    model_config = ConfigDict(
        openapi_extra={"example": {"input_text": "Ash and Pikachu were"}}  # type: ignore[typeddict-unknown-key]
    )

    input_text: Annotated[
        str,
        Field(
            description="What the text goes on from. Where it is empty, the service's own opening is taken.",
            json_schema_extra={"example": "Ash and Pikachu were"},
        ),
    ] = ""
    model_name: Annotated[str, Field(description="The served model's name, or nothing.")] = ""


def register(app: Flask) -> None:
    """Take what is posted to / of `app` as JSON whatever it says it is: gpt-2-cloud-run looked at the body alone.

    Its own page sends JSON as a form, and so does `curl --data`. To be called before well_formed's.
    """

    @app.before_request
    def is_json() -> None:
        if request.path == "/" and request.method == "POST":
            request.environ["CONTENT_TYPE"] = JSON


def is_asked_at_root() -> bool:
    """Whether this GET of / is meant for `root` and not for the site: as nginx.conf's $root_is_asked."""
    parts = request.query_string.decode("latin-1").split("&")
    fields = {part.partition("=")[0] for part in parts if "=" in part}
    if "sample" in fields:
        return True
    if "seed" in fields or "text/html" in request.headers.get("Accept", "").lower():
        return False
    return not fields.isdisjoint({"callback", *CloudRunFields.model_fields})


def _object(*members: str) -> dict[str, Any]:
    """The schema of an object of these members, all of them text."""
    return {
        "type": "object",
        "properties": {member: {"type": "string"} for member in members},
        "required": list(members),
        "additionalProperties": False,
    }


_STORY = "Ash and Pikachu were on the road to Maiden's Peak."
_TEXT = {"text": _STORY}
_SAMPLE_TEXT = {"sample_text": _STORY}
_WAY = {"generate": "/generate", "documentation": "/apidocs/", "openapi": "/openapi.json"}
_ROOT = {
    "content": {
        JSON: {
            "schema": {"oneOf": [_object(*answer) for answer in (_TEXT, _SAMPLE_TEXT, _WAY)]},
            "examples": {
                "gpt-2-cloud-run": {"value": _TEXT},
                "pkm-ep-generator": {"value": _SAMPLE_TEXT},
                "nothing asked": {"value": _WAY},
            },
        },
        JAVASCRIPT: {"schema": {"type": "string"}, "example": f"show({json.dumps(_SAMPLE_TEXT)});"},
        HTML: {"schema": {"type": "string", "description": "The site, from nginx."}},
    }
}
_CONTINUATION = {
    "content": {TEXT: {"schema": {"type": "string"}, "example": " on the road to Maiden's Peak."}}
}
_POSTED = {
    status: answer for status, answer in IN_BODY.items() if status != HTTPStatus.UNSUPPORTED_MEDIA_TYPE
}


@blueprint.get(
    "/",
    operation_id="generateAsElsewhere",
    summary="As gpt-2-cloud-run or pkm-ep-generator",
    responses=IN_QUERY | {HTTPStatus.OK: _ROOT},
)
def root(query: RootQuery) -> Response | dict[str, str]:
    """Write an episode as gpt-2-cloud-run (`prefix`, ...) or pkm-ep-generator (`sample`) did; without fields, the way.

    For browsers `/` is the site: nginx passes on what asks for `sample`, and what has another of these fields, has no
    `seed`, and does not accept text/html.
    """
    if not request.args:
        return _WAY
    if query.model_fields_set & {"sample", "callback"}:
        return _sample_text(query)
    return _text(query)


@blueprint.post(
    "/",
    operation_id="generateAsElsewhereFromBody",
    summary="As gpt-2-cloud-run",
    responses=_POSTED | {HTTPStatus.OK: {"content": {JSON: {"schema": _object("text"), "example": _TEXT}}}},
)
def root_from_body(body: CloudRunFields) -> Response:
    """Write an episode as gpt-2-cloud-run did; the fields are a JSON object, whatever Content-Type says."""
    return _text(body)


@blueprint.get(
    "/text-generate",
    operation_id="textGenerate",
    summary="As opengpt2",
    responses=IN_QUERY | {HTTPStatus.OK: _CONTINUATION},
)
def text_generate(query: TextGenerateFields) -> Response:
    """Go on from `input_text` as opengpt2 did. The answer is the new text alone."""
    return _continuation(query)


@blueprint.post(
    "/text-generate",
    operation_id="textGenerateFromBody",
    summary="As opengpt2",
    responses=IN_BODY | {HTTPStatus.OK: _CONTINUATION},
)
def text_generate_from_body(body: TextGenerateFields) -> Response:
    """Go on from `input_text` as opengpt2 did. The answer is the new text alone."""
    return _continuation(body)


def _text(fields: CloudRunFields) -> Response:
    asked = GenerateQuery(
        prefix=fields.prefix,
        length=fields.length,
        temperature=fields.temperature,
        top_k=fields.top_k,
        top_p=fields.top_p,
        truncate=fields.truncate or None,
        include_prefix=fields.include_prefix,
        whole_sentences=False,
    )
    return _respond(json.dumps({"text": write(asked).text}, ensure_ascii=False), JSON)


def _sample_text(query: RootQuery) -> Response:
    """pkm-ep-generator took gpt-2-simple's defaults, 256 tokens, and kept what ended with a full stop."""
    settings: Settings = current_app.extensions["settings"]
    if query.callback and settings.allowed_origins() != [ALL_ORIGINS]:
        raise field_problem(
            "callback",
            "Any site could read a script's answer, so there is JSONP only where POKEGEN_CORS_ORIGINS is *;"
            " without callback the answer is JSON",
            HTTPStatus.FORBIDDEN,
        )
    asked = GenerateQuery(prefix=query.sample or "", length=256, temperature=0.7, top_k=0, top_p=0)
    answer = json.dumps({"sample_text": write(asked, "sample").text}, ensure_ascii=bool(query.callback))
    return _respond(f"{query.callback}({answer});", JAVASCRIPT) if query.callback else _respond(answer, JSON)


def _continuation(fields: TextGenerateFields) -> Response:
    """opengpt2 drew n_ctx / 2 tokens among all, at temperature 1. It said text/html, which a text must not be."""
    served = get_serving().current
    if fields.model_name not in ("", served.model):
        raise field_problem(
            "model_name",
            f"The model that is served is {served.model}; it is {shortened(repr(fields.model_name))}. Leave it out",
        )
    asked = GenerateQuery(
        prefix=fields.input_text,
        length=served.engine.hparams.n_ctx // 2,
        temperature=1,
        top_k=0,
        top_p=0,
        include_prefix=False,
        whole_sentences=False,
    )
    return _respond(write(asked, "input_text").text, TEXT)


def _respond(body: str, media_type: str) -> Response:
    return Response(body, mimetype=media_type, headers={"Cache-Control": "no-store"})

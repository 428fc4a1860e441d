"""GET /openapi.json: what the service takes and answers, for programs."""

from typing import Any, cast

from flask import current_app
from flask_openapi3 import APIBlueprint, OpenAPI

blueprint = APIBlueprint("document", __name__)


@blueprint.get("/openapi.json", doc_ui=False)
def openapi() -> dict[str, Any]:
    """The OpenAPI document of this very application."""
    return cast(OpenAPI, current_app).api_doc

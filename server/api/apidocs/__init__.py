"""/apidocs/: Swagger UI over /openapi.json, from the files that the package flask-openapi3-swagger brings.

The package's own page has scripts and styles within; this one has none, so that its policy can forbid them.
"""

from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, send_file
from werkzeug.exceptions import NotFound

blueprint = Blueprint("apidocs", __name__, url_prefix="/apidocs")

_OWN = Path(__file__).parent
_SWAGGER = Path(str(files("flask_openapi3_swagger"))) / "templates" / "swagger"
_FILES = {
    "": (_OWN / "index.html", "text/html"),
    "start.js": (_OWN / "start.js", "text/javascript"),
    "swagger-ui-bundle.js": (_SWAGGER / "js" / "swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": (_SWAGGER / "css" / "swagger-ui.css", "text/css"),
}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@blueprint.get("")
def with_slash() -> Response:
    """Send the reader on. Relative: who is in front of this service may have another name and scheme."""
    return Response(status=308, headers={"Location": "apidocs/"})


@blueprint.get("/", defaults={"name": ""})
@blueprint.get("/<name>")
def file(name: str) -> Response:
    """The page, or one of the three files that it refers to. Sent again only when it changed."""
    if name not in _FILES:
        raise NotFound
    path, media_type = _FILES[name]
    response = send_file(path, media_type)
    response.headers["Content-Security-Policy"] = _POLICY
    return response

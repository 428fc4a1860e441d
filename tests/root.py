"""Who gets the site at `/`, and whom the application answers: one table for nginx and for `pokegen serve`."""

from server.api.compat import CloudRunFields

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
JQUERY = {"Accept": "application/json, text/javascript, */*; q=0.01"}
CURL = {"Accept": "*/*"}
BARE: dict[str, str] = {}

# Has a field that nobody knows: the application refuses it, so that it costs no text.
_OLDER = [f"/?{field}=x&none=" for field in (*CloudRunFields.model_fields, "callback")]

_SITE = [
    *((address, accept) for address in ("/", "/?") for accept in (BROWSER, JQUERY, CURL, BARE)),
    # permalinks
    ("/?seed=7", CURL),
    ("/?prefix=Ash&seed=7", CURL),
    ("/?seed=7&prefix=Ash&length=64", JQUERY),
    # a browser shows the address
    *((address, BROWSER) for address in _OLDER),
    ("/?prefix=Ash", {"Accept": "Text/HTML"}),
    # what others hang on to a link
    ("/?fbclid=abc", CURL),
    ("/?utm_source=letter&utm_medium=mail", BARE),
    # names within names and values
    ("/?xsample=Ash", CURL),
    ("/??sample=Ash", CURL),
    ("/?q=?prefix=Ash", CURL),
    ("/?q=%26prefix=Ash", CURL),
    # names in other spellings
    ("/?Prefix=Ash", CURL),
    ("/?prefix", CURL),
    ("/?s%61mple=Ash", CURL),
]
_APPLICATION = [
    *((address, accept) for address in _OLDER for accept in (JQUERY, CURL, BARE)),
    ("/?sample=Ash&none=", BROWSER),
    ("/?sample=Ash&seed=7", BROWSER),
    ("/?seed=7&sample=Ash", CURL),
    ("/?fbclid=abc&prefix=Ash", CURL),
    # no permalinks: there is no field `seed`
    ("/?prefix=Who%3F&x=1?seed=2", CURL),
    ("/?prefix=Who?seed=2&length=0", CURL),
    ("/?prefix=Who&seeds=2", CURL),
    ("/?prefix=Who&s%65ed=2", CURL),
]

AT_ROOT = [
    *((address, accept, "site") for address, accept in _SITE),
    *((address, accept, "application") for address, accept in _APPLICATION),
]


def answered_by(status: int) -> str:
    """Who it was: the application refuses all that the table asks of it."""
    return {200: "site", 422: "application"}[status]

"""HEAD is refused where GET writes a text: to know its headers the text would have to be written, for nobody."""

from collections.abc import Collection

from flask import Flask


def refuse(app: Flask, blueprints: Collection[str]) -> None:
    """Answer 405 to HEAD, which Flask adds to GET, at all addresses of these blueprints; they are registered by now."""
    for rule in app.url_map.iter_rules():
        if rule.methods and rule.endpoint.partition(".")[0] in blueprints:
            rule.methods.discard("HEAD")

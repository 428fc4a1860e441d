"""The application factory: settings -> engine -> blueprints."""

import atexit
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from flask_openapi3 import Info, OpenAPI

from server.api import (
    apidocs,
    card,
    compat,
    cors,
    departures,
    document,
    fetch_metadata,
    generate,
    head,
    health,
    kept,
    keys,
    metrics,
    page,
    problems,
    reload,
    request_ids,
    shares,
    traces,
    well_formed,
)
from server.api.openai import completions, models
from server.engine import Generation, create_engine, plan_memory
from server.keys import Keys, read_keys
from server.logs import configure_logging, log_access
from server.serving import Served, Serving
from server.settings import Settings, load_settings, require_fitting_opening
from server.watch import watch
from server.weights import Checkpoint, find_checkpoint, open_checkpoint


def create_app(settings: Settings | None = None) -> OpenAPI:
    """The Flask application, ready to answer: its checkpoint is loaded and tokens were made.

    Without settings they come from the environment. Call it in the process that will serve, after any fork:
    it starts the engine's thread. Raises SettingsError, CheckpointError or EngineError, each with one line that
    says what to mend.
    """
    settings = settings or load_settings()
    configure_logging(settings.log_level)
    api_keys = read_keys(settings)
    texts = metrics.Texts()
    serving = Serving(partial(load, settings, texts.count))
    atexit.register(serving.close)
    if settings.watch:
        watch(serving, settings.watch)
    return assemble(settings, serving, texts, api_keys)


def load(settings: Settings, on_done: Callable[[Generation], None], beside: Served | None = None) -> Served:
    """The checkpoint of the settings, ready to answer; `beside` itself, where it is that already.

    Where the content is that of `beside`, and only its name, its card or the files are others, no weights are loaded:
    it has the engine of `beside`. on_done: is told of each generation that has ended. Raises SettingsError,
    CheckpointError, and what `create_engine` raises.
    """
    found = find_checkpoint(settings.checkpoint, settings.registry, only_current=beside is not None)
    with open_checkpoint(found.directory) as checkpoint:
        stamp = f"{checkpoint.stamp()} {card.stamp(found.directory)}"
        if beside and (beside.model, beside.stamp) == (found.name, stamp):
            return beside
        if beside and beside.fingerprint == _fingerprint(checkpoint, settings):
            return replace(beside, model=found.name, stamp=stamp, card_forms=card.read_forms(found.directory))
        require_fitting_opening(settings, checkpoint)
        plan = plan_memory(checkpoint.hparams, settings.engine, settings.max_running)
        usable_blocks = None
        if beside:
            # What it has used, or may use at any moment; the rest is shared out.
            least = beside.engine.limit_blocks(0)
            usable_blocks, theirs = plan.share(beside.plan, least, checkpoint.hparams)
            beside.engine.limit_blocks(theirs)
        if settings.engine in ("numpy", "gpt2-simple"):  # the native core does so where it reads the weights
            checkpoint.digest()  # before: what is written over them now is to be seen at the next reload
        is_proven = threading.Event()

        def end_if_it_answers() -> None:
            """While it is tried, those who read from the engine beside it must not pay for its crash."""
            if is_proven.is_set():
                _end_process_soon()

        engine = create_engine(
            checkpoint,
            settings.engine,
            max_running=settings.max_running,
            max_waiting=settings.max_waiting,
            max_wait=settings.max_wait,
            pace=settings.pace,
            threads=settings.engine_threads,
            isa=settings.isa,
            plan=plan,
            usable_blocks=usable_blocks,
            on_done=on_done,
            on_crash=end_if_it_answers,
        )
        is_proven.set()
        return Served(
            engine,
            plan,
            model=found.name,
            created=int(time.time()),
            stamp=stamp,
            fingerprint=_fingerprint(checkpoint, settings),  # costs less, where packed weights have been read
            card_forms=card.read_forms(found.directory),
        )


def _fingerprint(checkpoint: Checkpoint, settings: Settings) -> str:
    return models.fingerprint(checkpoint.identity(), settings.engine, settings.isa)


def _end_process_soon() -> None:
    """Leave those who were told of the engine's crash a second to be answered, then let the master start anew."""
    try:
        threading.Timer(1, os._exit, (1,)).start()
    except (MemoryError, RuntimeError):  # there is no room for one more thread
        os._exit(1)


def assemble(
    settings: Settings, serving: Serving, texts: metrics.Texts, api_keys: Keys | None = None
) -> OpenAPI:
    """Put the parts together.

    texts: counts what the engines of `serving` write. api_keys: who may ask for texts; by default everybody.
    """
    app = OpenAPI(
        __name__,
        info=Info(title="Pokegen", version="1", description="Episodes of an anime that never aired."),
        static_folder=None,
        doc_ui=False,
    )
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["settings"] = settings
    app.extensions["serving"] = serving

    cors.register(app, settings.allowed_origins())
    request_ids.register(app)
    if settings.traces:
        traces.register(app)
    log_access(app)
    problems.register(app)
    page.register(app)
    for_texts = [generate.blueprint, compat.blueprint, completions.blueprint, models.blueprint]
    names = [blueprint.name for blueprint in for_texts]
    fetch_metadata.register(app, settings.allowed_origins(), [*names, reload.blueprint.name])
    keys.register(app, api_keys, names)
    compat.register(app)
    well_formed.register(app)
    departures.register(app)
    shares.register(app)
    kept.register(app, settings.keep)
    metrics.register(app, texts)
    app.register_api(generate.blueprint)
    app.register_api(card.blueprint)
    app.register_api(compat.blueprint)
    app.register_api(completions.blueprint)
    app.register_api(models.blueprint)
    app.register_api(health.blueprint)
    app.register_blueprint(apidocs.blueprint)
    app.register_blueprint(reload.blueprint)
    head.refuse(app, {generate.blueprint.name, compat.blueprint.name})
    document.register(app)  # it describes all of them
    if api_keys:
        document.demand_key(app, for_texts, is_optional=api_keys.anonymous is not None)
    return app

"""Every knob of the service, from the environment, validated once."""

import os
import re
from difflib import get_close_matches
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.engine import MAX_TEMPERATURE, EngineName, Isa, supported_isas
from server.weights import Checkpoint
from server.weights.registry import is_model_name, require_registry_address

PREFIX = "POKEGEN_"
NO_ORIGINS = "none"
ALL_ORIGINS = "*"
NO_PROXIES = "none"
NO_KEYS = "none"
SHIPPED_CHECKPOINT = Path(__file__).parent.parent / "checkpoint" / "run1"

# An origin as a browser writes it (RFC 6454, section 6.2; the URL standard): no path, no default port.
_ORIGIN = re.compile(
    r"(?!http:.*:80\Z|https:.*:443\Z) https?:// (?:[a-z0-9_.-]+|\[[0-9a-f:.]+\]) (?::[1-9][0-9]{0,4})?",
    re.VERBOSE,
)


class SettingsError(Exception):
    """A variable in the environment is not what it must be; the message is one line that names it."""


class Settings(BaseSettings):
    """The variables are these names in capitals with POKEGEN_ in front, such as POKEGEN_CHECKPOINT."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, allow_inf_nan=False)

    checkpoint: Annotated[
        Path,
        Field(
            description="Directory of the checkpoint, as gpt-2-simple or Hugging Face's transformers write it; an"
            " address that it is fetched from, https://HOST/FOLDER, s3://BUCKET/FOLDER or hf://OWNER/NAME@REVISION; or"
            " models:/NAME/VERSION or models:/NAME@ALIAS in POKEGEN_REGISTRY (needs MLflow)."
        ),
    ] = SHIPPED_CHECKPOINT
    registry: Annotated[
        str,
        Field(
            description="Where models:/ names are looked up: sqlite:/// and the file that `pokegen register` writes, or"
            " the address of an MLflow server."
        ),
    ] = "sqlite:///run/registry/mlflow.db"
    watch: Annotated[
        float,
        Field(
            ge=0,
            le=86_400,
            description="Seconds between two looks for another checkpoint, in the directory, at the address or under"
            " the registry's alias, which then answers without a pause; at least 1, and after each refusal of the same"
            " twice as many, up to 300. 0: `pokegen reload` alone does that.",
        ),
    ] = 0.0
    engine: Annotated[
        EngineName,
        Field(
            description="What computes: int8 or float32 (the C++ core), numpy (the reference), or gpt2-simple (needs"
            " the optional TensorFlow packages)."
        ),
    ] = "int8"
    engine_threads: Annotated[
        int,
        Field(
            ge=0,
            le=256,
            description="Threads of the C++ core; 0 is as many as the processors that it may use.",
        ),
    ] = 0
    isa: Annotated[
        Isa,
        Field(
            description="Instruction set of the C++ core: avx512-vnni, avx2, portable, or auto, the best of those"
            " that the processor has."
        ),
    ] = "auto"

    pace: Annotated[
        float,
        Field(
            ge=0,
            le=10_000,
            description="Tokens a second that each text is to grow by: no more are begun at once than the measured"
            " speed allows. 0 does without.",
        ),
    ] = 9.0
    max_running: Annotated[
        int, Field(ge=1, le=3999, description="Samples that are generated at once, at most.")
    ] = 512
    max_waiting: Annotated[
        int,
        Field(
            ge=0,
            le=3998,  # with one that runs, fewer than the most that POKEGEN_THREADS may be
            description="Samples that may wait for their turn; past that, readers get 503.",
        ),
    ] = 128
    max_wait: Annotated[
        float,
        Field(
            ge=0,
            le=3600,
            description="Seconds that a reader may be expected to wait; who would wait longer gets 503 at once.",
        ),
    ] = 0.5
    keep: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            description="Answers with a seed that the application keeps, in 4 MiB at most, and lets nginx keep; 0 is"
            " none.",
        ),
    ] = 1000
    threads: Annotated[
        int,
        Field(
            ge=1,
            le=4000,  # two files each, of the 8192 that server/uwsgi.ini asks for
            description="Request threads of uWSGI or gunicorn: more than samples run and wait, so that one is left"
            " to say that the queue is full.",
        ),
    ] = 664
    max_samples: Annotated[
        int, Field(ge=1, le=1024, description="The most that one request may ask for as nsamples.")
    ] = 8
    request_timeout: Annotated[
        float, Field(ge=0.1, le=3600, description="Seconds after which a request is given up with 503.")
    ] = 60.0
    max_body: Annotated[int, Field(ge=1024, le=2**24, description="The largest request body in bytes.")] = (
        65536
    )
    grace: Annotated[
        int,
        Field(
            ge=1,
            le=3700,
            description="Seconds that answers in flight have when the service stops, or starts anew at HUP.",
        ),
    ] = 65
    http: Annotated[
        str,
        Field(description="host:port where the application answers plain HTTP, without nginx."),
    ] = "127.0.0.1:5000"
    socket: Annotated[
        str,
        Field(
            min_length=1,
            max_length=107,  # what the kernel has room for in a Unix socket's address
            description="Where uWSGI takes nginx's requests: host:port, or a path. `make run` always takes"
            " run/PORT/uwsgi.sock.",
        ),
    ] = "127.0.0.1:3031"

    cors_origins: Annotated[
        str,
        Field(
            description="Other sites whose pages may ask and read the answers: origins such as https://fan.example with"
            " commas between, * for all, or none."
        ),
    ] = NO_ORIGINS

    address_rate: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="Texts that one address may ask for in a second, at nginx; past that, 429. 0 is no limit.",
        ),
    ] = 20
    address_at_once: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="Samples that one address may have at once; past that, 429. 0 is no limit.",
        ),
    ] = 32
    trusted_proxies: Annotated[
        str,
        Field(
            description="Proxies in front of nginx, whose X-Forwarded-For says which address asks: addresses or"
            " networks such as 10.0.0.0/8 with commas between, or none."
        ),
    ] = NO_PROXIES

    api_keys: Annotated[
        str,
        Field(
            min_length=1,
            description="File of the API keys that readers need, whose entries `pokegen key` makes; or none: they need"
            " no key.",
        ),
    ] = NO_KEYS

    opening: Annotated[str, Field(min_length=1, description="The prefix of those who give none.")] = (
        "Ash and his friends"
    )
    length: Annotated[int, Field(ge=1, description="New tokens where the request does not say.")] = 384
    temperature: Annotated[
        float, Field(ge=0, le=MAX_TEMPERATURE, description="Temperature where the request does not say.")
    ] = 0.2
    top_k: Annotated[int, Field(ge=0, description="top_k where the request does not say; 0 is no limit.")] = (
        40
    )
    top_p: Annotated[
        float, Field(ge=0, le=1, description="top_p where the request does not say; 0 is no limit.")
    ] = 0.0

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Field(description="The least severe log lines that are written."),
    ] = "INFO"
    traces: Annotated[
        bool,
        Field(
            description="Whether OpenTelemetry gets traces; OTEL_EXPORTER_OTLP_ENDPOINT and its other variables say"
            " where."
        ),
    ] = False

    @field_validator("checkpoint")
    @classmethod
    def _is_directory_or_model(cls, checkpoint: Path) -> Path:
        is_model_name(checkpoint)
        return checkpoint

    @field_validator("registry")
    @classmethod
    def _is_sqlite_or_server(cls, registry: str) -> str:
        return require_registry_address(registry)

    @field_validator("watch")
    @classmethod
    def _leaves_time(cls, watch: float) -> float:
        if 0 < watch < 1:
            raise ValueError("must be 0 or at least 1 second: each look reads files, or asks a server")
        return watch

    @field_validator("engine")
    @classmethod
    def _has_its_packages(cls, engine: EngineName) -> EngineName:
        if engine == "gpt2-simple" and not find_spec("gpt_2_simple"):
            raise ValueError("gpt-2-simple is not installed; run make pipeline")
        return engine

    @field_validator("traces")
    @classmethod
    def _have_their_packages(cls, traces: bool) -> bool:
        try:
            found = not traces or find_spec("opentelemetry.exporter.otlp.proto.http")
        except ModuleNotFoundError:
            found = None
        if not found:
            raise ValueError("OpenTelemetry is not installed; run scripts/install-python traces")
        return traces

    @field_validator("isa")
    @classmethod
    def _is_of_this_processor(cls, isa: Isa) -> Isa:
        if isa not in (found := supported_isas()):
            raise ValueError(
                f"this processor does not have it, but {', '.join(found[1:])}; auto takes the best"
            )
        return isa

    @field_validator("http")
    @classmethod
    def _is_host_and_port(cls, http: str) -> str:
        found = re.fullmatch(r"[A-Za-z0-9_.-]+:([0-9]{1,5})", http)
        if not found or not 1 <= int(found[1]) <= 65535:
            raise ValueError("must be host:port with a port from 1 to 65535, such as 127.0.0.1:5000")
        return http

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: str) -> str:
        listed = [origin.strip() for origin in origins.split(",")]
        if listed in ([NO_ORIGINS], [ALL_ORIGINS]):
            return listed[0]
        for origin in listed:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is no origin as browsers send it: https:// or http://, a host in small letters and,"
                    " where it is not 443 or 80, a port, such as https://fan.example or http://localhost:3000"
                )
        return ",".join(listed)

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: str) -> str:
        listed = [proxy.strip() for proxy in proxies.split(",")]
        if listed == [NO_PROXIES]:
            return NO_PROXIES
        for proxy in listed:
            try:
                ip_network(proxy)
            except ValueError as error:
                raise ValueError(
                    f"{error}; an address or a network is such as 192.0.2.7 or 10.0.0.0/8"
                ) from error
        return ",".join(listed)

    def allowed_origins(self) -> list[str]:
        """The origins of POKEGEN_CORS_ORIGINS; ["*"] is all of them."""
        return [] if self.cors_origins == NO_ORIGINS else self.cors_origins.split(",")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        admitted = self.max_running + self.max_waiting
        admits = f"POKEGEN_MAX_RUNNING plus POKEGEN_MAX_WAITING, {self.max_running} + {self.max_waiting}"
        if self.max_samples > admitted:
            raise ValueError(f"POKEGEN_MAX_SAMPLES is {self.max_samples} and may be at most {admits}")
        if 0 < self.address_at_once < self.max_samples:
            raise ValueError(
                f"POKEGEN_MAX_SAMPLES is {self.max_samples} and may be at most POKEGEN_ADDRESS_AT_ONCE,"
                f" {self.address_at_once}"
            )
        if self.threads <= admitted:
            raise ValueError(f"POKEGEN_THREADS is {self.threads} and must be more than {admits}")
        return self


def load_settings() -> Settings:
    """The settings of this process's environment. Raises SettingsError."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # what was found is about several variables, and names them
            raise SettingsError(message) from error
        shown = re.sub("(?<=//)[^/]*(?=@)", "***", repr(first["input"]))  # an address may hold a password
        raise SettingsError(f"{variable(first['loc'][0])}: {message}; it is {shown}") from error


def variable(name: object) -> str:
    """The variable of the setting `name`."""
    return f"{PREFIX}{name}".upper()


def misspelt_variables() -> dict[str, str]:
    """Variables of the environment that no setting has but that are close to one, each with what was meant.

    Others are left alone: Kubernetes hands POKEGEN_PORT, POKEGEN_SERVICE_HOST and more to every container beside
    a Service of the name pokegen.
    """
    known = {variable(name).removeprefix(PREFIX) for name in Settings.model_fields}
    unknown = {
        name.upper().removeprefix(PREFIX) for name in os.environ if name.upper().startswith(PREFIX)
    } - known
    close = {name: get_close_matches(name, known, n=1, cutoff=0.8) for name in sorted(unknown)}
    return {PREFIX + name: PREFIX + meant[0] for name, meant in close.items() if meant}


def require_fitting_opening(settings: Settings, checkpoint: Checkpoint) -> None:
    """Raise SettingsError where the opening leaves no room for a new token in the checkpoint's n_ctx."""
    tokens, limit = len(checkpoint.tokenizer.encode_prompt(settings.opening)), checkpoint.hparams.n_ctx - 1
    if tokens > limit:
        raise SettingsError(
            f"POKEGEN_OPENING is {tokens} tokens long and may be {limit} at most with {checkpoint.directory}"
        )

"""The environment: what is taken from it, and the one line that says what is wrong with it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from annotated_types import Le
from click.testing import CliRunner
from pydantic import ValidationError

from server.app import create_app
from server.cli import commands
from server.settings import SHIPPED_CHECKPOINT, Settings, SettingsError, load_settings, misspelt_variables
from server.weights import Checkpoint
from tests.service.stack import ROOT

POKEGEN = Path(sys.executable).with_name("pokegen")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("POKEGEN_")]:
        monkeypatch.delenv(name)


def test_defaults() -> None:
    settings = load_settings()
    assert settings.checkpoint == SHIPPED_CHECKPOINT
    assert settings.engine == "int8"
    assert settings.request_timeout == 60
    assert settings.max_body == 65536


@pytest.mark.parametrize("name", ["length", "temperature"])
def test_the_pages_sliders_begin_at_the_defaults(name: str) -> None:
    [slider] = re.findall(
        rf'<input type="range" id="{name}" [^>]*>', (ROOT / "nginx/site/index.html").read_text()
    )
    assert f' value="{getattr(load_settings(), name)}"' in slider


def test_every_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "checkpoint": Path("/srv/run2"),
        "registry": "sqlite:////srv/registry/mlflow.db",
        "watch": 2.5,
        "engine": "gpt2-simple",
        "engine_threads": 3,
        "isa": "portable",
        "pace": 12.5,
        "max_running": 3,
        "max_waiting": 0,
        "max_wait": 0.25,
        "keep": 5,
        "threads": 4,
        "max_samples": 2,
        "request_timeout": 1.5,
        "max_body": 2048,
        "grace": 5,
        "http": "0.0.0.0:80",
        "socket": "/tmp/uwsgi.sock",  # noqa: S108 - nothing is written
        "cors_origins": "https://fan.example,http://[::1]:3000",
        "address_rate": 0,
        "address_at_once": 5,
        "trusted_proxies": "192.0.2.7,2001:db8::/32",
        "api_keys": "/srv/keys.toml",
        "opening": "Brock, ",
        "length": 7,
        "temperature": 1.0,
        "top_k": 40,
        "top_p": 0.9,
        "log_level": "WARNING",
        "traces": True,
    }
    assert set(values) == set(Settings.model_fields), "a new setting belongs in here"
    for name, value in values.items():
        monkeypatch.setenv(f"POKEGEN_{name.upper()}", str(value))
    assert load_settings().model_dump() == values


def test_what_kubernetes_hands_in_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8080_TCP_ADDR"):
        monkeypatch.setenv(f"POKEGEN_{name}", "x")
    load_settings()
    assert misspelt_variables() == {}


def test_a_misspelt_variable_is_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POKEGEN_MAX_RUNING", "POKEGEN_THREAD", "POKEGEN_LOGLEVEL"):
        monkeypatch.setenv(name, "8")
    assert misspelt_variables() == {
        "POKEGEN_LOGLEVEL": "POKEGEN_LOG_LEVEL",
        "POKEGEN_MAX_RUNING": "POKEGEN_MAX_RUNNING",
        "POKEGEN_THREAD": "POKEGEN_THREADS",
    }


@pytest.mark.parametrize(
    ("variable", "value", "limit"),
    [
        ("POKEGEN_CHECKPOINT", "models:/pokegen", "models:/NAME/VERSION or models:/NAME@ALIAS"),
        ("POKEGEN_CHECKPOINT", "models:/pokegen/latest", "models:/NAME/VERSION or models:/NAME@ALIAS"),
        ("POKEGEN_REGISTRY", "run/registry", "sqlite:///FILE"),
        ("POKEGEN_WATCH", "-1", "greater than or equal to 0"),
        ("POKEGEN_WATCH", "0.5", "0 or at least 1 second"),
        ("POKEGEN_WATCH", "86401", "less than or equal to 86400"),
        ("POKEGEN_ENGINE", "torch", "'numpy' or 'gpt2-simple'"),
        ("POKEGEN_ENGINE_THREADS", "-1", "greater than or equal to 0"),
        ("POKEGEN_ENGINE_THREADS", "257", "less than or equal to 256"),
        ("POKEGEN_ISA", "sse2", "'auto', 'avx512-vnni', 'avx2' or 'portable'"),
        ("POKEGEN_MAX_RUNNING", "0", "greater than or equal to 1"),
        ("POKEGEN_MAX_RUNNING", "4000", "less than or equal to 3999"),
        ("POKEGEN_PACE", "-1", "greater than or equal to 0"),
        ("POKEGEN_MAX_WAIT", "3601", "less than or equal to 3600"),
        ("POKEGEN_ADDRESS_RATE", "-1", "greater than or equal to 0"),
        ("POKEGEN_ADDRESS_AT_ONCE", "10001", "less than or equal to 10000"),
        ("POKEGEN_TRUSTED_PROXIES", "10.0.0.1/8", "has host bits set"),
        ("POKEGEN_TRUSTED_PROXIES", "proxy.example", "such as 192.0.2.7 or 10.0.0.0/8"),
        ("POKEGEN_MAX_WAITING", "-1", "greater than or equal to 0"),
        ("POKEGEN_MAX_WAITING", "3999", "less than or equal to 3998"),
        ("POKEGEN_MAX_SAMPLES", "many", "valid integer"),
        ("POKEGEN_REQUEST_TIMEOUT", "0", "greater than or equal to 0.1"),
        ("POKEGEN_REQUEST_TIMEOUT", "nan", "finite number"),
        ("POKEGEN_MAX_BODY", "1", "greater than or equal to 1024"),
        ("POKEGEN_GRACE", "0", "greater than or equal to 1"),
        ("POKEGEN_GRACE", "1.5", "valid integer"),
        ("POKEGEN_HTTP", "5000", "must be host:port"),
        ("POKEGEN_HTTP", "localhost:65536", "port from 1 to 65535"),
        ("POKEGEN_SOCKET", "", "at least 1 character"),
        ("POKEGEN_CORS_ORIGINS", "", "'' is no origin"),
        ("POKEGEN_CORS_ORIGINS", "https://fan.example/", "no origin as browsers send it"),
        ("POKEGEN_CORS_ORIGINS", "https://fan.example:443", "where it is not 443"),
        ("POKEGEN_CORS_ORIGINS", "https://Fan.example", "small letters"),
        ("POKEGEN_CORS_ORIGINS", "fan.example", "https://fan.example"),
        ("POKEGEN_CORS_ORIGINS", "https://fan.example, *", "'*' is no origin"),
        ("POKEGEN_CORS_ORIGINS", "https://*.example", "no origin"),
        ("POKEGEN_OPENING", "", "at least 1 character"),
        ("POKEGEN_OPENING", "\udcff", "valid string"),
        ("POKEGEN_LENGTH", "1.5", "valid integer"),
        ("POKEGEN_LENGTH", "a\nb", "valid integer"),
        ("POKEGEN_TEMPERATURE", "11", "less than or equal to 10"),
        ("POKEGEN_TOP_K", "-1", "greater than or equal to 0"),
        ("POKEGEN_TOP_P", "1.1", "less than or equal to 1"),
        ("POKEGEN_LOG_LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable_its_limit_and_the_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, limit: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    line = str(caught.value)
    assert line.startswith(f"{variable}: ")
    assert limit in line
    assert line.endswith(f"it is {value!r}")
    assert "\n" not in line


def test_origins_are_a_list_all_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().allowed_origins() == []
    monkeypatch.setenv("POKEGEN_CORS_ORIGINS", "*")
    assert load_settings().allowed_origins() == ["*"]
    monkeypatch.setenv(
        "POKEGEN_CORS_ORIGINS", "https://fan.example , http://localhost:3000,http://[::1]:8000"
    )
    assert load_settings().allowed_origins() == [
        "https://fan.example",
        "http://localhost:3000",
        "http://[::1]:8000",
    ]


def test_a_password_is_refused_without_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POKEGEN_REGISTRY", "http://user:secret@mlflow/")
    with pytest.raises(SettingsError, match=r"^POKEGEN_REGISTRY: .* without a password") as refused:
        load_settings()
    assert "secret" not in str(refused.value)


def test_a_request_that_could_never_be_admitted_is_a_mistake_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"RUNNING": "1", "WAITING": "2", "SAMPLES": "4"}.items():
        monkeypatch.setenv(f"POKEGEN_MAX_{name}", value)
    with pytest.raises(SettingsError, match=r"^POKEGEN_MAX_SAMPLES is 4 and may be at most .* 1 \+ 2$"):
        load_settings()


def test_a_thread_must_be_left_to_say_that_the_queue_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POKEGEN_THREADS", "640")
    with pytest.raises(SettingsError, match=r"^POKEGEN_THREADS is 640 and must be more than .* 512 \+ 128$"):
        load_settings()


def test_every_thread_that_there_may_be_has_its_two_files() -> None:
    ini = (ROOT / "server/uwsgi.ini").read_text()
    [files] = re.findall(r"(?m)^max-fd = (\d+)", ini)
    [most] = [limit.le for limit in Settings.model_fields["threads"].metadata if isinstance(limit, Le)]
    assert 2 * int(str(most)) + 100 <= int(files)


def test_a_queue_as_long_as_one_may_be_has_threads_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = {"MAX_RUNNING": "1", "MAX_WAITING": "3998", "THREADS": "4000"}
    for name, value in longest.items():
        monkeypatch.setenv(f"POKEGEN_{name}", value)
    assert load_settings().max_waiting == 3998


@pytest.mark.parametrize("seconds", [0, 1])
def test_watch_may_be_none_or_a_second(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    monkeypatch.setenv("POKEGEN_WATCH", str(seconds))
    assert load_settings().watch == seconds


def test_an_engine_without_its_packages_is_a_mistake_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POKEGEN_ENGINE", "gpt2-simple")
    monkeypatch.setattr("server.settings.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"^POKEGEN_ENGINE: .* run make pipeline"):
        load_settings()


def test_an_instruction_set_that_the_processor_lacks_is_a_mistake_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.engine.native._core.supported_isas", lambda: ["portable", "avx2"])
    for isa in ("auto", "avx2", "portable"):
        monkeypatch.setenv("POKEGEN_ISA", isa)
        assert load_settings().isa == isa
    monkeypatch.setenv("POKEGEN_ISA", "avx512-vnni")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert (
        str(caught.value)
        == "POKEGEN_ISA: this processor does not have it, but avx2, portable; auto takes the best; it is 'avx512-vnni'"
    )


def test_as_many_threads_compute_as_are_set(tiny_checkpoint: Checkpoint) -> None:
    threads = Path("/proc/self/task")
    before = set(threads.iterdir())
    create_app(Settings(checkpoint=tiny_checkpoint.directory, engine_threads=5))
    assert len(set(threads.iterdir()) - before) == 5, "the engine's own is one of them"


def test_the_instruction_set_is_the_one_that_is_set(
    tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(checkpoint=tiny_checkpoint.directory, isa="portable")
    monkeypatch.setattr(settings, "isa", "mmx")
    with pytest.raises(ValueError, match="not mmx"):
        create_app(settings)


def test_settings_in_code_are_checked_alike() -> None:
    with pytest.raises(ValidationError):
        Settings(length=0)


def pokegen(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `pokegen COMMAND` with these variables."""
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        [POKEGEN, command], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def check(**variables: str) -> subprocess.CompletedProcess[str]:
    return pokegen("check", **variables)


def test_check_describes_what_it_found(tiny_checkpoint: Checkpoint) -> None:
    done = check(POKEGEN_CHECKPOINT=str(tiny_checkpoint.directory))
    assert (done.returncode, done.stderr) == (0, "")
    hparams = tiny_checkpoint.hparams
    assert f"{hparams.n_layer} layers, {hparams.n_embd} channels" in done.stdout


def test_check_says_in_one_line_what_to_mend(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = str(tiny_checkpoint.directory)
    for variables, says in [
        ({"POKEGEN_CHECKPOINT": str(tmp_path / "nothing")}, "nothing"),
        ({"POKEGEN_CHECKPOINT": str(tmp_path)}, "model.safetensors"),
        ({"POKEGEN_CHECKPOINT": directory, "POKEGEN_LENGTH": "0"}, "POKEGEN_LENGTH: "),
        (
            {"POKEGEN_CHECKPOINT": directory, "POKEGEN_OPENING": "Ash! " * 200},
            f"may be {tiny_checkpoint.hparams.n_ctx - 1} at most",
        ),
    ]:
        done = check(**variables)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("pokegen: ")
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr


def test_check_points_out_a_misspelt_variable(tiny_checkpoint: Checkpoint) -> None:
    done = check(POKEGEN_CHECKPOINT=str(tiny_checkpoint.directory), POKEGEN_MAX_RUNING="1")
    assert done.returncode == 0
    assert (
        done.stderr
        == "pokegen: POKEGEN_MAX_RUNING is no setting and is ignored; did you mean POKEGEN_MAX_RUNNING?\n"
    )


def test_env_gives_a_shell_the_values_that_the_application_understood() -> None:
    opening = "Jessie's 'Arbok' $HOME\nsaid"
    printed = pokegen(
        "env",
        POKEGEN_REQUEST_TIMEOUT="6e1",
        POKEGEN_GRACE="08",
        POKEGEN_MAX_BODY="65_536",
        POKEGEN_OPENING=opening,
    ).stdout
    in_shell = subprocess.run(
        ["bash", "-c", printed + "\nenv -0"], env={}, capture_output=True, text=True, check=True
    )
    variables = dict(line.split("=", 1) for line in in_shell.stdout.split("\0") if line)
    assert variables["POKEGEN_REQUEST_TIMEOUT"] == "60.0"
    assert variables["POKEGEN_GRACE"] == "8"
    assert variables["POKEGEN_MAX_BODY"] == "65536"
    assert variables["POKEGEN_OPENING"] == opening
    assert variables["POKEGEN_HTTP"] == "127.0.0.1:5000"


def test_env_prints_nothing_where_a_setting_is_wrong() -> None:
    done = pokegen("env", POKEGEN_GRACE="soon")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pokegen: POKEGEN_GRACE: ")
    assert done.stderr.count("\n") == 1


def test_an_opening_that_does_not_fit_stops_the_start(tiny_checkpoint: Checkpoint) -> None:
    settings = Settings(checkpoint=tiny_checkpoint.directory, opening="Ash! " * 200)
    with pytest.raises(SettingsError, match=r"POKEGEN_OPENING is .* tokens long"):
        create_app(settings)


def test_check_knows_whether_the_memory_will_do(
    tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POKEGEN_CHECKPOINT", str(tiny_checkpoint.directory))
    monkeypatch.setattr("server.engine.memory_limit", lambda: 100 * 2**20)
    done = CliRunner().invoke(commands, ["check"])
    assert done.exit_code == 1
    assert done.stderr.startswith(
        "pokegen: the memory limit is 100 MiB, but weights and process take 198 MiB"
    )
    assert done.stderr.count("\n") == 1

"""`python -m loadtest.permalink`: a permalink that everybody opens at once: how many a second, and what it costs.

wrk (Debian's package of that name) opens it over and over, on the machine whose nginx answers: what it takes of the
processors, nginx lacks. /metrics on the plain port says how many texts were written for all of them.
"""

import re
import secrets
import shutil
import subprocess

import click
import requests
from prometheus_client.parser import text_string_to_metric_families

# What Firefox and Safari ask with; and programs.
FORMS = {
    "as a page": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "as JSON": "application/json",
}


@click.command(context_settings={"show_default": True})
@click.option(
    "--url",
    default="http://127.0.0.1:8080",
    help="The running service. Its POKEGEN_ADDRESS_AT_ONCE and POKEGEN_ADDRESS_RATE must be 0.",
)
@click.option("--plain", default="http://127.0.0.1:5000", help="Its plain port.")
@click.option("--connections", type=click.IntRange(1), default=64, help="At once.")
@click.option("--seconds", type=click.IntRange(1), default=15, help="Of each form.")
def command(url: str, plain: str, connections: int, seconds: int) -> None:
    """Open a new permalink as often as can be, and say how often that was."""
    wrk = shutil.which("wrk")
    if not wrk:
        raise click.ClickException("this needs wrk: apt-get install wrk")
    options = ["--latency", "--threads=1", f"--connections={connections}", f"--duration={seconds}s"]
    link = f"{url}/generate?prefix=Ash+and+Pikachu+were&seed={secrets.randbits(32)}"
    try:
        before = _written(plain)
        for name, form in FORMS.items():
            come = _open([wrk, *options, f"--header=Accept: {form}", link])
            click.echo(f"{name}: {come}")
        click.echo(f"texts written: {_written(plain) - before:.0f}")
    except (requests.RequestException, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _open(wrk: list[str]) -> str:
    """What came of it. ValueError where an answer is missing or not 200."""
    done = subprocess.run(wrk, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    said = done.stdout + done.stderr
    rate = re.search(r"Requests/sec: +([\d.]+)", said)
    tail = re.search(r"99% +(\S+)", said)
    count = re.search(r"(\d+) requests in", said)
    if not (rate and tail and count) or "Socket errors" in said or "Non-2xx" in said:
        raise ValueError(f"not all were answered:\n{said}")
    return f"{int(count[1]):,} opened, {float(rate[1]):,.0f} a second, 99% of them within {tail[1]}"


def _written(plain: str) -> float:
    """How many texts have been, whatever ended them."""
    answer = requests.get(f"{plain}/metrics", timeout=20)
    answer.raise_for_status()
    return sum(
        sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == "pokegen_samples_ended_total"
    )


if __name__ == "__main__":
    command()

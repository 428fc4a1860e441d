"""The report as one HTML page that needs nothing else."""

import base64
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tqdm import tqdm

from loadtest.report import plots, tables
from loadtest.report.comparison import Price, Setting, Side
from loadtest.report.plots import Plot
from loadtest.report.tables import Table


@dataclass(frozen=True)
class Part:
    """Something with a heading: sentences, then plots, each followed by the tables that say the same."""

    heading: str
    sentences: list[str] = field(default_factory=list)
    shown: list[Plot | Table] = field(default_factory=list)


def part_of(setting: Setting, service: str, side: Side) -> Part:
    """All that is known of a service in a box."""
    about = f"{tables.NAMES[service]}, {setting}"
    part = Part(about)
    drawn = plots.plots_of(service, side, about, f"{service}-{setting.checkpoint}-{setting.profile}")
    if side.levels:
        part.sentences.append(tables.knee(side))
        part.shown.extend(drawn["levels"])
        part.shown.extend(tables.level_tables(side, about))
    for shape, run in side.runs.items():
        part.sentences.extend(f"{run.directory.name}: {note}" for note in run.notes)
        part.shown.extend(drawn[shape])
        if shape == "spike" and side.spike:
            part.shown.append(tables.spike_table(side.spike, about))
        if shape == "soak" and side.soak:
            part.shown.append(tables.soak_table(side.soak, about))
        if errors := tables.error_table(run, f"{about}, {shape}"):
            part.shown.append(errors)
    return part


def page(found: Sequence[Setting], price: Price, left_out: Sequence[str], command: str) -> str:
    """HTML. `left_out` are sentences on directories that are not reported; `command` made the page."""
    each = list(tables.sides(found))
    parts = [
        part_of(*one) for one in tqdm(each, unit="part", desc="drawing", disable=not sys.stderr.isatty())
    ]
    runs = [run for _, _, side in each for run in side.runs.values()]
    summary = [tables.goal_table(found), tables.capacity_table(found, price)]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    return environment.get_template("page.html.jinja").render(
        settings=[(setting, tables.headlines(setting)) for setting in found],
        headline=tables.headline_table(found),
        summary=[table for table in summary if table],
        comparison=[plot for quantity in plots.QUANTITIES if (plot := plots.compared(found, quantity))],
        parts=parts,
        runs=tables.run_table(runs),
        left_out=left_out,
        command=command,
    )


def _data_uri(svg: str) -> str:
    """As an image of its own, so that names within one plot never meet those of another."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"

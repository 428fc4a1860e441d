"""The report's figures as the generated part of docs/load.md, with its pictures beside it."""

from collections.abc import Sequence
from pathlib import Path

from loadtest.report import plots, tables
from loadtest.report.comparison import Price, Setting
from loadtest.report.plots import Plot

BEGIN = "<!-- figures: python -m loadtest.report --docs -->"
END = "<!-- end of figures -->"


def markdown(found: Sequence[Setting], price: Price, pictures: str) -> tuple[str, list[Plot]]:
    """The text between the markers and the plots that it shows, as files of the folder `pictures` beside it."""
    shown: list[Plot] = []
    blocks = ["### In short\n", tables.headline_table(found).markdown()]
    if goals := tables.goal_table(found):
        blocks.append(goals.markdown())
    blocks += ["### How many readers, at what cost\n", tables.capacity_table(found, price).markdown()]
    compared = [plot for quantity in plots.QUANTITIES if (plot := plots.compared(found, quantity))]
    if compared:
        blocks.append("### Side by side\n")
    blocks += [_picture(plot, pictures, shown) for plot in compared]
    for setting, service, side in tables.sides(found):
        about = f"{tables.NAMES[service]}, {setting}"
        blocks.append(f"### {about}\n")
        if side.levels:
            blocks.append(f"{tables.knee(side)}\n")
            blocks += [table.markdown() for table in tables.level_tables(side, about)]
        for shape, table in (
            ("spike", side.spike and tables.spike_table(side.spike, about)),
            ("soak", side.soak and tables.soak_table(side.soak, about)),
        ):
            if table:
                name = f"{service}-{setting.checkpoint}-{setting.profile}-{shape}"
                plot = plots.waits_over_time(side.runs[shape], name, f"{about}, {shape}: latency over time")
                blocks += [_picture(plot, pictures, shown)] if plot else []
                blocks.append(table.markdown())
        notes = [f"{run.directory.name}: {note}" for run in side.runs.values() for note in run.notes]
        if notes:
            blocks.append("\n\n".join(notes) + "\n")
    runs = [run for _, _, side in tables.sides(found) for run in side.runs.values()]
    blocks += ["### What made these figures\n", tables.run_table(runs).markdown()]
    return "\n".join(blocks), shown


def _picture(plot: Plot, folder: str, shown: list[Plot]) -> str:
    shown.append(plot)
    text = plot.text.replace("[", "(").replace("]", ")")
    return f"![{text}]({folder}/{plot.name}.svg)\n"


def replace_figures(document: str, figures: str) -> str:
    """The document with `figures` between its two markers. Raises ValueError where one of them is not there once."""
    if document.count(BEGIN) != 1 or document.count(END) != 1 or document.index(BEGIN) > document.index(END):
        raise ValueError(f"it must have the lines {BEGIN} and {END}, once each and in this order")
    before, rest = document.split(BEGIN)
    return f"{before}{BEGIN}\n\n{figures}\n{END}{rest.split(END)[1]}"


def write_docs(document: Path, found: Sequence[Setting], price: Price) -> None:
    """Write the part and the pictures; older pictures are removed. Raises ValueError as `replace_figures` does."""
    folder = document.with_suffix("")
    figures, shown = markdown(found, price, folder.name)
    text = replace_figures(document.read_text(encoding="utf-8"), figures)
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    for plot in shown:
        (folder / f"{plot.name}.svg").write_text(plot.svg, encoding="utf-8")
    document.write_text(text, encoding="utf-8")

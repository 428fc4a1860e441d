"""The comparison as a Markdown table."""

from loadtest.peers.results import Comparison, Result

TITLES = {"greedy": "greedy", "top-p": "top_p 0.9"}


def table(comparison: Comparison) -> str:
    """A row an engine, the best figure of each column in bold; then the machine's ceiling, and who is missing."""
    columns = _columns(comparison)
    heads = ["engine", "version", *(f"{TITLES[sampling]}, {n}" for sampling, n in columns)]
    heads += ["prefill", "MiB", "load"]
    best = {column: max((_rate(each, *column) or 0.0) for each in comparison.results) for column in columns}
    rows = [heads, ["---", "---", *["---:"] * (len(heads) - 2)]]
    for each in comparison.results:
        cells = [each.name, each.version]
        for column in columns:
            rate = _rate(each, *column)
            text = _number(rate)
            cells.append(f"**{text}**" if rate == best[column] else text)
        cells += [_number(each.prefill), _number(each.rss_mb), _number(each.load_s, ".2f", " s")]
        rows.append(cells)
    rows.append(_ceiling(comparison, columns))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines += [
        "",
        f"Tokens/s by number of sequences. `{comparison.command}`, {comparison.date}, {comparison.machine}.",
    ]
    lines += [f"Not measured: {each.name}: {each.why}." for each in comparison.missing]
    return "\n".join(lines) + "\n"


def _columns(comparison: Comparison) -> list[tuple[str, str]]:
    samplings = {sampling: None for each in comparison.results for sampling in each.decode}
    counts = {int(n) for each in comparison.results for rates in each.decode.values() for n in rates}
    return [(sampling, str(n)) for sampling in samplings for n in sorted(counts)]


def _rate(result: Result, sampling: str, n: str) -> float | None:
    return result.decode.get(sampling, {}).get(n)


def _ceiling(comparison: Comparison, columns: list[tuple[str, str]]) -> list[str]:
    most = (_number(comparison.ceilings.get(n)) for _, n in columns)
    return ["the machine's ceiling", "int8", *most, "", "", ""]


def _number(value: float | None, form: str = ",.0f", unit: str = "") -> str:
    return "-" if value is None else format(value, form) + unit

"""The table of docs/faults.md, written from a run of the tests."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

BEGIN = "<!-- What follows is written by: .venv/bin/python -m pytest tests/faults --faults-table docs/faults.md -->"
END = "<!-- This is its end. -->"

HEAD = ["fault", "a reader in flight sees", "a new reader sees", "seconds", "test"]


@dataclass(frozen=True)
class Row:
    """One fault.

    fault: what was done. in_flight: what those saw whose texts were being written. newcomer: what those saw who asked
    while it lasted. seconds: until the service answered again as before; None where it never stopped. test: its name.
    """

    fault: str
    in_flight: str
    newcomer: str
    seconds: float | None
    test: str

    def line(self) -> str:
        """Its line of the table."""
        seconds = "-" if self.seconds is None else f"{self.seconds:.1f}"
        return _line([self.fault, self.in_flight, self.newcomer, seconds, f"`{self.test}`"])


def write_table(page: Path, rows: Iterable[Row]) -> None:
    """Put the rows in the place of the page's table. ValueError where the page has no place for one."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {BEGIN!r} and {END!r} for the table to stand between")
    table = [_line(HEAD), _line(["---"] * len(HEAD)), *(row.line() for row in rows)]
    page.write_text(f"{before}{BEGIN}\n\n" + "\n".join(table) + f"\n\n{END}{after}")


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"

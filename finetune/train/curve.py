"""Loss curves, as a table and as a picture."""

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from finetune.files import whole
from server.weights.card import CURVE

CURVE_TABLE = "curve.csv"


@dataclass(frozen=True)
class Point:
    """What an evaluation found after `step` steps and `tokens` tokens.

    training_loss: nats a token, the mean since the point before; of smoothed targets where they were smoothed
    held_out_bits_per_byte: of the averaged weights
    """

    step: int
    tokens: int
    training_loss: float
    held_out_bits_per_byte: float

    def __str__(self) -> str:
        return (
            f"step {self.step}: training loss {self.training_loss:.4f},"
            f" held-out bits per byte {self.held_out_bits_per_byte:.4f}"
        )


def write_curve(folder: Path, curve: list[Point]) -> None:
    """Write `curve.csv` and `curve.svg`."""
    with whole(folder / CURVE_TABLE) as out:
        table = csv.DictWriter(out, [field.name for field in dataclasses.fields(Point)])
        table.writeheader()
        table.writerows(dataclasses.asdict(point) for point in curve)
    _draw(folder / CURVE, curve)


def read_curve(folder: Path) -> list[Point]:
    """What `write_curve` wrote. Raises FileNotFoundError when nothing was evaluated in `folder` yet."""
    with (folder / CURVE_TABLE).open(newline="") as file:
        return [
            Point(
                int(row["step"]),
                int(row["tokens"]),
                float(row["training_loss"]),
                float(row["held_out_bits_per_byte"]),
            )
            for row in csv.DictReader(file)
        ]


def _draw(file: Path, curve: list[Point]) -> None:
    from matplotlib import rc_context  # takes a second, which no --help needs
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps = [point.step for point in curve]
    (training,) = axes.plot(steps, [point.training_loss for point in curve], "C0.-")
    axes.set(xlabel="step", ylabel="training loss, nats a token")
    right = axes.twinx()
    (held_out,) = right.plot(steps, [point.held_out_bits_per_byte for point in curve], "C1.-")
    right.set_ylabel("held-out bits per byte")
    axes.legend([training, held_out], ["training", "held out"])
    with rc_context({"svg.hashsalt": file.name}), whole(file) as out:  # the same curve gives the same file
        figure.savefig(out, format="svg", metadata={"Date": None})

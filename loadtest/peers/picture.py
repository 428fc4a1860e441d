"""The comparison as a picture."""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.peers.results import Comparison
from loadtest.peers.table import TITLES


def draw(comparison: Comparison, file: Path) -> None:
    """As SVG: decode rates over the number of sequences, a panel a sampling. The same comparison, the same file."""
    samplings = list({sampling: None for each in comparison.results for sampling in each.decode})
    figure = Figure(figsize=(10, 5), layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, len(samplings), sharey=True, squeeze=False)[0])
    for axes, sampling in zip(panels, samplings, strict=True):
        for each in comparison.results:
            if rates := each.decode.get(sampling):
                ours = each.name.startswith("Pokegen")
                axes.plot(
                    [int(n) for n in rates],
                    list(rates.values()),
                    "o-",
                    lw=3 if ours else 1.2,
                    label=each.name,
                )
        counts = [int(n) for n in comparison.ceilings]
        axes.plot(counts, list(comparison.ceilings.values()), "k:", label="the machine's ceiling, int8")
        axes.set(xscale="log", yscale="log", xlabel="sequences", title=TITLES[sampling])
        axes.set_xticks(counts, [str(n) for n in counts])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("tokens/s of all sequences together")
    panels[0].set_yticks([10, 30, 100, 300, 1000, 3000], ["10", "30", "100", "300", "1,000", "3,000"])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    with rc_context({"svg.hashsalt": file.name}):
        figure.savefig(file, metadata={"Date": None})

"""What the benchmark found, as JSON and as a table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean, median

from server.bench.ceilings import Machine
from server.bench.fresh import Starts
from server.bench.measure import Decode, Workload
from server.engine import EngineName, Isa
from server.weights import HParams


@dataclass(frozen=True)
class Findings:
    """Every measurement.

    isa, threads: what computed. machines: the machine's ceilings. decodes: by number of sequences.
    prefills: tokens/s. first_tokens: seconds that a new reader waited while `others` ran.
    """

    checkpoint: str
    hparams: HParams
    engine: EngineName
    isa: Isa
    threads: int
    work: Workload
    machines: Sequence[Machine]
    decodes: dict[int, list[Decode]]
    prefills: Sequence[float]
    others: int
    first_tokens: Sequence[float]
    starts: Starts


@dataclass(frozen=True)
class Ceilings:
    """The machine's, the decode rates in tokens/s that follow from them, and the shares of these that were reached."""

    int8_macs_per_s: float
    bytes_per_s: float
    decode: dict[str, float]
    share: dict[str, float]


@dataclass(frozen=True)
class Report:
    """Medians; `spread` has the least and the most that went into each. Sequences are counted in the keys.

    decode: tokens/s of all sequences together. step_ms: of a step, which makes one token of each.
    mean_context: tokens that each attended to. prefill: tokens/s. first_token_s: of a new reader while `others` run.
    start_s: from a process's start to its first token, `packed` (with the packed cache file) and `unpacked` (without).
    rss_mb: MiB resident with the most sequences, of 256 tokens each. idle_rss_mb: before them, after the first token.
    peak_rss_mb: the most in all. loading_rss_mb: the most until the first token.
    """

    checkpoint: str
    hparams: HParams
    engine: EngineName
    isa: Isa
    threads: int
    workload: Workload
    decode: dict[str, float]
    step_ms: dict[str, float]
    mean_context: dict[str, float]
    prefill: float
    first_token_s: float
    others: int
    start_s: dict[str, float]
    rss_mb: float
    idle_rss_mb: float
    peak_rss_mb: float
    loading_rss_mb: dict[str, float]
    spread: dict[str, tuple[float, float]]
    ceilings: Ceilings

    def as_json(self) -> str:
        """The fields, indented."""
        return json.dumps(asdict(self), indent=2)

    def table(self) -> str:
        """The same for people."""
        work, loading = self.workload, self.loading_rss_mb
        lines = [
            f"{self.checkpoint}: {self.engine}, {self.isa}, {self.threads} threads; prompts of {work.context} tokens,"
            f" temperature {work.temperature:g}, top_k {work.top_k}, top_p {work.top_p:g}",
            "",
            "sequences      tok/s       least to most       step  context   ceiling  share",
        ]
        for n, rate in self.decode.items():
            least, most = self.spread[f"decode {n}"]
            lines.append(
                f"{n:>9}  {rate:9,.1f}  {f'{least:,.1f} to {most:,.1f}':>18}  {self.step_ms[n]:6.2f} ms"
                f"  {self.mean_context[n]:7.0f}  {self.ceilings.decode[n]:8,.0f}  {self.ceilings.share[n]:5.0%}"
            )
        lines += [
            "",
            f"prefill      {self.prefill:,.0f} tok/s",
            f"first token  after {1000 * self.first_token_s:.1f} ms, while {self.others} others run",
            f"start        {self.start_s['packed']:.2f} s to the first token with a packed cache,"
            f" {self.start_s['unpacked']:.2f} s without",
            f"memory       {self.rss_mb:.0f} MiB with {self.others + 1} sequences of 256 tokens,"
            f" {self.idle_rss_mb:.0f} idle, {self.peak_rss_mb:.0f} at most",
            f"             {loading['packed']:.0f} at most until the first token, {loading['unpacked']:.0f} without a"
            " packed cache",
            f"the machine  {self.ceilings.int8_macs_per_s / 1e9:,.0f} G int8 multiply-adds/s,"
            f" {self.ceilings.bytes_per_s / 1e9:.1f} GB/s read",
        ]
        return "\n".join(lines)


def summarise(findings: Findings) -> Report:
    """Medians and spreads; of the machine's ceilings the highest, for a lower one was disturbed."""
    machine = Machine(
        max(each.int8_macs_per_s for each in findings.machines),
        max(each.bytes_per_s for each in findings.machines),
    )
    rates = {n: [run.tokens_per_s for run in runs] for n, runs in findings.decodes.items()}
    contexts = {n: mean(run.context for run in runs) for n, runs in findings.decodes.items()}
    most = {
        n: machine.decode_ceiling(findings.hparams, findings.engine, n, context)
        for n, context in contexts.items()
    }
    packed, unpacked = findings.starts.packed, findings.starts.unpacked
    spread = {f"decode {n}": _ends(each) for n, each in rates.items()}
    spread |= {"prefill": _ends(findings.prefills), "first_token_s": _ends(findings.first_tokens)}
    return Report(
        checkpoint=findings.checkpoint,
        hparams=findings.hparams,
        engine=findings.engine,
        isa=findings.isa,
        threads=findings.threads,
        workload=findings.work,
        decode={str(n): _figures(median(each)) for n, each in rates.items()},
        step_ms={str(n): _figures(1000 * n / median(each)) for n, each in rates.items()},
        mean_context={str(n): _figures(context) for n, context in contexts.items()},
        prefill=_figures(median(findings.prefills)),
        first_token_s=_figures(median(findings.first_tokens)),
        others=findings.others,
        start_s={"packed": _figures(packed.first_token_s), "unpacked": _figures(unpacked.first_token_s)},
        rss_mb=_figures(packed.running_mb),
        idle_rss_mb=_figures(packed.idle_mb),
        peak_rss_mb=_figures(packed.peak_mb),
        loading_rss_mb={"packed": _figures(packed.loading_mb), "unpacked": _figures(unpacked.loading_mb)},
        spread=spread,
        ceilings=Ceilings(
            int8_macs_per_s=_figures(machine.int8_macs_per_s),
            bytes_per_s=_figures(machine.bytes_per_s),
            decode={str(n): _figures(rate) for n, rate in most.items()},
            share={str(n): _figures(median(each) / most[n]) for n, each in rates.items()},
        ),
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return _figures(min(values)), _figures(max(values))


def _figures(value: float) -> float:
    """The four figures of a value that a measurement can bear."""
    return float(f"{value:.4g}")

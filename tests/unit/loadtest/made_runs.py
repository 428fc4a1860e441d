"""Directories as a load test leaves them, with made-up figures that look like real ones."""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

REQUESTS = (
    "at", "story", "readers", "ending", "status", "first_token_s", "total_s", "tokens", "longest_gap_s",
    "retry_after_s", "error",
)  # fmt: skip
BOX = (
    "at", "readers", "rss_mb", "pss_mb", "cgroup_mb", "cpu_share", "throttled_share", "threads", "connections",
    "running", "waiting", "free_blocks", "tokens_per_second", "step_ms", "refused_total", "generator_cpu_share",
    "oom_kills",
)  # fmt: skip
STATUS = {"complete": 200, "left": 200, "refused": 503, "limited": 429, "deadline": 503, "failed": 502}
SHAPES = {
    "ramp": [(0, 1), (30, 16), (60, 64), (90, 128), (120, 192), (150, 256)],
    "spike": [(0, 100), (40, 2000), (80, 100)],
    "soak": [(0, 115)],
}
NAMES = {"spike": ("before", "spike", "after"), "soak": ("soak",)}


def write_csv(file: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """What a row lacks is an empty cell."""
    with file.open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, list(columns))
        table.writeheader()
        table.writerows(rows)


def write_run(
    directory: Path,
    *,
    about: Mapping[str, Any] | None = None,
    requests: Iterable[Mapping[str, Any]] = (),
    box: Iterable[Mapping[str, Any]] = (),
    stages: Iterable[tuple[float, int, str]] = ((0.0, 1, ""),),
    seconds: float | None = 60.0,
) -> Path:
    """A run of those rows. `about` replaces fields of run.json, and leaves out those that are None."""
    directory.mkdir(parents=True, exist_ok=True)
    told = {
        "service": "pokegen",
        "checkpoint": "124M",
        "profile": "t2.medium",
        "shape": "ramp",
        "length": 128,
        "started": "2026-01-31T12:00:00Z",
        "seconds": seconds,
        "machine": {"cpu": "a processor", "cpus": 2, "memory_mb": 24000},
        "box": {"cpus": 2.0, "memory_mb": 4096, "by": "cgroup"},
        "command": "python -m loadtest ramp",
        "settings": {"POKEGEN_MAX_WAIT": "5"},
        "versions": {"locust": "2.0"},
        "stages": [{"at": at, "readers": readers, "name": name} for at, readers, name in stages],
    } | dict(about or {})
    (directory / "run.json").write_text(json.dumps({k: v for k, v in told.items() if v is not None}))
    write_csv(directory / "readers.csv", REQUESTS, requests)
    write_csv(directory / "box.csv", BOX, box)
    return directory


def request(at: float, **fields: float | str) -> dict[str, Any]:
    """A row of a reader whose text came whole, unless told otherwise."""
    row = {
        "at": at,
        "story": "casual",
        "readers": 1,
        "ending": "complete",
        "first_token_s": 0.1,
        "total_s": 1.37,
        "tokens": 128,
        "longest_gap_s": 0.05,
        "error": "",
    } | fields
    return {"status": STATUS[str(row["ending"])]} | row


def pokegen(directory: Path, checkpoint: str, profile: str, shape: str, seed: int = 0) -> Path:
    """Ours: fast until its 130th reader (with the shipped checkpoint 5 times as many), then it refuses."""
    random = np.random.default_rng([seed, len(checkpoint), len(profile), len(shape)])
    scale = (5.0 if checkpoint == "run1" else 1.0) * (0.2 if profile.endswith("spent") else 1.0)
    whole = 1200.0 if shape == "soak" else 180.0 if shape == "ramp" else 120.0
    times = [
        (at, max(1, round(n * (scale if shape != "ramp" else max(scale, 1))))) for at, n in SHAPES[shape]
    ]
    names = NAMES.get(shape, [str(n) for _, n in times])
    requests, box = [], []
    for (at, readers), end in zip(times, [*(at for at, _ in times[1:]), whole], strict=True):
        holds = 130 * scale
        rate = min(readers / 8, holds / 8 * 1.2)
        for moment in np.arange(at, end, 1 / rate)[: int(rate * (end - at))]:
            busy = min(readers / holds, 1.4)
            first = (0.02 + 0.5 * busy**3) * random.lognormal(0, 0.35)
            pace = (0.006 + 0.07 * min(readers / holds, 1.2)) * random.lognormal(0, 0.1)
            kind = random.random()
            row = request(float(moment), readers=readers, first_token_s=round(first, 4))
            row |= {"total_s": round(first + 127 * pace, 4), "longest_gap_s": round(pace * 3, 4)}
            if kind < 0.1:
                row |= {
                    "ending": "left",
                    "tokens": 40,
                    "total_s": round(first + 39 * pace, 4),
                    "story": "impatient",
                }
            elif kind < 0.18:
                row |= {"first_token_s": "", "longest_gap_s": "", "story": "script"}
            requests.append(row)
        if readers > holds:
            for moment in np.arange(at, end, 1 / min(readers / 20, 60)):
                wait = round(0.004 * random.lognormal(0, 0.5), 4)
                row = request(float(moment), readers=readers, ending="refused", story="crowd", total_s=wait)
                requests.append(
                    row
                    | {
                        "first_token_s": "",
                        "tokens": 0,
                        "longest_gap_s": "",
                        "error": "busy",
                        "retry_after_s": 3,
                    }
                )
        for second in range(round(at), round(end)):
            used = (
                260 + 2.4 * min(readers, holds) * (1 if checkpoint == "124M" else 0.1) + random.normal(0, 1.5)
            )
            busy = min(readers / holds, 1.0)
            row = {
                "at": second,
                "readers": readers,
                "rss_mb": used * 1.02,
                "pss_mb": used,
                "cgroup_mb": used * 1.1,
            }
            row |= {
                "cpu_share": 1.75 * busy,
                "throttled_share": 0.1 * busy,
                "threads": 340,
                "connections": readers,
            }
            row |= {
                "running": round(64 * busy),
                "waiting": round(max(0, readers - holds) / 10),
                "free_blocks": 100,
            }
            row |= {"tokens_per_second": 2000 * busy, "step_ms": 20 + 10 * busy, "refused_total": 0}
            box.append({k: round(float(v), 3) for k, v in row.items()} | {"generator_cpu_share": 0.2 * busy})
    return write_run(
        directory / f"pokegen-{checkpoint}-{profile}-{shape}",
        about={
            "checkpoint": checkpoint,
            "profile": profile,
            "shape": shape,
            "box": {"cpus": 0.4 if profile.endswith("spent") else 2.0, "memory_mb": 4096, "by": "cgroup"},
        },
        requests=sorted(requests, key=lambda row: row["at"]),
        box=box,
        stages=[(at, readers, name) for (at, readers), name in zip(times, names, strict=True)],
        seconds=whole,
    )


def seed_design(directory: Path, checkpoint: str, profile: str) -> Path:
    """The seed design: seconds for one reader, no memory for three."""
    random = np.random.default_rng([7, len(checkpoint), len(profile)])
    alone = (14.0 if checkpoint == "124M" else 3.0) * (4 if profile.endswith("spent") else 1)
    times = [(90.0 * i, n) for i, n in enumerate((1, 2, 3, 5, 8, 16, 32))]
    requests, box = [], []
    for at, readers in times:
        for reader in range(readers):
            moment = at + reader * 0.01
            while moment < at + 89:
                takes = alone * max(1, min(readers, 5) / 2) * random.lognormal(0, 0.08) * max(1, readers / 5)
                row = request(moment, readers=readers, longest_gap_s="")
                dies = readers > 2 and random.random() < 0.4 + 0.05 * min(readers, 8)
                if takes > 60:
                    takes = 60.0
                    row |= {"ending": "failed", "status": 504, "error": "504 Gateway Time-out"}
                elif dies and checkpoint == "124M":
                    takes *= random.random()
                    row |= {"ending": "failed", "status": 502, "error": "502 Bad Gateway"}
                failed = row["ending"] == "failed"
                row |= {"total_s": round(takes, 3), "first_token_s": "" if failed else round(takes, 3)}
                requests.append(row | {"tokens": 0 if failed else 128})
                moment += takes
        for second in range(90):
            used = 420 + min(readers, 5) * (1500 if checkpoint == "124M" else 350) * (
                0.6 + 0.4 * random.random()
            )
            used = min(used, 4090)
            row = {
                "at": at + second,
                "readers": readers,
                "pss_mb": used,
                "rss_mb": used * 1.3,
                "cgroup_mb": used,
            }
            box.append(
                row
                | {
                    "cpu_share": 1.9,
                    "throttled_share": 0.3,
                    "generator_cpu_share": 0.01,
                    "oom_kills": at // 90,
                }
            )
    return write_run(
        directory / f"seed-{checkpoint}-{profile}-ramp",
        about={
            "service": "seed",
            "checkpoint": checkpoint,
            "profile": profile,
            "box": {"cpus": 0.4 if profile.endswith("spent") else 2.0, "memory_mb": 4096, "by": "cgroup"},
        },
        requests=sorted(requests, key=lambda row: row["at"]),
        box=box,
        stages=[(at, readers, str(readers)) for at, readers in times],
        seconds=630.0,
    )


def everything(directory: Path) -> list[Path]:
    """What all of `make loadtest` leaves."""
    made = []
    for checkpoint in ("run1", "124M"):
        for profile in ("t2.medium", "t2.medium-spent"):
            made += [pokegen(directory, checkpoint, profile, shape) for shape in SHAPES]
            made.append(seed_design(directory, checkpoint, profile))
    return made

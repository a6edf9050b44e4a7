"""Measure each way of working in a process of its own, print one table, and write it to ``bench-results/``."""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.table import Row, at_least, at_most, machine

ROOT: Final = Path(__file__).parents[2]
OFFICIAL: Final = ROOT / ".venv-qwen-asr" / "bin" / "python"
OFFICIAL_SIZES: Final = (1, 4, 16)
ABOUT: Final = Console(stderr=True)
LIMIT_S: Final = 3600

Figures = Mapping[str, Any]


def main() -> None:
    asked = _parser().parse_args()
    model = _checkpoint(asked.output, "tiny" if asked.quick else asked.size)
    rows = _measure(asked, {"model": str(model), "threads": asked.threads, "device": asked.device})
    table = Table("figure", "value", "target", "met", caption=machine())
    for row in rows:
        table.add_row(*row.cells, style="red" if row.met is False else None)
    Console().print(table)
    lines = [machine(), "", "| figure | value | target | met |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row.cells) + " |" for row in rows]
    (asked.output / "engines.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny model and three sounds: does it run at all?")
    parser.add_argument("--size", choices=["0.6b", "1.7b"], default="0.6b")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0: torch's choice")
    parser.add_argument("--precisions", nargs="+", choices=["bf16", "int8", "fp32"], default=["bf16", "int8"])
    parser.add_argument("--workloads", nargs="+", choices=["even", "mixed"], default=["even", "mixed"])
    parser.add_argument("--official", type=Path, default=OFFICIAL, help="interpreter that has qwen-asr")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-results", help="folder for the results")
    return parser


def _checkpoint(folder: Path, size: str) -> Path:
    """A checkpoint with random weights, made once; the authors' package reads this layout, too."""
    path = folder / f"qwen3-asr-{size}"
    if not (path / "config.json").exists():
        from tests.engines.qwen3.checkpoints import write_checkpoint  # noqa: PLC0415 - needs torch

        ABOUT.print(f"writing {path} …")
        write_checkpoint(path, layout="original", size=size)
    return path


def _measure(asked: argparse.Namespace, common: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for workload in ["quick"] if asked.quick else asked.workloads:
        best_official = None
        if asked.official.exists():
            script = [str(asked.official), str(Path(__file__).with_name("official.py"))]
            speeds = []
            for size in OFFICIAL_SIZES:
                figures = _run(script, {**common, "workload": workload, "size": size})
                speeds.append(_speed(figures))
                name = f"{workload}, qwen-asr 0.0.6 bf16, {size} at once"
                rows.append(Row("engines", name, speeds[-1], "audio s/s"))
                rows.append(Row("engines", f"{name}: peak memory", figures["peak_mb"], "MB"))
            best_official = max(speeds)
        for precision in asked.precisions:
            for batching in ("one", "static", "continuous"):
                config = {**common, "workload": workload, "precision": precision, "batching": batching}
                figures = _run([sys.executable, "-m", "benchmarks.engines.ours"], {**config, "first_s": 10.0})
                rows += _rows(f"{workload}, {precision}, {batching}", figures, workload, precision, batching)
                if batching == "continuous" and workload == "mixed" and best_official:
                    ratio = _speed(figures) / best_official
                    rows.append(Row("engines", f"{workload}, {precision} / best of qwen-asr", ratio, "", at_least(2)))
    return rows


def _run(command: Sequence[str], config: Mapping[str, Any]) -> Figures:
    ABOUT.print("measuring " + " ".join(f"{key}={value}" for key, value in config.items() if key != "model"))
    done = subprocess.run([*command, json.dumps(config)], cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=LIMIT_S)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _speed(figures: Figures) -> float:
    return float(figures["audio_s"] / figures["wall_s"])


def _rows(name: str, figures: Figures, workload: str, precision: str, batching: str) -> list[Row]:
    wall_s, target = figures["wall_s"], None
    if (workload, batching) == ("even", "continuous"):
        target = {"bf16": at_least(10), "int8": at_least(15)}.get(precision)
    rows = [Row("engines", name, _speed(figures), "audio s/s", target)]
    rows.append(Row("engines", f"{name}: peak memory", figures["peak_mb"], "MB"))
    if batching == "one":
        rows.append(Row("engines", f"{name}: first token of 10 s", figures["first_s"], "s", at_most(0.6)))
    known = 0.0
    for part in ("encoder", "prefill", "decode"):
        known += figures[f"{part}_s"]
        rows.append(Row("engines", f"{name}: {part}", 100 * figures[f"{part}_s"] / wall_s, "%"))
    rows.append(Row("engines", f"{name}: all else", 100 * (wall_s - known) / wall_s, "%"))
    if figures["steps"]:
        step_ms = 1000 * figures["decode_s"] / figures["steps"]
        reached = figures["read_gb"] / figures["decode_s"]
        rows.append(Row("engines", f"{name}: decode step", step_ms, "ms"))
        rows.append(Row("engines", f"{name}: decode reads, of {figures['gb_per_s']:.1f} GB/s", reached, "GB/s"))
    return rows


if __name__ == "__main__":
    main()

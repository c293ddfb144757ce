"""Losses of fp32 and bf16 side by side over whole runs: MiniLM on film snippets, the standard ablation `axis=precision`.

Both precisions train from the same weights on the same samples in the same order, with the same dropout. A second seed shows
how far two runs of one precision are apart.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import ablate
from ablate.training.hardware import bf16_instructions
from benchmarks import _shared

EXAMPLES = """\
  python -m benchmarks.precision
  python -m benchmarks.precision --seeds 5 --samples 8192 --overrides optim.lr=2e-4
  python -m benchmarks.precision --quick
"""


def main(argv: list[str] | None = None) -> int:
    """Train, tabulate, print."""
    arguments = _arguments(argv)
    device = _shared.pick_device(arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        table = _losses(_study(arguments, str(device), Path(folder)))
    _shared.finish(arguments, *_report(arguments, device, table))
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _shared.parser(__doc__, EXAMPLES)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=3072, help="that each run trains on")
    parser.add_argument("--evaluations", type=int, default=12, help="evenly spaced")
    parser.add_argument("--examples", type=int, default=256, help="that each evaluation reads")
    parser.add_argument("--overrides", default="", help="of the config, separated by blanks")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.seeds, arguments.samples, arguments.evaluations, arguments.examples = 1, 64, 2, 16
    return arguments


def _study(arguments: argparse.Namespace, device: str, folder: Path) -> Path:
    """The directory of the study, after it has run."""
    overrides = [
        "axis=precision", "train.precision=fp32", f"train.device={device}", f"train.budget={arguments.samples} samples",
        f"eval.every={arguments.samples // arguments.evaluations} samples", f"eval.max_examples={arguments.examples}",
        f"study.seeds={arguments.seeds}", "study.name=precision", f"study.output_dir={folder}", *arguments.overrides.split(),
    ]  # fmt: skip
    command = [sys.executable, "-m", "ablate.cli", "-m", *overrides]
    done = subprocess.run(command, cwd=_shared.ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:])} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return folder / "precision"


def _losses(folder: Path) -> pd.DataFrame:
    """Eval loss by training samples (rows), and by seed and precision (columns); and the training loss since the row before."""
    study = ablate.load(folder)
    evals, steps = study.evals, study.steps
    evals = evals[evals["metric"] == "loss"]
    points = sorted(evals["samples"].unique())
    steps = steps.assign(samples=pd.cut(steps["samples"].astype(float), points, labels=points[1:]).astype(float))
    parts = {
        "eval": evals.pivot_table(index="samples", columns=["seed", "arm"], values="value", observed=True),
        "training": steps.pivot_table(index="samples", columns=["seed", "arm"], values="loss", observed=True),
    }
    return pd.concat(parts, axis=1)


def _report(arguments: argparse.Namespace, device: torch.device, table: pd.DataFrame) -> tuple[str, dict[str, Any]]:
    baseline, other = table["eval"].columns.get_level_values("arm").unique()
    seeds = table["eval"].columns.get_level_values("seed").unique().tolist()
    apart = {
        part: {seed: (table[part, seed, other] - table[part, seed, baseline]).abs() for seed in seeds}
        for part in ("eval", "training")
    }
    between = [
        (table["eval", one, baseline] - table["eval", two, baseline]).abs().max()
        for k, one in enumerate(seeds)
        for two in seeds[k + 1 :]
    ]
    head = ["samples"] + [
        f"{part} loss, seed {seed}: {name}" for part in apart for seed in seeds for name in ("fp32", "bf16")
    ]
    rows = [
        [
            f"{samples:.0f}",
            *(_loss(row[part, seed, arm]) for part in apart for seed in seeds for arm in (baseline, other)),
        ]
        for samples, row in table.iterrows()
    ]
    instructions = bf16_instructions() if device.type == "cpu" else "the GPU's bf16 arithmetic"
    sentences = [
        f"Largest difference of the precisions at one evaluation: {max(one.max() for one in apart['eval'].values()):.4f}; "
        f"at the end {max(one.iloc[-1] for one in apart['eval'].values()):.4f}.",
        f"Two seeds of fp32 differ by up to {max(between):.4f}." if between else "",
        f"bf16 by {instructions}."
        if instructions
        else "This CPU has no bf16 instructions: torch rounds to bf16 in software.",
    ]
    text = "\n".join(
        [
            "## Losses of fp32 and bf16 over whole runs",
            "",
            f"On {_shared.device_name(device)}; MiniLM on film snippets, {arguments.samples} samples, "
            f"{arguments.examples} examples per evaluation{', ' + arguments.overrides if arguments.overrides else ''}; "
            f"training loss: mean since the row before; torch {torch.__version__}.",
            "",
            _shared.table(head, rows),
            "",
            " ".join(filter(None, sentences)),
            "",
        ]
    )
    figures = {
        "benchmark": "precision",
        "device": _shared.device_name(device),
        "versions": _shared.versions("transformers", "torch-ablate"),
        "arguments": {k: v for k, v in vars(arguments).items() if k != "json"},
        "losses": dict(zip(head, map(list, zip(*rows, strict=True)), strict=True)),
    }
    return text, figures


def _loss(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.4f}"


if __name__ == "__main__":
    raise SystemExit(main())

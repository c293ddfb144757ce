"""Whether every standard ablation still does what its file declares: each is run, small, and its controls are read.

Axes that need the same baseline share one study (`debug=quick`: a BERT of two layers with random weights, 32 steps, two seeds)
at twenty times the usual rate. An axis passes where every control of every arm is passed: one variable, what is held is held,
it took effect, settings applied. Of a systems axis also the largest difference to the baseline that any step of any seed had is
shown, relative: there the arms must agree but for rounding. The exit code is 1 where an axis does not pass.

Effects at this size mean nothing, and verdicts are shown to see that they come out.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ablate import read_trace
from ablate.design.axis import Axis
from ablate.planning.compose import opened
from benchmarks import _shared

EXAMPLES = """\
  python -m benchmarks.axes
  python -m benchmarks.axes --only accumulation,compile --folder /tmp/axes     # and inspect it afterwards
  python -m benchmarks.axes --quick                                            # two axes
"""
BASE = ("debug=quick", "optim.lr=1e-3")
OF_MINILM = ("model=minilm", "train.budget='64 samples'", "eval.max_examples=16", "optim.lr=5e-5")
INSTEAD: dict[str, tuple[str, ...]] = {
    "reinit_top_layers": OF_MINILM,
    "random_init": OF_MINILM,
    "eval_every_coarse": ("train.budget='4000 samples'", "eval.every='160 samples'"),
    "eval_every": ("train.budget='1024 samples'",),
    "log_every": ("train.budget='1024 samples'",),
    "log_every_coarse": ("train.budget='4000 samples'",),
    "accumulation": ("model.dropout=0.0", "train.budget='1024 samples'"),
    "attention": ("model.dropout=0.0", "train.budget='1024 samples'"),
    "column": ("data.path={folder}/reviews.csv", "data.text_column=review", "data.extra_text_columns=[title]"),
}
"""What an axis requires at this size instead of its own `requires`: pretrained layers, more steps than its evaluation interval,
a run that is long enough to show rounding, a file."""


def main(argv: list[str] | None = None) -> int:
    """Run and report; 1 where a control is not as it must be."""
    parser = _shared.parser(__doc__, EXAMPLES)
    parser.add_argument("--only", default="", help="comma-separated axes; all of them without it")
    parser.add_argument("--folder", type=Path, help="where the studies are left; a temporary folder without it")
    arguments = parser.parse_args(argv)
    with opened() as composer:
        wanted = arguments.only.split(",") if arguments.only else composer.axis_names()
        axes = composer.axes(["max_grad_norm", "warmup"] if arguments.quick else wanted)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        _write_reviews(folder / "reviews.csv")
        found = [one for beside, mine in _by_baseline(axes) for one in _study(folder, beside, mine, arguments.device)]
    found.sort(key=lambda one: one["axis"])
    _shared.finish(arguments, *_report(arguments, found))
    return int(any(one["problems"] for one in found))


def _by_baseline(axes: Iterable[Axis]) -> list[tuple[tuple[str, ...], list[Axis]]]:
    """Axes that may share a baseline, by what it is given."""
    groups: dict[tuple[str, ...], list[Axis]] = {}
    for axis in axes:
        groups.setdefault(INSTEAD.get(axis.name, axis.requires), []).append(axis)
    return sorted(groups.items())


def _write_reviews(path: Path) -> None:
    """200 film snippets in two columns, the first three words of each as its title."""
    from ablate.config.schema import DataConfig
    from ablate.data.datasets import load_examples

    pool = load_examples(DataConfig(name="movie_snippets", max_examples=200))
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["title", "review", "label"])
        for text, label in zip(pool.text, pool.label.tolist(), strict=True):
            parts = text.split(" ")
            rows.writerow([" ".join(parts[:3]), " ".join(parts[3:]) or "no more", label])


def _study(folder: Path, beside: Sequence[str], axes: Sequence[Axis], device: str) -> list[dict[str, Any]]:
    """What came of each axis of one study."""
    name = "+".join(axis.name for axis in axes)[:60]
    given = [text.format(folder=folder) for text in beside]
    command = ["-m", f"axis={','.join(axis.name for axis in axes)}", *BASE, *given, f"study.name={name}"]
    command += [f"study.output_dir={folder}", "study.confirm_above_hours=null", f"train.device={device}"]
    print(f"  ablate {shlex.join(command)}", file=sys.stderr, flush=True)
    environment = os.environ | {"PYTHONPATH": str(_shared.ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "ablate.cli", *command],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    path = folder / name / "analysis.json"
    if not path.exists():
        problem = (done.stderr or done.stdout).strip().splitlines()[-2:]
        return [_row(axis, problems=[" ".join(problem)]) for axis in axes]
    analysis = json.loads(path.read_text(encoding="utf-8"))
    return [_read(axis, analysis, folder / name) for axis in axes]


def _row(axis: Axis, **found: Any) -> dict[str, Any]:
    empty = {"arms": 0, "checked": 0, "controls": 0, "verdicts": {}, "apart": {}, "seconds": 0.0, "problems": []}
    return {"axis": axis.name, "kind": axis.kind} | empty | found


def _read(axis: Axis, analysis: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    arms = [arm["name"] for arm in analysis["arms"] if arm["axis"] == axis.name]
    controls = [one for one in analysis["controls"] if one["arm"] in arms]
    runs = [run for run in analysis["runs"] if run["arm"] in arms]
    verdicts = Counter(one["verdict"] for one in analysis["contrasts"] if one["primary"] and one["arm"] in arms)
    problems = [one["sentence"] for one in controls if one["status"] != "checked"]
    problems += [f"{run['folder']}: {run['status']}: {run['sentence']}" for run in runs if run["status"] != "finished"]
    if not arms:
        problems.append("no arm")
    apart = [_apart(folder, run) for run in runs] if axis.kind == "systems" else []
    return _row(
        axis,
        arms=len(arms),
        controls=len(controls),
        checked=sum(one["status"] == "checked" for one in controls),
        verdicts=dict(verdicts),
        apart={column: max(one[column] for one in apart) for column in ("loss", "grad_norm")} if apart else {},
        seconds=sum(_seconds(folder / run["folder"]) for run in runs),
        problems=problems,
    )


def _apart(folder: Path, run: Mapping[str, Any]) -> dict[str, float]:
    """Largest relative difference of a run's steps to those of the baseline of its seed."""
    ours = read_trace(folder / run["folder"] / "trace.arrow")
    theirs = read_trace(folder / "baseline" / f"seed={run['seed']}" / "trace.arrow")
    return {
        name: float(np.max(np.abs(ours[name] - theirs[name]) / np.abs(theirs[name]))) for name in ("loss", "grad_norm")
    }


def _seconds(folder: Path) -> float:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    started, ended = (datetime.fromisoformat(manifest[key]) for key in ("started", "ended"))
    return (ended - started).total_seconds()


def _report(arguments: argparse.Namespace, found: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    device = _shared.device_name(_shared.pick_device(arguments.device))
    header = ("axis", "kind", "arms", "controls checked", "verdicts", "loss apart", "grad norm apart", "seconds")
    rows = [
        (
            one["axis"],
            one["kind"],
            str(one["arms"]),
            f"{one['checked']} of {one['controls']}",
            ", ".join(f"{count} {verdict}" for verdict, count in sorted(one["verdicts"].items())) or "-",
            *(f"{one['apart'][key]:.1e}" if one["apart"] else "" for key in ("loss", "grad_norm")),
            f"{one['seconds']:.0f}",
        )
        for one in found
    ]
    problems = [f"- {one['axis']}: {problem}" for one in found for problem in one["problems"]]
    text = f"## Every standard ablation, at debug size\n\n{_shared.table(header, rows)}\n"
    text += "\n".join(["\nNot as it must be:\n", *problems, ""]) if problems else "\nEvery control is passed.\n"
    figures = {"benchmark": "axes", "device": device, "versions": _shared.versions("transformers"), "axes": list(found)}
    return text, figures


if __name__ == "__main__":
    raise SystemExit(main())

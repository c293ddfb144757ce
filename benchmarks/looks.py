"""Few, well placed looks against many: 20 log-spaced looks at 1,000 examples, and 2,000 examples every 20 steps.

The same training twice (same weights, order and dropout: that the final weights are equal bit for bit is checked), looked at in
two ways. Shown are both curves of the held-out loss on the steps of the sparse looks, the dense curve interpolated linearly
between its two nearest looks; their largest difference in standard errors of the sparse subset; and the seconds that the looks
took. A dense curve costs more the longer one trains, twenty looks do not: the ratio is also computed for longer trainings, from
the measured seconds per look.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import _loops, _shared

EXAMPLES = """\
  python -m benchmarks.looks --steps 400
  python -m benchmarks.looks --data imdb_reviews --length 128 --steps 400
  python -m benchmarks.looks --quick
"""
TARGET = 0.1
"""Of the dense looks' seconds."""
BATCH_SIZE = 8
LONGER = {"one epoch of 25,000 reviews": 3125, "three epochs of them": 9375}


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """subset: the first `--subset` of `held_out`."""

    train: list[_shared.Sample]
    held_out: list[_shared.Sample]
    subset: list[_shared.Sample]


@dataclass(frozen=True, slots=True)
class Looked:
    """One training. curve: of the held-out loss. look_seconds: of each look."""

    curve: Any
    look_seconds: list[float]
    train_seconds: float
    weights: str | None

    @property
    def eval_seconds(self) -> float:
        return sum(self.look_seconds)


def main(argv: list[str] | None = None) -> int:
    """Train twice, print, and exit with 1 where looking has changed the training."""
    arguments = _arguments(argv)
    _shared.be_quiet()
    _shared.set_threads(arguments.threads)
    device = _shared.pick_device(arguments.device)
    data = _load(arguments)
    with tempfile.TemporaryDirectory() as name:
        _shared.save_model("minilm", Path(name) / "model", dropout=0.1)
        sparse = _train(
            arguments, device, data, Path(name), data.subset, spacing="log", num_evaluations=arguments.looks
        )
        dense = _train(arguments, device, data, Path(name), data.held_out, spacing="even", every=arguments.every)
    text, figures = _report(arguments, device, data, sparse, dense)
    _shared.finish(arguments, text, figures)
    if sparse.weights != dense.weights:
        print("the two trainings end in different weights: looking has changed one of them")
        return 1
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _shared.parser(__doc__, EXAMPLES)
    parser.add_argument("--data", choices=("movie_snippets", "imdb_reviews"), default="movie_snippets")
    parser.add_argument("--length", type=int, default=64, help="tokens at which texts are cut")
    parser.add_argument("--layers", type=int, default=6, help="of MiniLM, from the bottom: fewer are quicker")
    parser.add_argument("--steps", type=int, default=400, help="of 8 examples each")
    parser.add_argument("--held-out", type=int, default=2000, help="examples of the dense looks")
    parser.add_argument("--subset", type=int, default=1000, help="of them, for the sparse looks")
    parser.add_argument("--every", default="20 steps", help="between dense looks")
    parser.add_argument("--looks", type=int, default=20, help="log-spaced ones, the one before training not counted")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.threads = arguments.threads or 1
        arguments.steps, arguments.held_out, arguments.subset, arguments.length = 20, 40, 20, 16
        arguments.every, arguments.looks = "5 steps", 4
    return arguments


def _load(arguments: argparse.Namespace) -> Data:
    """Held out first, then as much to train on as one pass needs; cut and tokenised once for both trainings."""
    from ablate.config.schema import DataConfig
    from ablate.data.datasets import load_examples

    pool = load_examples(DataConfig(name=arguments.data))
    count = arguments.held_out + min(arguments.steps * BATCH_SIZE, len(pool) - arguments.held_out)
    chosen = np.random.default_rng(0).permutation(len(pool))[:count].tolist()
    samples = _shared.tokenise([pool.text[k] for k in chosen], pool.label[chosen].tolist(), arguments.length)
    held_out = samples[: arguments.held_out]
    return Data(train=samples[arguments.held_out :], held_out=held_out, subset=held_out[: arguments.subset])


def _measure(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Loss of each text, in nats."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
    return {"loss": functional.cross_entropy(logits, batch["labels"], reduction="none")}


def _train(
    arguments: argparse.Namespace,
    device: torch.device,
    data: Data,
    folder: Path,
    looked_at: list[_shared.Sample],
    **when: Any,
) -> Looked:
    """One training with these looks; texts of like length are evaluated together in both."""
    from ablate import Evaluation, Streams, train

    model: Any = _shared.load_model(folder / "model").to(device)
    model.base_model.encoder.layer = model.base_model.encoder.layer[: arguments.layers]
    model.config.num_hidden_layers = arguments.layers
    _loops.turn_on_unpad(model)
    order = sorted(range(len(looked_at)), key=lambda k: len(looked_at[k][0]))
    result = train(
        model, data.train, _shared.text_objective, optimizer=_shared.fused_adamw(model),
        budget=f"{arguments.steps} steps", batch_size=BATCH_SIZE, max_grad_norm=_shared.CLIP_NORM, precision="fp32",
        device=str(device), collate=_shared.pad_batch, streams=Streams(seed=0),
        evaluation=Evaluation(examples=looked_at, measure=_measure, order=order, **when),
    )  # fmt: skip
    seconds = result.evals.table["eval_seconds"].to_pylist()
    train_seconds = float(result.trace["step_seconds"].sum())
    return Looked(result.evals.curve("loss"), seconds, train_seconds, result.outcome.weights_sha256)


# ---- report -----------------------------------------------------------------------------------------------------------


def _common_grid(sparse: Looked, dense: Looked) -> list[tuple[int, float, float, float]]:
    """(step, sparse loss, dense loss at that step, standard error of the sparse one)."""
    at = np.interp(sparse.curve.step, dense.curve.step, dense.curve.value)
    rows = zip(sparse.curve.step, sparse.curve.value, at, sparse.curve.standard_error, strict=True)
    return [(int(step), float(few), float(many), float(error)) for step, few, many, error in rows]


def _ratio_at(steps: int, sparse: Looked, dense: Looked, gap: float) -> float:
    """Sparse seconds / dense seconds of a training of so many steps, from the median seconds of one look of each kind."""
    one_sparse, one_dense = (statistics.median(looked.look_seconds) for looked in (sparse, dense))
    return len(sparse.look_seconds) * one_sparse / ((1 + -(-steps // gap)) * one_dense)


def _compare(arguments: argparse.Namespace, data: Data, sparse: Looked, dense: Looked) -> dict[str, Any]:
    """Every figure of the report but the seconds."""
    grid = _common_grid(sparse, dense)
    # Between two dense looks the dense curve is a guess, worst before its first: apart from where both have looked.
    gap = int(dense.curve.step[1] - dense.curve.step[0])
    apart = [(step, abs(few - many) / error) for step, few, many, error in grid]
    return {
        "same_weights": sparse.weights == dense.weights,
        "cost_ratio": sparse.eval_seconds / dense.eval_seconds,
        "cost_ratio_computed": {name: _ratio_at(steps, sparse, dense, gap) for name, steps in LONGER.items()},
        "a_tenth_from_steps": next(n for n in range(gap, 10**7, gap) if _ratio_at(n, sparse, dense, gap) <= TARGET),
        "apart_where_both_looked": max(ratio for step, ratio in apart if step == 0 or step >= gap),
        "apart_before": max((ratio for step, ratio in apart if 0 < step < gap), default=None),
        # The subset is part of what the dense looks see, so its mean is nearer to theirs than to the population's.
        "apart_by_drawing": float(np.sqrt(1 - len(data.subset) / len(data.held_out))),
        "grid": [dict(zip(("step", "sparse", "dense", "standard_error"), row, strict=True)) for row in grid],
        "dense_curve": {"step": dense.curve.step.tolist(), "loss": dense.curve.value.tolist()},
        "title": f"{arguments.looks} log-spaced looks against a look every {arguments.every}",
    }


def _report(
    arguments: argparse.Namespace, device: torch.device, data: Data, sparse: Looked, dense: Looked
) -> tuple[str, dict[str, Any]]:
    found = _compare(arguments, data, sparse, dense)
    longer = [f"{v:.3f} at {LONGER[name]:,} steps ({name})" for name, v in found["cost_ratio_computed"].items()]
    before = found["apart_before"]
    text = "\n".join(
        [
            f"## {found['title']}",
            "",
            f"On {_shared.setting(device)}; MiniLM ({arguments.layers} of 6 layers), {arguments.data}, "
            f"{arguments.length} tokens, {arguments.steps} steps of "
            f"{BATCH_SIZE}; torch {torch.__version__}. Final weights of the two trainings: "
            f"{'equal bit for bit' if found['same_weights'] else 'DIFFERENT'}.",
            "",
            _shared.table(
                ["looks", "number", "examples", "s", "s per look", "training, s"],
                [
                    _cost_row("log-spaced", len(data.subset), sparse),
                    _cost_row(f"every {arguments.every}", len(data.held_out), dense),
                ],
            ),
            "",
            f"Cost of the sparse looks / cost of the dense ones: **{found['cost_ratio']:.3f}** at {arguments.steps} steps, "
            f"measured. Computed from the seconds per look: {', '.join(longer)}; a tenth from "
            f"{found['a_tenth_from_steps']:,} steps on.",
            "",
            f"Largest difference of the curves: {found['apart_where_both_looked']:.2f} standard errors of the subset where "
            "both have looked"
            + (f"; {before:.2f} before the dense curve's first look after the start" if before is not None else "")
            + f". Drawing the subset alone puts them {found['apart_by_drawing']:.2f} apart, root mean square.",
            "",
            _shared.table(
                ["step", "sparse", "dense", "standard error", "apart, in standard errors"],
                [_grid_row(**row) for row in found["grid"]],
            ),
            "",
        ]
    )
    figures = {
        "benchmark": "looks",
        "device": _shared.setting(device),
        "versions": _shared.versions("transformers", "torch-ablate"),
        "arguments": {k: v for k, v in vars(arguments).items() if k != "json"},
        "eval_seconds": {"sparse": sparse.eval_seconds, "dense": dense.eval_seconds},
        "look_seconds": {"sparse": sparse.look_seconds, "dense": dense.look_seconds},
        "train_seconds": {"sparse": sparse.train_seconds, "dense": dense.train_seconds},
    }
    return text, figures | found


def _grid_row(step: int, sparse: float, dense: float, standard_error: float) -> list[str]:
    apart = abs(sparse - dense) / standard_error
    return [str(step), f"{sparse:.4f}", f"{dense:.4f}", f"{standard_error:.4f}", f"{apart:.2f}"]


def _cost_row(name: str, count: int, looked: Looked) -> list[str]:
    per_look = statistics.median(looked.look_seconds)
    numbers = [f"{looked.eval_seconds:.1f}", f"{per_look:.2f}", f"{looked.train_seconds:.1f}"]
    return [name, f"{len(looked.look_seconds)}", f"{count:,}", *numbers]


if __name__ == "__main__":
    raise SystemExit(main())

"""Compare few log-spaced evaluations with many: 20 on 1,000 examples, and 2,000 examples every 20 steps.

The same training runs twice with different evaluation cadences; its final weights must be equal bit for bit. The
report shows both curves of the held-out loss at the steps of the sparse evaluations (the dense curve is interpolated
linearly), their largest difference in standard errors of the sparse subset, and the seconds of evaluation. The cost
of a dense curve grows with the length of training, that of twenty evaluations does not, so the ratio is also computed
for longer trainings.
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
  python -m benchmarks.evaluations --steps 400
  python -m benchmarks.evaluations --data imdb_reviews --length 128 --steps 400
  python -m benchmarks.evaluations --quick
"""
TARGET = 0.1
"""Target fraction of the seconds of the dense evaluations."""
BATCH_SIZE = 8
LONGER = {"one epoch of 25,000 reviews": 3125, "three epochs of them": 9375}


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """subset: the first `--subset` of `held_out`."""

    train: list[_shared.Sample]
    held_out: list[_shared.Sample]
    subset: list[_shared.Sample]


@dataclass(frozen=True, slots=True)
class Training:
    """One training: its curve of the held-out loss, and the seconds of each evaluation."""

    curve: Any
    evaluation_seconds: list[float]
    train_seconds: float
    weights: str | None

    @property
    def eval_seconds(self) -> float:
        return sum(self.evaluation_seconds)


def main(argv: list[str] | None = None) -> int:
    """Train twice, print, and exit with 1 if evaluation changed the training."""
    arguments = _arguments(argv)
    _shared.be_quiet()
    _shared.set_threads(arguments.threads)
    device = _shared.pick_device(arguments.device)
    data = _load(arguments)
    with tempfile.TemporaryDirectory() as name:
        _shared.save_model("minilm", Path(name) / "model", dropout=0.1)
        sparse = _train(
            arguments, device, data, Path(name), data.subset, spacing="log", num_evaluations=arguments.evaluations
        )
        dense = _train(arguments, device, data, Path(name), data.held_out, spacing="even", every=arguments.every)
    text, figures = _report(arguments, device, data, sparse, dense)
    _shared.finish(arguments, text, figures)
    if sparse.weights != dense.weights:
        print("expected equal final weights of both trainings, got different ones: evaluation changed one of them")
        return 1
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _shared.parser(__doc__, EXAMPLES)
    parser.add_argument("--data", choices=("movie_snippets", "imdb_reviews"), default="movie_snippets")
    parser.add_argument("--length", type=int, default=64, help="tokens at which texts are cut")
    parser.add_argument("--layers", type=int, default=6, help="of MiniLM, from the bottom: fewer are quicker")
    parser.add_argument("--steps", type=int, default=400, help="of 8 examples each")
    parser.add_argument("--held-out", type=int, default=2000, help="examples of the dense evaluations")
    parser.add_argument("--subset", type=int, default=1000, help="number of them for the sparse evaluations")
    parser.add_argument("--every", default="20 steps", help="interval of the dense evaluations")
    parser.add_argument(
        "--evaluations", type=int, default=20, help="log-spaced evaluations, without the one before training"
    )
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.threads = arguments.threads or 1
        arguments.steps, arguments.held_out, arguments.subset, arguments.length = 20, 40, 20, 16
        arguments.every, arguments.evaluations = "5 steps", 4
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
    examples: list[_shared.Sample],
    **when: Any,
) -> Training:
    """Run one training with these evaluations; texts of similar length are evaluated together."""
    from ablate import Evaluation, Streams, train

    model: Any = _shared.load_model(folder / "model").to(device)
    model.base_model.encoder.layer = model.base_model.encoder.layer[: arguments.layers]
    model.config.num_hidden_layers = arguments.layers
    _loops.turn_on_unpad(model)
    order = sorted(range(len(examples)), key=lambda k: len(examples[k][0]))
    result = train(
        model, data.train, _shared.text_objective, optimizer=_shared.fused_adamw(model),
        budget=f"{arguments.steps} steps", batch_size=BATCH_SIZE, max_grad_norm=_shared.CLIP_NORM, precision="fp32",
        device=str(device), collate=_shared.pad_batch, streams=Streams(seed=0),
        evaluation=Evaluation(examples=examples, measure=_measure, order=order, **when),
    )  # fmt: skip
    seconds = result.evals.table["eval_seconds"].to_pylist()
    train_seconds = float(result.trace["step_seconds"].sum())
    return Training(result.evals.curve("loss"), seconds, train_seconds, result.outcome.weights_sha256)


# ---- report -----------------------------------------------------------------------------------------------------------


def _common_grid(sparse: Training, dense: Training) -> list[tuple[int, float, float, float]]:
    """(step, sparse loss, dense loss at that step, standard error of the sparse one)."""
    at = np.interp(sparse.curve.step, dense.curve.step, dense.curve.value)
    rows = zip(sparse.curve.step, sparse.curve.value, at, sparse.curve.standard_error, strict=True)
    return [(int(step), float(few), float(many), float(error)) for step, few, many, error in rows]


def _ratio_at(steps: int, sparse: Training, dense: Training, gap: float) -> float:
    """Sparse seconds / dense seconds of a training of so many steps, from the median seconds of one evaluation of each kind."""
    one_sparse, one_dense = (statistics.median(training.evaluation_seconds) for training in (sparse, dense))
    return len(sparse.evaluation_seconds) * one_sparse / ((1 + -(-steps // gap)) * one_dense)


def _compare(arguments: argparse.Namespace, data: Data, sparse: Training, dense: Training) -> dict[str, Any]:
    """Every figure of the report but the seconds."""
    grid = _common_grid(sparse, dense)
    # Between two dense evaluations the dense curve is interpolated, and worst before its first: these are reported separately.
    gap = int(dense.curve.step[1] - dense.curve.step[0])
    apart = [(step, abs(few - many) / error) for step, few, many, error in grid]
    return {
        "same_weights": sparse.weights == dense.weights,
        "cost_ratio": sparse.eval_seconds / dense.eval_seconds,
        "cost_ratio_computed": {name: _ratio_at(steps, sparse, dense, gap) for name, steps in LONGER.items()},
        "a_tenth_from_steps": next(n for n in range(gap, 10**7, gap) if _ratio_at(n, sparse, dense, gap) <= TARGET),
        "apart_at_common_steps": max(ratio for step, ratio in apart if step == 0 or step >= gap),
        "apart_before": max((ratio for step, ratio in apart if 0 < step < gap), default=None),
        # The subset is part of the examples of the dense evaluations, so its mean is nearer to theirs than to the population's.
        "apart_by_drawing": float(np.sqrt(1 - len(data.subset) / len(data.held_out))),
        "grid": [dict(zip(("step", "sparse", "dense", "standard_error"), row, strict=True)) for row in grid],
        "dense_curve": {"step": dense.curve.step.tolist(), "loss": dense.curve.value.tolist()},
        "title": f"{arguments.evaluations} log-spaced evaluations against one every {arguments.every}",
    }


def _report(
    arguments: argparse.Namespace, device: torch.device, data: Data, sparse: Training, dense: Training
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
                ["cadence", "number", "examples", "s", "s per evaluation", "training, s"],
                [
                    _cost_row("log-spaced", len(data.subset), sparse),
                    _cost_row(f"every {arguments.every}", len(data.held_out), dense),
                ],
            ),
            "",
            f"Cost of the sparse evaluations / cost of the dense ones: **{found['cost_ratio']:.3f}** at "
            f"{arguments.steps} steps, measured. Computed from the seconds per evaluation: {', '.join(longer)}; a tenth from "
            f"{found['a_tenth_from_steps']:,} steps on.",
            "",
            f"Largest difference of the curves: {found['apart_at_common_steps']:.2f} standard errors of the subset where "
            "both were evaluated"
            + (
                f"; {before:.2f} before the dense curve's first evaluation after the start"
                if before is not None
                else ""
            )
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
        "benchmark": "evaluations",
        "device": _shared.setting(device),
        "versions": _shared.versions("transformers", "torch-ablate"),
        "arguments": {k: v for k, v in vars(arguments).items() if k != "json"},
        "eval_seconds": {"sparse": sparse.eval_seconds, "dense": dense.eval_seconds},
        "evaluation_seconds": {"sparse": sparse.evaluation_seconds, "dense": dense.evaluation_seconds},
        "train_seconds": {"sparse": sparse.train_seconds, "dense": dense.train_seconds},
    }
    return text, figures | found


def _grid_row(step: int, sparse: float, dense: float, standard_error: float) -> list[str]:
    apart = abs(sparse - dense) / standard_error
    return [str(step), f"{sparse:.4f}", f"{dense:.4f}", f"{standard_error:.4f}", f"{apart:.2f}"]


def _cost_row(name: str, count: int, training: Training) -> list[str]:
    per_evaluation = statistics.median(training.evaluation_seconds)
    numbers = [f"{training.eval_seconds:.1f}", f"{per_evaluation:.2f}", f"{training.train_seconds:.1f}"]
    return [name, f"{len(training.evaluation_seconds)}", f"{count:,}", *numbers]


if __name__ == "__main__":
    raise SystemExit(main())

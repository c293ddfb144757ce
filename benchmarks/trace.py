"""A trace of a million steps: written and read with bounded memory; and the memory that recording adds to a training.

Each measurement is a process of its own, and its figure is the largest resident set that the process ever had, over what it had
when its imports were done. Writing goes through `TableWriter` in blocks, as the loop writes. Reading: everything with
`read_trace`; two columns with `read_trace`; the group norms of every step; and block by block from the memory-mapped file,
where the pages of the file count as resident too although the system may drop them. The training is MiniLM, three times:
recording to disk, by hand with the same imports, by hand without them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import _shared

EXAMPLES = """\
  python -m benchmarks.trace
  python -m benchmarks.trace --steps 10000000 --block 256
  python -m benchmarks.trace --quick
"""
GROUPS = 9
"""Gradient norm groups of MiniLM: embeddings, six layers, pooler, classifier."""
READS = {
    "read_trace, every column": "read-all",
    "read_trace, two columns": "read-two",
    "read_trace, group norms": "read-groups",
    "memory-mapped, block by block": "read-mapped",
}
TRAININGS = {
    "recording to disk": "train-recording",
    "by hand, same imports": "train-by-hand",
    "by hand": "train-by-hand-bare",
}


def main(argv: list[str] | None = None) -> int:
    """Measure in children, print."""
    if argv is None and sys.argv[1:2] == ["--child"]:
        print(json.dumps(CHILDREN[sys.argv[2]](json.loads(sys.argv[3]))))
        return 0
    arguments = _arguments(argv)
    device = _shared.pick_device(arguments.device)
    _shared.be_quiet()
    with tempfile.TemporaryDirectory() as name:
        settings = {
            "folder": name,
            "steps": arguments.steps,
            "block": arguments.block,
            "train_steps": arguments.train_steps,
            "device": str(device),
            "threads": arguments.threads,
        }
        written = _child("write", settings)
        reads = {label: _child(role, settings) for label, role in READS.items()}
        trainings = _train_in_turn(settings, Path(name), repeats=arguments.repeats, length=arguments.length)
    _shared.set_threads(arguments.threads)
    text = _report(arguments, _shared.setting(device), written, reads, trainings)
    figures = {
        "benchmark": "trace",
        "device": _shared.setting(device),
        "versions": _shared.versions("pyarrow", "torch-ablate"),
        "arguments": {k: v for k, v in vars(arguments).items() if k != "json"},
        "write": written,
        "read": reads,
        "train": trainings,
    }
    _shared.finish(arguments, text, figures)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _shared.parser(__doc__, EXAMPLES)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--block", type=int, default=64, help="rows per block; 64 is the loop's default")
    parser.add_argument("--train-steps", type=int, default=40)
    parser.add_argument("--length", type=int, default=128, help="tokens of MiniLM's reviews")
    parser.add_argument("--repeats", type=int, default=3, help="of each of the trainings, in turn")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.threads = arguments.threads or 1
        arguments.steps, arguments.train_steps, arguments.length, arguments.repeats = 20_000, 2, 16, 1
    return arguments


def _child(role: str, settings: dict[str, Any]) -> dict[str, Any]:
    return _shared.run_child("trace", role, json.dumps(settings))


def _train_in_turn(
    settings: dict[str, Any], folder: Path, *, repeats: int, length: int
) -> dict[str, list[dict[str, Any]]]:
    _shared.save_model("minilm", folder / "model")
    count = 8 * settings["train_steps"]
    _shared.save_samples(folder / "samples.npz", _shared.imdb_samples(count, length, full_length=False))
    found: dict[str, list[dict[str, Any]]] = {label: [] for label in TRAININGS}
    for _ in range(repeats):
        for label, role in TRAININGS.items():
            found[label].append(_child(role, settings))
    return found


# ---- in a child -------------------------------------------------------------------------------------------------------


def _measured(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `call` gives, with its seconds and the peak before and after it."""
    pa.array(
        [np.zeros(1)], pa.list_(pa.float32())
    ).flatten().to_numpy()  # loads what pyarrow loads when it is first used
    before, began = _shared.peak_rss_bytes(), time.perf_counter()
    found = call()
    seconds = time.perf_counter() - began
    return found | {"seconds": seconds, "imports_bytes": before, "peak_bytes": _shared.peak_rss_bytes()}


def _write(settings: dict[str, Any]) -> dict[str, Any]:
    from ablate.records.schema import TRACE
    from ablate.records.writer import TableWriter

    path, steps, block = Path(settings["folder"]) / "trace.arrow", settings["steps"], settings["block"]

    def write() -> dict[str, Any]:
        early = 0
        with TableWriter(path, TRACE, metadata={"groups": "\n".join(f"group {k}" for k in range(GROUPS))}) as table:
            for start in range(0, steps, block):
                table.write(_rows(TRACE, start, min(block, steps - start)))
                early = early or (start >= steps // 10 and _shared.peak_rss_bytes())
        return {"early_peak_bytes": early, "file_bytes": path.stat().st_size}

    return _measured(write)


def _rows(schema: pa.Schema, start: int, count: int) -> dict[str, Any]:
    """`count` rows of plausible numbers for whatever columns a trace has."""
    numbers = range(start + 1, start + count + 1)
    norms = np.abs(np.sin(np.arange(start, start + count)[:, None] + np.arange(GROUPS))).astype(np.float32)
    columns: dict[str, Any] = {}
    for field in schema:
        if pa.types.is_list(field.type):
            columns[field.name] = list(norms if field.name == "group_norms" else norms[:, :0])
        elif pa.types.is_boolean(field.type):
            columns[field.name] = [True] * count
        else:
            columns[field.name] = list(numbers) if pa.types.is_integer(field.type) else [k * 1e-3 for k in numbers]
    return columns


def _read_with(columns: list[str] | None, use: Callable[[Any], float]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def child(settings: dict[str, Any]) -> dict[str, Any]:
        from ablate import read_trace

        path = Path(settings["folder"]) / "trace.arrow"

        def read() -> dict[str, Any]:
            trace = read_trace(path) if columns is None else read_trace(path, columns)
            return {"rows": len(trace), "value": use(trace)}

        return _measured(read)

    return child


def _read_mapped(settings: dict[str, Any]) -> dict[str, Any]:
    """The largest norm, with one block in hand at a time."""

    def read() -> dict[str, Any]:
        rows, largest = 0, 0.0
        with pa.memory_map(str(Path(settings["folder"]) / "trace.arrow")) as file, pa.ipc.open_stream(file) as blocks:
            for block in blocks:
                if block.num_rows:
                    rows, largest = rows + block.num_rows, max(largest, float(block["grad_norm"].to_numpy().max()))
        return {"rows": rows, "value": largest}

    return _measured(read)


def _train_recording(settings: dict[str, Any]) -> dict[str, Any]:
    from ablate import Streams, train

    def run(model: Any, samples: list[_shared.Sample], optimizer: Any) -> None:
        train(
            model, samples, _shared.text_objective, optimizer=optimizer, budget=f"{len(samples)} samples", batch_size=8,
            max_grad_norm=_shared.CLIP_NORM, precision="fp32", device=settings["device"], collate=_shared.pad_batch,
            streams=Streams(seed=0), folder=Path(settings["folder"]) / "run",
        )  # fmt: skip

    return _training(settings, run)


def _train_by_hand(settings: dict[str, Any], *, import_ablate: bool = True) -> dict[str, Any]:
    import torch

    from ablate.training.random_streams import SampleOrder, Streams
    from benchmarks import _loops

    if import_ablate:
        import ablate.training.train  # noqa: F401

    device = torch.device(settings["device"])

    def run(model: Any, samples: list[_shared.Sample], optimizer: Any) -> None:
        order = SampleOrder(Streams(seed=0), np.arange(len(samples))).take(0, len(samples))  # the same batches
        groups = ([samples[k] for k in order[start : start + 8]] for start in range(0, len(samples), 8))
        batches = ({k: v.to(device) for k, v in _shared.pad_batch(group).items()} for group in groups)
        _loops.plain_steps(model, batches, lambda model, batch: model(**batch).loss, optimizer)

    return _training(settings, run)


def _training(settings: dict[str, Any], run: Callable[[Any, list[_shared.Sample], Any], None]) -> dict[str, Any]:
    import torch

    _shared.be_quiet()
    _shared.set_threads(settings["threads"])
    folder, on_gpu = Path(settings["folder"]), settings["device"] != "cpu"
    samples = _shared.load_samples(folder / "samples.npz")
    model = _shared.load_model(folder / "model").to(settings["device"])
    model.train()
    optimizer = _shared.fused_adamw(model)

    def call() -> dict[str, Any]:
        run(model, samples, optimizer)
        return {"device_bytes": torch.cuda.max_memory_allocated() if on_gpu else 0}

    return _measured(call)


CHILDREN: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "write": _write,
    "read-all": _read_with(None, lambda trace: float(trace["grad_norm"].max())),
    "read-two": _read_with(["step", "grad_norm"], lambda trace: float(trace["grad_norm"].max())),
    "read-groups": _read_with(["group_norms"], lambda trace: float(trace.group_norms().max())),
    "read-mapped": _read_mapped,
    "train-recording": _train_recording,
    "train-by-hand": _train_by_hand,
    "train-by-hand-bare": lambda settings: _train_by_hand(settings, import_ablate=False),
}


# ---- report -----------------------------------------------------------------------------------------------------------


def _report(
    arguments: argparse.Namespace,
    device: str,
    written: dict[str, Any],
    reads: dict[str, dict[str, Any]],
    trainings: dict[str, list[dict[str, Any]]],
) -> str:
    rows = [["write", *_row(written)], *([label, *_row(found)] for label, found in reads.items())]
    growth = (written["peak_bytes"] - written["early_peak_bytes"]) / 1e6
    return "\n".join(
        [
            f"## A trace of {arguments.steps:,} steps",
            "",
            f"On {device}; blocks of {arguments.block} rows, {GROUPS} groups; the file has "
            f"{written['file_bytes'] / 1e6:.1f} MB, {written['file_bytes'] / arguments.steps:.0f} bytes per step. "
            f"pyarrow {pa.__version__}.",
            "",
            _shared.table(["", "s", "peak, MB", "above its imports, MB"], rows),
            "",
            f"While writing, the peak grew by {growth:.1f} MB from the first tenth of the steps to the last.",
            "",
            f"### Memory of a training, MiniLM, {arguments.train_steps} steps of 8",
            "",
            f"Median of {arguments.repeats}, least and most in brackets.",
            "",
            _shared.table(["", "peak, MB", "against by hand, MB", "GPU, MB"], _training_rows(trainings)),
            "",
        ]
    )


def _row(found: dict[str, Any]) -> list[str]:
    above = found["peak_bytes"] - found["imports_bytes"]
    return [f"{found['seconds']:.2f}", f"{found['peak_bytes'] / 1e6:.0f}", f"{above / 1e6:.1f}"]


def _training_rows(trainings: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    bare = statistics.median(one["peak_bytes"] for one in trainings["by hand"])
    rows = []
    for label, found in trainings.items():
        peaks = [one["peak_bytes"] / 1e6 for one in found]
        middle = statistics.median(peaks)
        on_gpu = statistics.median(one["device_bytes"] for one in found)
        rows.append(
            [
                label,
                f"{middle:.0f} ({min(peaks):.0f} to {max(peaks):.0f})",
                f"{middle - bare / 1e6:+.1f}",
                f"{on_gpu / 1e6:.1f}" if on_gpu else "",
            ]
        )
    return rows


if __name__ == "__main__":
    raise SystemExit(main())

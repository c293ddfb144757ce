"""Ten minutes on a GPU: what is most worth knowing first, each part in its own time, the page written after every part.

Needs torch, transformers and what `ablate` needs; parts whose packages are missing say so. Texts and weights are made up, so
that nothing is fetched. `--dry` runs every part that needs no process of its own on a pretended GPU, tiny: a test of this file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ablate import Loader, RandomStreams, Recording, train
from ablate.models import packed_attention
from ablate.models.packed_attention import Attending, is_correct
from ablate.models.unpadding import leave_unread, prepare_masks, unpad
from ablate.runner.processes import leases
from ablate.tasks import text_classification as texts
from ablate.training import hardware
from benchmarks import _loops, _shared

EXAMPLES = """\
  make gpu                                      # on a machine with a GPU and a package index
  make gpu WHEELS=wheels                        # on a bare one, with wheels carried along: benchmarks/README.md
  python -m benchmarks.gpu --seconds 300        # half of it
  python -m benchmarks.gpu --dry                # on a pretended GPU
"""
BERT = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 64}
Found = tuple[str, dict[str, Any]]
"""Markdown and figures."""


@dataclass
class Session:
    """One session. seconds: of the whole. dry: on a pretended GPU."""

    seconds: float
    dry: bool
    out: Path
    began: float = field(default_factory=time.monotonic)
    parts: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.began)

    @property
    def shapes(self) -> dict[str, dict[str, int]]:
        return {"tiny": TINY} if self.dry else {"BERT-base": BERT, "MiniLM": MINILM}

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(batch size, longest text)."""
        return [(2, 8)] if self.dry else [(8, 256), (64, 256)]

    def add(self, name: str, part: Callable[[Session], Found], at_least: float) -> None:
        """Run a part if there is time for it, and write what is known by now. A part that fails says why."""
        began = time.monotonic()
        if self.left < at_least:
            text, figures = f"No time was left: {self.left:.0f} s of {at_least:.0f} s.", {"skipped": True}
        else:
            try:
                text, figures = part(self)
            except Exception:
                text, figures = f"```\n{traceback.format_exc(limit=-4)}```", {"failed": True}
        text = f"## {name}\n\n{text}\n\n({time.monotonic() - began:.0f} s)\n"
        print(text, flush=True)
        self.parts.append((name, text, figures))
        self.out.mkdir(parents=True, exist_ok=True)
        head = f"# Ten minutes on {_shared.device_name(torch.device('cuda', 0))}\n"
        (self.out / "gpu.md").write_text("\n".join([head, *(text for _, text, _ in self.parts)]), encoding="utf-8")
        found = {name: figures for name, _, figures in self.parts}
        (self.out / "gpu.json").write_text(json.dumps(found, default=str, indent=1) + "\n", encoding="utf-8")

    def run(self, *command: str, limit: float, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a Python command in a process of its own, for no longer than is left."""
        return subprocess.run(
            [sys.executable, *command], cwd=_shared.ROOT, env=os.environ | env, capture_output=True, text=True, check=False,
            timeout=max(1.0, min(limit, self.left)),
        )  # fmt: skip


# ---- what there is -------------------------------------------------------------------------------------------------------


def machine(session: Session) -> Found:
    """The card, what the leases see of it, and whether a forked run sees it."""
    properties = torch.cuda.get_device_properties(0)
    found = {
        "name": torch.cuda.get_device_name(0), "capability": torch.cuda.get_device_capability(0), "torch": torch.__version__,
        "cuda": torch.version.cuda, "memory_gib": properties.total_memory / 2**30, "names_from_driver": hardware.gpu_names(),
        "leases": len(leases(None)), "in_proc": Path("/proc/driver/nvidia/gpus").is_dir(),
        "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }  # fmt: skip
    if not session.dry:
        forked = session.run("-m", "benchmarks.gpu", "--child", "forked", limit=60)
        found["forked_run"] = forked.stdout.strip() or forked.stderr[-300:]
    return _shared.table(["what", "value"], [[key, str(value)] for key, value in found.items()]), found


def forked() -> None:
    """In a child: what a run sees that is forked as a study forks it."""
    from ablate.runner.processes import server

    process = server().Process(target=_seen)
    process.start()
    process.join()


def _seen() -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = "0"
    print("a forked run sees", torch.zeros(1, device="cuda").device, torch.cuda.device_count(), flush=True)


def kernels(session: Session) -> Found:
    """Which kernels of packed attention this card and this torch have."""
    found: dict[str, bool] = {}
    half, full = torch.bfloat16, torch.float32
    pairs = [("flash", half), ("flash", torch.float16), ("efficient", full), ("efficient", torch.float16)]
    for name, dtype in pairs[: 1 if session.dry else None]:
        for dropout in (0.0, 0.25):
            for causal, window in ((False, None), (True, None), (False, 3)):
                if window and name == "efficient":
                    continue
                how = Attending(dropout, None, causal, window)
                key = (
                    f"{name} {str(dtype)[6:]}{' dropout' * (dropout > 0)}{' causal' * causal}{' window' * bool(window)}"
                )
                found[key] = is_correct(name, torch.device("cuda", 0), dtype, 64, how)
    return _shared.table(["kernel", "correct"], [[key, str(value)] for key, value in found.items()]), found


def tests(session: Session) -> Found:
    """tests/gpu on the card itself."""
    if session.dry:
        return "Not in a dry run.", {}
    done = session.run(
        "-m", "pytest", "tests/gpu/test_cuda.py", "-q", "--no-header", "-p", "no:cacheprovider", limit=150
    )
    return f"```\n{done.stdout[-2500:]}{done.stderr[-500:]}\n```", {"exit_code": done.returncode}


# ---- how long a step takes -----------------------------------------------------------------------------------------------


def build(shape: dict[str, int], dropout: float = 0.1) -> Any:
    """A classifier with made-up weights."""
    from transformers import BertConfig, BertForSequenceClassification

    _shared.be_quiet()
    torch.manual_seed(0)
    config = BertConfig(**shape, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    return BertForSequenceClassification(config)


def made_up(count: int, longest: int) -> list[tuple[Any, int]]:
    """Texts of different lengths, 60% of the longest in the mean."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.normal(longest * 0.6, longest * 0.3, count), 4, longest).astype(int)
    return [(draw.integers(3, 64, length).tolist(), int(k % 2)) for k, length in enumerate(lengths)]


@dataclass(frozen=True)
class Pace:
    """Milliseconds per step: by a clock around the steps, of the host, and as the record says. mfu: where the peak is known."""

    true: float
    host: float
    recorded: float
    mfu: float | None

    def cells(self) -> list[str]:
        return [f"{value:.2f}" for value in (self.true, self.host, self.recorded)] + [
            f"{self.mfu:.1%}" if self.mfu else ""
        ]


def pace(
    session: Session, model: Any, batch_size: int, longest: int, *, warm: int = 15, steps: int = 40, **settings: Any
) -> Pace:
    """Train on made-up texts, and wait for the device at two steps only."""
    warm, steps = (2, 4) if session.dry else (warm, steps)
    stamps: list[float] = []

    def stamped(model: Any, batch: Any) -> Any:
        if len(stamps) in (warm, warm + steps):
            torch.cuda.synchronize()
        stamps.append(time.perf_counter())
        return texts.loss_fn(model, batch)

    loader = Loader(
        collate=lambda some: texts.pad_batch(some, 0),
        count_items=lambda batch: len(batch["labels"]),
        count_tokens=texts.count_tokens,
    )
    total = (warm + steps + 1) * settings.get("grad_accum_steps", 1)
    settings = {"precision": "bf16", "recording": Recording(flush_every=1000)} | settings
    result = train(
        model, made_up(total * batch_size, longest), stamped, device="cuda", budget=warm + steps + 1, batch_size=batch_size,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True), max_grad_norm=1.0, loader=loader,
        random_streams=RandomStreams(seed=0), **settings,
    )  # fmt: skip
    host = np.diff(stamps[warm : warm + steps])
    return Pace(
        true=(stamps[warm + steps] - stamps[warm]) / steps * 1e3, host=float(np.median(host)) * 1e3,
        recorded=1e3 / result.throughput["train_steps_per_second"], mfu=result.throughput.get("mfu"),
    )  # fmt: skip


def prepared(shape: dict[str, int], way: str, dropout: float = 0.1) -> Any:
    """A model on the card: `padded`, or `unpadded`, whose attention takes the kernel that fits."""
    model = build(shape, dropout).to("cuda")
    if way == "padded":
        prepare_masks(model)
    else:
        assert unpad(model) is None
        assert leave_unread(model) is None
    return model


def ours(session: Session) -> Found:
    """Every way of computing a step."""
    rows, figures = [], {}
    for name, shape in session.shapes.items():
        for batch_size, longest in session.sizes:
            for way in ("padded", "packed", "dense"):
                with _kernel("dense") if way == "dense" else contextlib.nullcontext():
                    found = pace(session, prepared(shape, way), batch_size, longest)
                rows.append([f"{name} b{batch_size} x {longest} {way}", *found.cells()])
                figures[rows[-1][0]] = vars(found)
    return _shared.table(["bf16, dropout 0.1", "ms per step", "host", "recorded", "MFU"], rows), figures


@contextlib.contextmanager
def _kernel(name: str) -> Any:
    picked = packed_attention._kernel
    packed_attention._kernel = lambda *_: name
    try:
        yield
    finally:
        packed_attention._kernel = picked


def loops(session: Session) -> Found:
    """The same work by other loops, each in a process of its own; ours comes first and last."""
    names = ["ablate", "raw"] if session.dry else ["ablate", "raw", "transformers", "lightning", "accelerate", "ablate"]
    rows, figures = [], {}
    for shape_name, shape in session.shapes.items():
        for batch_size, longest in session.sizes[:1]:
            with tempfile.TemporaryDirectory() as place:
                folder, warm, steps = Path(place), *((1, 3) if session.dry else (20, 60))
                total = warm + steps + 1
                _shared.save_samples(folder / "samples.npz", made_up(total * batch_size, longest))
                build(shape, dropout=0.0).save_pretrained(folder / "model")
                _loops.Work(batch_size=batch_size, num_steps=total, wait_at=[warm, total - 1], device="cuda", threads=0,
                            unpad=True).save(folder)  # fmt: skip
                for loop in names:
                    if session.left < 25 and not session.dry:
                        break
                    try:
                        made = _loops.run(loop, "bf16", folder) if session.dry else _shared.run_child(
                            "loop", loop, "bf16", str(folder), timeout=min(60, session.left)
                        )  # fmt: skip
                        seconds = (made["stamps"][total - 1] - made["stamps"][warm]) / steps
                        cell = f"{seconds * 1e3:.2f}"
                    except (SystemExit, subprocess.TimeoutExpired) as error:
                        seconds, cell = None, str(error).strip().splitlines()[-1][:90]
                    rows.append([f"{shape_name} b{batch_size} x {longest} {loop}", cell])
                    figures.setdefault(rows[-1][0], []).append(seconds)
    return _shared.table(["bf16, dropout 0", "ms per step"], rows), figures


def recording(session: Session) -> Found:
    """What is recorded of each step, and what it costs."""
    cases = {
        "norms of layers": Recording(flush_every=1000), "global norm": Recording(grad_norm_groups=None, flush_every=1000),
        "update ratios": Recording(update_ratio=True, flush_every=1000), "flushed every 8": Recording(flush_every=8),
    }  # fmt: skip
    shape, (batch_size, longest) = list(session.shapes.values())[-1], session.sizes[0]
    found = {
        name: pace(session, prepared(shape, "packed"), batch_size, longest, recording=case)
        for name, case in cases.items()
    }
    table = _shared.table(
        ["recorded", "ms per step", "host", "recorded", "MFU"], [[k, *v.cells()] for k, v in found.items()]
    )
    return table, {name: vars(one) for name, one in found.items()}


def several_runs(session: Session) -> Found:
    """Runs that share the card: steps per second of all of them together."""
    if session.dry:
        return "Not in a dry run.", {}
    found: dict[int, float] = {}
    for count in (1, 2, 4):
        if session.left < 40:
            break
        command = [sys.executable, "-m", "benchmarks.gpu", "--child", "steps"]
        children = [
            subprocess.Popen(command, cwd=_shared.ROOT, stdout=subprocess.PIPE, text=True) for _ in range(count)
        ]
        try:
            found[count] = sum(
                1e3 / float(child.communicate(timeout=min(90, session.left))[0].split()[-1]) for child in children
            )
        finally:
            for child in children:
                child.kill()
    rows = [[str(count), f"{rate:.0f}", f"{rate / found[1]:.2f}"] for count, rate in found.items()]
    return _shared.table(["runs on the card (MiniLM b8)", "steps per second, all", "ratio"], rows), found


def steps_in_child() -> None:
    """In a child: milliseconds per step over some seconds."""
    session = Session(600, dry=False, out=Path())
    print(pace(session, prepared(MINILM, "packed"), 8, 256, warm=100, steps=500).true)


def new_shapes(session: Session) -> Found:
    """Attention with a mask: a length that was not seen before against the same one again. cuDNN plans for each."""
    new, again = [], []
    for length in range(101, 104 if session.dry else 121):
        for seconds in (new, again):
            q, k, v = (
                torch.randn(8, 2, length, 64, device="cuda", dtype=torch.bfloat16).requires_grad_() for _ in range(3)
            )
            mask = torch.ones(8, 1, 1, length, dtype=torch.bool, device="cuda")
            torch.cuda.synchronize()
            began = time.perf_counter()
            torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=0.1).sum().backward()
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
    found = {"new_ms": statistics.median(new[1:]) * 1e3, "again_ms": statistics.median(again[1:]) * 1e3}
    return f"A new length takes {found['new_ms']:.2f} ms, the same again {found['again_ms']:.2f} ms.", found


def compiled(session: Session) -> Found:
    """`train.compile`: what it costs to start, and what a step takes then."""
    if session.dry:
        return "Not in a dry run.", {}
    shape, found = session.shapes["MiniLM"], {}
    for batch_size, longest in session.sizes:
        model = build(shape).to("cuda")
        model.compile(dynamic=True)
        began = time.perf_counter()
        one = pace(session, model, batch_size, longest, warm=30, steps=30)
        found[f"MiniLM b{batch_size} x {longest}"] = vars(one) | {"seconds": time.perf_counter() - began}
    rows = [[key, f"{one['true']:.2f}", f"{one['host']:.2f}", f"{one['seconds']:.0f}"] for key, one in found.items()]
    return _shared.table(["compiled, padded", "ms per step", "host", "s for 61 steps"], rows), found


def profiled(session: Session) -> Found:
    """The kernels of a step."""
    if session.dry:
        return "Not in a dry run.", {}
    from torch.profiler import ProfilerActivity, profile

    model = prepared(BERT, "packed")
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        pace(session, model, 8, 256, warm=5, steps=10)
    events = [event for event in profiler.key_averages() if event.self_device_time_total > 0]
    found = {
        "kernels": sum(event.count for event in events) / 16,
        "ms": sum(e.self_device_time_total for e in events) / 16e3,
    }
    table = profiler.key_averages().table(sort_by="self_cuda_time_total", row_limit=15, max_name_column_width=60)
    return (
        f"{found['kernels']:.0f} kernels and {found['ms']:.2f} ms of the device per step.\n\n```\n{table}\n```",
        found,
    )


PARTS: tuple[tuple[str, Callable[[Session], Found], float], ...] = (
    ("Machine", machine, 5), ("Kernels of packed attention", kernels, 10), ("Tests", tests, 30),
    ("Milliseconds per step", ours, 30), ("Against other loops", loops, 60), ("Recording", recording, 20),
    ("Several runs on the card", several_runs, 60),
    ("New shapes", new_shapes, 10), ("Compiled", compiled, 60), ("Kernels of a step", profiled, 20),
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the parts in their order; the exit code is 1 where one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"examples:\n{EXAMPLES}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=570, help="of the whole session")
    parser.add_argument("--dry", action="store_true", help="on a pretended GPU: the figures mean nothing")
    parser.add_argument("--out", type=Path, help="default: docs/benchmarks/<device>")
    parser.add_argument("--child", choices=("forked", "steps"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child:
        (forked if arguments.child == "forked" else steps_in_child)()
        return 0
    if not arguments.dry and not torch.cuda.is_available():
        print("expected a CUDA GPU, and torch finds none: --dry runs on a pretended one", file=sys.stderr)
        return 2
    with _pretended() if arguments.dry else contextlib.nullcontext():
        default = _shared.ROOT / "docs" / "benchmarks" / _shared.slug(_shared.device_name(torch.device("cuda", 0)))
        out = arguments.out or (Path(tempfile.mkdtemp()) if arguments.dry else default)
        session = Session(arguments.seconds, arguments.dry, out)
        for name, part, at_least in PARTS:
            session.add(name, part, 0 if arguments.dry else at_least)
    print(out / "gpu.md")
    return int(any(figures.get("failed") for _, _, figures in session.parts))


def _pretended() -> Any:
    from tests.gpu.pretend import pretended

    return pretended()


if __name__ == "__main__":
    raise SystemExit(main())

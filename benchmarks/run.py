"""Run every benchmark and write their figures to `docs/benchmarks/<device>/<benchmark>.md` and `.json`: one command.

On two CPU cores it takes about an hour, on a GPU some minutes. Nothing else should run meanwhile; where
something did, the figures say so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ablate.training.hardware import bf16_instructions
from benchmarks import _shared

EXAMPLES = """\
  python -m benchmarks.run                     # everything, on the GPU when there is one
  python -m benchmarks.run --device cpu --only loop,evaluations
  python -m benchmarks.run --quick             # smoke test; writes to a temporary folder
"""
_BOTH = " --precision fp32,bf16" if bf16_instructions() else ""
ON_CPU = (
    f"loop --length 256 --steps 20 --rounds 3{_BOTH}",
    f"loop --length 512 --steps 10 --rounds 3{_BOTH}",
    "loop --length 512 --steps 8 --rounds 3 --full-length",
    "loop --length 256 --steps 20 --rounds 3 --no-unpad --loops raw",
    "precision",
    "recording",
    "evaluations --steps 2400 --layers 1 --length 32",
    "trace",
    "plan",
    "page",
    "slots",
    "overhead",
    "trackers",
    "axes",
)
ON_GPU = (
    "loop --length 256 --steps 300 --warmup 30 --rounds 5",
    "loop --length 512 --steps 300 --warmup 30 --rounds 5 --precision bf16",
    "loop --length 512 --steps 100 --warmup 20 --rounds 5 --precision bf16 --model bert-base-shape --batch-size 32",
    "loop --length 512 --steps 100 --warmup 20 --rounds 5 --precision bf16 --model bert-base-shape --batch-size 32 "
    "--full-length",
    "loop --length 512 --steps 60 --warmup 10 --rounds 3 --model bert-base-shape --batch-size 8",
    "recording --cases mlp-1024x8x256,mlp-4096x8x1024,mlp-8192x8x8192,minilm",
    "evaluations --steps 2400",
    "trace",
    "slots",
    "overhead",
    "axes",
)
QUICK = (
    "loop",
    "precision",
    "recording",
    "evaluations",
    "trace",
    "plan",
    "page",
    "slots",
    "overhead",
    "trackers",
    "axes",
)


def main(argv: list[str] | None = None) -> int:
    """Run, gather, write; the exit code is 1 where a benchmark's was not 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"examples:\n{EXAMPLES}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--only", default=",".join(QUICK), help="comma-separated names of benchmarks")
    parser.add_argument("--quick", action="store_true", help="smoke tests: the figures mean nothing")
    parser.add_argument("--out", type=Path, help="folder; default docs/benchmarks, with --quick a temporary one")
    arguments = parser.parse_args(argv)
    device = _shared.pick_device(arguments.device)
    jobs = QUICK if arguments.quick else ON_GPU if device.type == "cuda" else ON_CPU
    out = arguments.out or (Path(tempfile.mkdtemp()) if arguments.quick else _shared.ROOT / "docs" / "benchmarks")
    options = ["--device", str(device), *(["--quick"] if arguments.quick else [])]
    wanted = arguments.only.split(",")
    done = [_run(job, options) for job in jobs if job.split()[0] in wanted]
    _write(out, _shared.device_name(device), done)
    return max((code for code, _, _ in done), default=0)


def _run(job: str, options: list[str]) -> tuple[int, str, dict[str, Any]]:
    """(exit code, Markdown, figures) of one benchmark, which runs in a process of its own."""
    name, *typed = job.split()
    print(f"benchmarks.{job}", file=sys.stderr)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", *typed, *options, "--json", str(path)]
        done = subprocess.run(command, cwd=_shared.ROOT, stdout=subprocess.PIPE, text=True, check=False)
        print(f"  {time.perf_counter() - began:.0f} s, exit code {done.returncode}", file=sys.stderr)
        if not path.exists():
            return done.returncode or 1, f"## {job}\n\nended with exit code {done.returncode}\n", {"benchmark": name}
        return done.returncode, done.stdout, json.loads(path.read_text(encoding="utf-8"))


def _write(out: Path, device: str, done: list[tuple[int, str, dict[str, Any]]]) -> None:
    """A page and a file of figures for each benchmark; those that were not run stay as they are."""
    when, folder = datetime.now(UTC).date().isoformat(), out / _shared.slug(device)
    folder.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(found["benchmark"] for _, _, found in done):
        mine = [(text, found) for _, text, found in done if found["benchmark"] == name]
        head = f"# {name.capitalize()} on {device}\n\n{when}, {_commit()}. What is measured and how: `benchmarks/README.md`.\n"
        page = folder / f"{name}.md"
        page.write_text("\n".join([head, *(text for text, _ in mine)]), encoding="utf-8")
        figures = [json.dumps(found | {"date": when, "commit": _commit()}) for _, found in mine]  # one line for each
        page.with_suffix(".json").write_text("[\n" + ",\n".join(figures) + "\n]\n", encoding="utf-8")
        print(page)


def _commit() -> str:
    """`commit 0123abc`, with a plus sign where files had been changed since."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    found = subprocess.run(command, cwd=_shared.ROOT, capture_output=True, text=True, check=False)
    return f"commit {found.stdout.strip()}" if found.returncode == 0 else "no commit known"


if __name__ == "__main__":
    raise SystemExit(main())

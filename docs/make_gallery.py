"""Build the reports of the gallery's studies from the records in docs/gallery.

python docs/make_gallery.py FOLDER                          build every report, FOLDER/<name>/report.html; `make docs` runs this
python docs/make_gallery.py --add runs/reference [NAME]     copy the record of a finished study to docs/gallery/NAME
python docs/make_gallery.py --tables                        rewrite the tables in docs/gallery/*.md with the terminal's output

The copy contains the frozen plan and, for each run, every file that a report reads: config, manifest, fingerprint, status,
trace and evaluations, complete. Checkpoints, logs and predictions are left out. Arrow blocks are joined into one, and JSON is
written without indentation, which halves the size.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from ablate.records.layout import StudyDir
from ablate.report import build_report, print_report
from ablate.serialization import read_json

GALLERY = Path(__file__).parent / "gallery"
_VALUES = ("manifest", "fingerprint", "status")
_TABLES = ("trace", "evals")


def studies() -> list[Path]:
    """Return the folders of the gallery's studies."""
    return sorted(plan.parent for plan in GALLERY.glob("*/plan.json"))


def build(into: Path) -> list[Path]:
    """Build the report of a copy of each study and return the pages. The gallery itself is not changed."""
    pages = []
    for study in studies():
        copy = into / study.name
        shutil.copytree(study, copy)
        build_report(copy)
        pages.append(copy / "report.html")
    return pages


def tables(name: str) -> str:
    """Return what `ablate report` prints of a study, from its first line to the controls."""
    out = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / name
        shutil.copytree(GALLERY / name, copy)
        console = Console(file=out, width=80, color_system=None, force_terminal=False)
        print_report(build_report(copy), copy, console)
    shown, _, _ = out.getvalue().partition("\ncontrols ")
    return "".join(f"{line.rstrip()}\n" for line in shown.rstrip().splitlines())


def with_tables(text: str, name: str) -> str:
    """Return a gallery page with its table replaced."""
    table = f"<!-- table -->\n```text\n{tables(name)}```\n<!-- end of table -->"
    return re.sub(r"<!-- table -->.*?<!-- end of table -->", lambda _: table, text, flags=re.DOTALL)


def add(study: Path, into: Path) -> None:
    """Copy the record of a finished study."""
    target = StudyDir(into)
    _copy_json(StudyDir(study).plan, target.plan)
    for run in StudyDir(study).runs():
        copy = type(run)(into / run.path.relative_to(study))
        copy.path.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run.config, copy.config)
        for name in _VALUES:
            _copy_json(getattr(run, name), getattr(copy, name))
        for name in _TABLES:
            _copy_table(getattr(run, name), getattr(copy, name))


def _copy_json(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(read_json(source), sort_keys=True, separators=(",", ":")) + "\n", encoding="utf-8")


def _copy_table(source: Path, target: Path) -> None:
    with pa.ipc.open_stream(source) as stream:
        table = stream.read_all().combine_chunks()
    with target.open("wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)


def main() -> None:
    """Build the reports, rewrite the tables, or add a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("site/gallery"))
    parser.add_argument("name", nargs="?")
    parser.add_argument("--add", action="store_true", help="copy the study in this folder to the gallery")
    parser.add_argument("--tables", action="store_true", help="rewrite the tables of docs/gallery/*.md")
    args = parser.parse_args()
    if args.tables:
        for study in studies():
            page = study.with_suffix(".md")
            page.write_text(with_tables(page.read_text(encoding="utf-8"), study.name), encoding="utf-8")
        return
    if args.add:
        into = GALLERY / (args.name or args.folder.name)
        shutil.rmtree(into, ignore_errors=True)
        add(args.folder, into)
        print(f"{into}: {sum(path.stat().st_size for path in into.rglob('*') if path.is_file()):,} bytes")
        return
    for page in build(args.folder):
        print(page)


if __name__ == "__main__":
    main()

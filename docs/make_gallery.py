"""The gallery's studies: their pages made anew from the records that are kept in docs/gallery.

python docs/make_gallery.py FOLDER                          every page, into FOLDER/<name>/report.html; `make docs` does it
python docs/make_gallery.py --keep runs/reference [NAME]    take the record of a finished study into docs/gallery/NAME
python docs/make_gallery.py --tables                        rewrite the tables in docs/gallery/*.md: what a terminal shows

What is kept of a study is its frozen plan and of each run all that a report reads: config, manifest, fingerprint, outcome,
trace and evaluations, every row and value of them. Checkpoints, logs and predictions are left out. Rows that were flushed in
many small blocks are joined into one, and JSON is written without indentation, which makes a record half as large.
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
    """The folders of the studies that are kept."""
    return sorted(plan.parent for plan in GALLERY.glob("*/plan.json"))


def build(into: Path) -> list[Path]:
    """Report on a copy of each study, so that what is kept stays as it is. Returns the pages."""
    pages = []
    for study in studies():
        copy = into / study.name
        shutil.copytree(study, copy)
        build_report(copy)
        pages.append(copy / "report.html")
    return pages


def tables(name: str) -> str:
    """The contrasts of a study as `ablate report` prints them, from its first line to the controls."""
    out = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / name
        shutil.copytree(GALLERY / name, copy)
        console = Console(file=out, width=80, color_system=None, force_terminal=False)
        print_report(build_report(copy), copy, console)
    shown, _, _ = out.getvalue().partition("\ncontrols ")
    return "".join(f"{line.rstrip()}\n" for line in shown.rstrip().splitlines())


def with_tables(text: str, name: str) -> str:
    """A gallery page with its table made anew."""
    made = f"<!-- table -->\n```text\n{tables(name)}```\n<!-- end of table -->"
    return re.sub(r"<!-- table -->.*?<!-- end of table -->", lambda _: made, text, flags=re.DOTALL)


def keep(study: Path, into: Path) -> None:
    """Take over the record of a finished study."""
    target = StudyDir(into)
    _keep_json(StudyDir(study).plan, target.plan)
    for run in StudyDir(study).runs():
        kept = type(run)(into / run.path.relative_to(study))
        kept.path.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run.config, kept.config)
        for name in _VALUES:
            _keep_json(getattr(run, name), getattr(kept, name))
        for name in _TABLES:
            _keep_table(getattr(run, name), getattr(kept, name))


def _keep_json(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(read_json(source), sort_keys=True, separators=(",", ":")) + "\n", encoding="utf-8")


def _keep_table(source: Path, target: Path) -> None:
    with pa.ipc.open_stream(source) as stream:
        table = stream.read_all().combine_chunks()
    with target.open("wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)


def main() -> None:
    """Build the pages, or keep a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("site/gallery"))
    parser.add_argument("name", nargs="?")
    parser.add_argument("--keep", action="store_true", help="take the study in this folder into the gallery")
    parser.add_argument("--tables", action="store_true", help="rewrite the tables of the gallery's own pages")
    asked = parser.parse_args()
    if asked.tables:
        for study in studies():
            page = study.with_suffix(".md")
            page.write_text(with_tables(page.read_text(encoding="utf-8"), study.name), encoding="utf-8")
        return
    if asked.keep:
        into = GALLERY / (asked.name or asked.folder.name)
        shutil.rmtree(into, ignore_errors=True)
        keep(asked.folder, into)
        print(f"{into}: {sum(path.stat().st_size for path in into.rglob('*') if path.is_file()):,} bytes")
        return
    for page in build(asked.folder):
        print(page)


if __name__ == "__main__":
    main()

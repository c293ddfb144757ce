"""Writes the reference pages whose facts stand in the source: `python docs/make_reference.py`.

`docs/reference/config.md` comes from the dataclasses of `ablate.config` and the string under each field;
`docs/reference/record.md` has its tables of columns from `ablate.record.columns` between its marks, the rest of it is
written by hand. A test runs this and compares.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from itertools import zip_longest
from pathlib import Path

import pyarrow as pa

from ablate.config import Config
from ablate.design.axis import show
from ablate.record.columns import EVALS, TRACE, meaning

REFERENCE = Path(__file__).parent / "reference"

_HEAD = """\
# Configuration

Every key, its default and its meaning. A key is typed as `group.key=value` on the command line; the groups are the
folders of `conf/`, and a group's file is chosen with `group=file` (`model=bert`). `ablate axes` lists the axes.

The defaults here are those of the typed schema in `ablate/config.py`, which checks every value before anything runs; the
files of `conf/` set some of them again. This page is made from that source by `docs/make_reference.py`.

Intervals (`loop.budget`, `observe.eval_every`, `observe.log_every`) have a unit: `20 steps`, `64 samples`, `0.1 epochs`.
A bare number means optimizer steps. None is typed `null`.
"""


def field_meanings(cls: type) -> dict[str, str]:
    """{field: the string that stands under it in the source}, in one line each."""
    (body,) = (node for node in ast.parse(inspect.getsource(cls)).body if isinstance(node, ast.ClassDef))
    meanings = {}
    for field, below in zip_longest(body.body, body.body[1:]):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            told = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            meanings[field.target.id] = " ".join(str(below.value.value).split()) if told else ""
    return meanings


def config_page() -> str:
    """The text of config.md."""
    lines = [_HEAD]
    own = []
    for field in dataclasses.fields(Config):
        default = field.default_factory() if callable(field.default_factory) else field.default
        if dataclasses.is_dataclass(default):
            lines += _group(field.name, type(default), default)
        else:
            own.append((field.name, default, field_meanings(Config)[field.name]))
    lines += ["## The run itself", "", *_table(own)]
    return "\n".join(lines)


def _group(name: str, cls: type, default: object) -> list[str]:
    meanings = field_meanings(cls)
    rows = [(f"{name}.{f.name}", getattr(default, f.name), meanings[f.name]) for f in dataclasses.fields(default)]
    about = inspect.getdoc(cls) or ""
    generated = about.startswith(f"{cls.__name__}(")  # the signature that dataclass writes where nobody wrote anything
    return [f"## {name}", "", *([] if generated else [" ".join(about.split()), ""]), *_table(rows)]


def _table(rows: list[tuple[str, object, str]]) -> list[str]:
    cells = [f"| `{key}` | `{_typed(default)}` | {_cell(text)} |" for key, default, text in rows]
    return ["| key | default | meaning |", "| --- | --- | --- |", *cells, ""]


def _typed(value: object) -> str:
    return str(value) if isinstance(value, list | dict) else show(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def columns_table(schema: pa.Schema) -> str:
    """One row per column: name, type, meaning with its unit."""
    rows = [f"| `{field.name}` | {field.type} | {_cell(meaning(field))} |" for field in schema]
    return "\n".join(["| column | type | meaning |", "| --- | --- | --- |", *rows])


def record_page(text: str) -> str:
    """record.md with its tables of columns made anew."""
    for name, table in (("trace", columns_table(TRACE)), ("evals", columns_table(EVALS))):
        marks = f"<!-- {name} columns -->", f"<!-- end of {name} columns -->"
        pattern = re.compile(f"({re.escape(marks[0])}\n).*?({re.escape(marks[1])})", re.DOTALL)
        (old,) = pattern.findall(text)
        text = pattern.sub(lambda _, new=f"{old[0]}{table}\n{old[1]}": new, text)
    return text


def main() -> None:
    """Write both pages."""
    (REFERENCE / "config.md").write_text(config_page(), encoding="utf-8")
    record = REFERENCE / "record.md"
    record.write_text(record_page(record.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

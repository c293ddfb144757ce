"""Generate the reference pages from the source: `python docs/make_reference.py`.

`docs/reference/config.md`: from the dataclasses of `ablate.config.schema` and the string under each field.
`docs/reference/frames.md`: from the columns in `ablate.notebook`.
`docs/reference/metrics.md`: from the registry in `ablate.metrics.registry`.
`docs/reference/record.md`: its tables of columns, from `ablate.records.schema`; the rest is written by hand.
`docs/reference/cli.md`: from the help of every verb.
`docs/reference/api.md`: from the docstrings of `ablate.__all__`.
A test runs this script and compares.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa

import ablate
from ablate import cli, metric_direction
from ablate.config.schema import Config
from ablate.design.axis import show
from ablate.metrics import custom, eval_metrics
from ablate.metrics.registry import METRICS, get_metric
from ablate.notebook.frames import frames_page
from ablate.records.schema import EVALS, PREDICTIONS, TRACE, meaning

REFERENCE = Path(__file__).parent / "reference"

_HEAD = """\
# Configuration

Every key with its default and meaning. Set a key with `group.key=value` on the command line; choose a group's file in `conf/`
with `group=file` (`model=bert`). `ablate axes` lists the standard axes.

The defaults below are those of the typed schema in `ablate/config/`, which checks every value before anything runs. The files
in `conf/` override some of them. `docs/make_reference.py` generates this page.

Intervals (`train.budget`, `eval.every`, `tracker.log_every`) have a unit: `20 steps`, `64 samples`, `0.1 epochs`.
A number without a unit means optimizer steps. Write None as `null`.
"""


def field_meanings(cls: type) -> dict[str, str]:
    """Return {field: the string under it in the source}, each on one line."""
    (body,) = (node for node in ast.parse(inspect.getsource(cls)).body if isinstance(node, ast.ClassDef))
    meanings = {}
    for field, below in zip_longest(body.body, body.body[1:]):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            documented = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            meanings[field.target.id] = " ".join(str(below.value.value).split()) if documented else ""
    return meanings


def config_page() -> str:
    """Return the text of config.md."""
    lines = [_HEAD]
    own = []
    for field in dataclasses.fields(Config):
        default = field.default_factory() if callable(field.default_factory) else field.default
        if dataclasses.is_dataclass(default):
            lines += _group(field.name, type(default), default)
        else:
            own.append((field.name, default, field_meanings(Config)[field.name]))
    lines += ["## Top-level keys", "", *_table(own)]
    return "\n".join(lines)


def _group(name: str, cls: type, default: object) -> list[str]:
    meanings = field_meanings(cls)
    rows = [(f"{name}.{f.name}", getattr(default, f.name), meanings[f.name]) for f in dataclasses.fields(default)]
    about = inspect.getdoc(cls) or ""
    generated = about.startswith(f"{cls.__name__}(")  # the signature that dataclass writes by default
    return [f"## {name}", "", *([] if generated else [" ".join(about.split()), ""]), *_table(rows)]


def _table(rows: list[tuple[str, object, str]]) -> list[str]:
    cells = [f"| `{key}` | `{_default_text(default)}` | {_cell(text)} |" for key, default, text in rows]
    return ["| key | default | meaning |", "| --- | --- | --- |", *cells, ""]


def _default_text(value: object) -> str:
    return str(value) if isinstance(value, list | dict) else show(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def columns_table(schema: pa.Schema) -> str:
    """Return a table with one row per column: name, type, meaning with its unit."""
    rows = [f"| `{field.name}` | {field.type} | {_cell(meaning(field))} |" for field in schema]
    return "\n".join(["| column | type | meaning |", "| --- | --- | --- |", *rows])


def record_page(text: str) -> str:
    """Return record.md with its tables of columns replaced."""
    tables = {"trace": TRACE, "evals": EVALS, "predictions": PREDICTIONS}
    for name, table in ((name, columns_table(schema)) for name, schema in tables.items()):
        marks = f"<!-- {name} columns -->", f"<!-- end of {name} columns -->"
        pattern = re.compile(f"({re.escape(marks[0])}\n).*?({re.escape(marks[1])})", re.DOTALL)
        (old,) = pattern.findall(text)
        text = pattern.sub(lambda _, new=f"{old[0]}{table}\n{old[1]}": new, text)
    return text


_METRICS = """\
# Metrics

A metric is one number per run. `study.metric` names the primary metric, which the verdicts are about; the report shows the
others as well. All runs are compared at the cadence in the table, so a run that was evaluated more often has no advantage, and
quantiles are corrected for the number of steps. [Evaluation cadence](../explain/evaluation_cadence.md) explains what a coarser
record would have shown, and whether the verdict would change.

`docs/make_reference.py` generates this page from `ablate/metrics/registry.py`.

## Standard metrics

{standard}

The divergence rate is not in the table because it is not a number per run. It is compared by an exact test over all runs that
finished or diverged, if at least one diverged. A diverged run has no other metric.

## Metrics from evaluations

`eval_<metric>` is computed in every study for every evaluated metric; the others when `study.metric` names them. A word in the
name decides which side is better: lower for {lower}; higher for {higher}. `eval_<metric>_auc` requires such a
word, because `eval_roc_auc` is the final value of `roc_auc`. A name that is one typing error away from a standard metric is
refused.

{patterns}

## Time to a target

`samples_to:`, `steps_to:` or `seconds_to:`, then a curve and a value: `study.metric=samples_to:eval_loss:0.6`.

{targets}

Runs that never reach the target have no value, and the contrast states its number of seeds.

## Custom metrics

`study.metric=my_module:my_metric` is a function in `my_module.py` of the current directory. It receives the `Record` of one run
and returns a number, or None if the run has none:

```python
{own}
```

`record.trace["loss"]` is a column of `trace.arrow` as an array. `record.curves["loss"]` is an evaluation curve with `step`,
`samples`, `train_seconds` and `value`. `record.common_curve("loss")` is the same at the evaluations that all runs
have in common; use it to compare curves. Without `register` the metric has no unit and no better side, and its definition is
the first line of the docstring. The module is imported from the current directory only, never from a study directory, so a
study from another person cannot run code.
"""


def metrics_page() -> str:
    """Return the text of metrics.md."""
    example = (inspect.getdoc(custom) or "").partition("\n")[2]  # without the first line of the docstring
    return _METRICS.format(
        standard=_metrics_table(METRICS),
        lower=", ".join(f"`{word}`" for word in metric_direction.LOWER),
        higher=", ".join(f"`{word}`" for word in metric_direction.HIGHER),
        patterns=_metrics_table([form.format("f1") for form in eval_metrics.FORMS]),
        targets=_metrics_table(["samples_to:eval_loss:0.6", "steps_to:eval_f1:0.9", "seconds_to:eval_loss:0.6"]),
        own=textwrap.dedent(example).strip(),
    )


def _metrics_table(names: Iterable[str]) -> str:
    sides = {True: "lower", False: "higher", None: "none"}
    rows = [
        f"| `{info.name}` | {info.unit} | {sides[info.lower_is_better]} | {_cell(info.cadence)} | {_cell(info.definition)} |"
        for info in (get_metric(name).info for name in names)
    ]
    head = ["| metric | unit | better | compared at | definition |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])


_CLI = """\
# The command line

```text
{help}```

Exit codes are listed in [errors](errors.md). `docs/make_reference.py` generates this page from the help of every verb.
"""


def cli_page() -> str:
    """Return the text of cli.md."""
    parts = [_CLI.format(help=printed(lambda: cli.main(["--help"])))]
    for verb in cli.VERBS:
        parts.append(f"## ablate {verb}\n\n```text\n{printed(lambda verb=verb: cli.run_verb(verb, ['--help']))}```\n")
    return "\n".join(parts)


def printed(call: Callable[[], object]) -> str:
    """Return what a call prints on a terminal of 100 columns."""
    out, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            call()
    finally:
        os.environ.pop("COLUMNS")
        os.environ.update({} if before is None else {"COLUMNS": before})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


_API = """\
# Python

The public names of `ablate`. `import ablate` loads the standard library only; a name is loaded on first use, and `train` loads
torch. Everything that is not on this page may change between releases without notice.

`docs/make_reference.py` generates this page from the docstrings.
"""


def api_page() -> str:
    """Return the text of api.md."""
    return "\n".join([_API, *(part for name in sorted(ablate.__all__, key=str.lower) for part in _described(name))])


def _described(name: str) -> list[str]:
    value = getattr(ablate, name)
    if name == "__version__":
        return [f"## {name}", "", "Version of the installed package as a string, such as `0.1.0`.", ""]
    if value is Config:
        return ["## Config", "", f"{_prose(value)} Every key is in [configuration](config.md).", ""]
    lines = [f"## {name}", "", _signature(name, value), _prose(value), ""]
    if not inspect.isclass(value):
        return lines
    if dataclasses.is_dataclass(value) and (meanings := {k: v for k, v in field_meanings(value).items() if v}):
        lines += [*(f"- `{field}`: {meaning}" for field, meaning in meanings.items()), ""]
    for member, inside in vars(value).items():
        about = (
            inspect.getdoc(inside)
            if isinstance(inside, property | staticmethod | classmethod) or callable(inside)
            else None
        )
        if about and not member.startswith("_"):
            called = "" if isinstance(inside, property) else _signature(f"{name}.{member}", getattr(value, member))
            lines += [f"### {name}.{member}", "", *([called] if called else []), _prose(inside), ""]
    return lines


def _signature(name: str, value: Any) -> str:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    shown = [one for one in signature.parameters.values() if one.name != "self" and not one.name.startswith("_")]
    returned = signature.return_annotation
    end = "" if returned is inspect.Signature.empty or inspect.isclass(value) else f" -> {_annotation(returned)}"
    one_line = f"{name}({', '.join(_parameters(shown))}){end}"
    if len(one_line) > 100:
        one_line = f"{name}(\n" + "".join(f"    {part},\n" for part in _parameters(shown)) + f"){end}"
    return f"```python\n{one_line}\n```\n"


def _parameters(parameters: Iterable[inspect.Parameter]) -> list[str]:
    parts, starred = [], False
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY and not starred:
            parts.append("*")
        starred = starred or one.kind in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
        annotation = "" if one.annotation is one.empty else f": {_annotation(one.annotation)}"
        default = "" if one.default is one.empty else f" = {_default(one.default)}"
        stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        parts.append(f"{stars}{one.name}{annotation}{default}")
    return parts


def _annotation(value: Any) -> str:
    return value if isinstance(value, str) else getattr(value, "__name__", str(value))


def _default(value: object) -> str:
    """Return the text of a default without an address, which differs from run to run."""
    shown = getattr(value, "__name__", repr(value))
    return "..." if " at 0x" in shown or "<" in shown else shown


def _prose(value: Any) -> str:
    text = inspect.getdoc(value) or ""
    generated = inspect.isclass(value) and text.startswith(f"{value.__name__}(")
    return "" if generated else "\n\n".join(map(_paragraph, text.split("\n\n")))


_NAMED = re.compile(r"[a-z_]+((, [a-z_]+)*|\([\w, ]*\)): |[a-z_]+\([\w, ]*\) -> ")
"""The beginning of a line that documents an argument."""


def _paragraph(text: str) -> str:
    """Format a paragraph: a line per argument becomes a list item, and `<` is escaped."""
    if text.startswith("    "):
        return text
    lines, listed = [], False
    for line in text.splitlines():
        named = _NAMED.match(line) is not None
        if not line.startswith(" ") and named != listed:
            lines += [""] if lines else []
            listed = named
        lines.append(f"- {line}" if named else line)
    spans = "\n".join(lines).split("`")
    return "`".join(span if index % 2 else span.replace("<", "&lt;") for index, span in enumerate(spans))


def pages() -> Mapping[Path, str]:
    """Return {file: its text} of every generated page."""
    record = REFERENCE / "record.md"
    return {
        REFERENCE / "config.md": config_page(),
        REFERENCE / "frames.md": frames_page(),
        REFERENCE / "metrics.md": metrics_page(),
        REFERENCE / "cli.md": cli_page(),
        REFERENCE / "api.md": api_page(),
        record: record_page(record.read_text(encoding="utf-8")),
    }


def main() -> None:
    """Write the pages."""
    for file, text in pages().items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

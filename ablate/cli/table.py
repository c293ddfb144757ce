"""`ablate table`."""

from __future__ import annotations

from pathlib import Path

from ablate.cli.parse import parser_of

FORMATS = ("markdown", "latex", "csv")


def run(typed: list[str]) -> int:
    parser = parser_of(
        "table",
        "Print the result as a table for another document. markdown and latex: the primary outcome, as `ablate report` writes\n"
        "it into report.md and table.tex. csv: every contrast on every outcome with all digits, as in table.csv.",
        "ablate table runs/reference",
        "ablate table runs/reference --format latex > table.tex    needs booktabs, and nothing else",
        "ablate table runs/reference --format csv --at steps",
    )
    parser.add_argument("folder", type=Path, help="of the study, such as runs/reference")
    parser.add_argument("--format", choices=FORMATS, default="markdown", help="markdown")
    parser.add_argument("--at", metavar="UNIT|'N UNIT'", help="compare the arms there, as for ablate report")
    asked = parser.parse_args(typed)
    from ablate.analysis.study import analyse
    from ablate.record.redact import redact
    from ablate.report.paper import latex, table_csv
    from ablate.report.tables import contrasts
    from ablate.report.view import make_view

    made = {"markdown": contrasts, "latex": latex, "csv": table_csv}[asked.format]
    print(redact(made(make_view(analyse(asked.folder, at=asked.at)))), end="")
    return 0

"""`ablate doctor`."""

from __future__ import annotations

from ablate.cli.parse import parser_of


def run(typed: list[str]) -> int:
    parser = parser_of(
        "doctor",
        "Say what works on this machine: devices, precision, packages, W&B, models, data.",
        "ablate doctor",
        "ablate doctor --json",
    )
    parser.add_argument("--json", action="store_true", help="the same for a program to read")
    asked = parser.parse_args(typed)
    from dataclasses import asdict

    from ablate.design.compose import opened
    from ablate.study.doctor import examine

    with opened() as composer:
        checks = examine(composer)
    if asked.json:
        from ablate.report.as_json import print_object

        print_object({"checks": [asdict(check) for check in checks]})
        return 0
    for check in checks:
        print(f"{'ok  ' if check.works else '--  '}{check.name:<14}{check.sentence}")
    return 0

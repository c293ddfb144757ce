"""`ablate doctor`."""

from __future__ import annotations

from ablate.cli.parse import parser_of


def run(typed: list[str]) -> int:
    parser_of(
        "doctor", "Say what works on this machine: devices, precision, packages, W&B, models, data.", "ablate doctor"
    ).parse_args(typed)
    from ablate.design.compose import opened
    from ablate.study.doctor import examine

    with opened() as composer:
        checks = examine(composer)
    for check in checks:
        print(f"{'ok  ' if check.works else '--  '}{check.name:<14}{check.sentence}")
    return 0

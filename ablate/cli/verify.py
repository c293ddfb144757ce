"""`ablate verify`."""

from __future__ import annotations

from pathlib import Path

from ablate.cli.parse import console, parser_of


def run(typed: list[str]) -> int:
    parser = parser_of(
        "verify",
        "Check an archive that `ablate bundle` made: the hash of every file, the digests of plan and runs, fingerprints\n"
        "against tables and claims; and make analysis, tables and page anew from its records, to compare them byte for byte.\n"
        "Nothing of it is run, and nothing left on disk.\n"
        "Exit code 0: everything fits; 1: something does not, and is named; 2: no archive of `ablate bundle`.",
        "ablate verify reference.tar",
        "ablate verify reference.tar --sha256 9f86d081884c7d65...",
        "ablate verify reference.tar --json",
    )
    parser.add_argument("archive", type=Path, help="such as reference.tar")
    parser.add_argument("--sha256", default="", metavar="HASH", help="of the archive itself, as its maker published it")
    parser.add_argument(
        "--own-outcome",
        action="store_true",
        help="the study's outcome is a function in this folder, which the archive names: run it",
    )
    parser.add_argument("--json", action="store_true", help="the same for a program to read")
    asked = parser.parse_args(typed)
    from ablate.bundle.say import print_verification, print_verification_json
    from ablate.bundle.verify import verify

    found = verify(asked.archive, sha256=asked.sha256, own_outcome=asked.own_outcome)
    if asked.json:
        print_verification_json(found)
    else:
        print_verification(found, console())
    return int(not found.verified)

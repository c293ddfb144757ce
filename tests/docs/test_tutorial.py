"""The tutorial: every output is what the command above it printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
PAGE = """\
```bash
echo not run
```

```bash
printf 'one\\ntwo  \\nthree\\nfour\\n'   # a comment
```

<!-- output{what} -->
```text
old
```

after
"""


@pytest.mark.parametrize(
    ("what", "printed"),
    [
        ("", "one\ntwo\nthree\nfour\n"),
        (' from "two"', "two\nthree\nfour\n"),
        (' to "two"', "one\ntwo\n"),
        (' from "two" to "three"', "two\nthree\n"),
        (' from "two" before "four"', "two\nthree\n"),
    ],
)
def test_an_output_is_what_the_command_prints(script: Any, tmp_path: Path, what: str, printed: str) -> None:
    page = PAGE.format(what=what)
    assert script("make_tutorial").with_output(page, tmp_path) == page.replace("old\n", printed)


def test_commands_share_a_folder_and_ablate_is_the_one_of_the_checkout(script: Any, tmp_path: Path) -> None:
    page = PAGE.format(what="").replace("printf", "touch made; ls; ablate --version | cut -c1-7; true")
    assert "```text\nmade\nablate \n".replace("ablate ", "ablate") in script("make_tutorial").with_output(
        page, tmp_path
    )


def test_a_command_that_fails_is_not_written_down(script: Any, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        script("make_tutorial").with_output(PAGE.format(what="").replace("printf", "exit 3;"), tmp_path)
    with pytest.raises(RuntimeError, match="with 'five'"):
        script("make_tutorial").with_output(PAGE.format(what=' from "five"'), tmp_path)


def test_a_shell_block_is_lines_of_commands(script: Any) -> None:
    typed = "ablate -m axis=a  # what it does\nablate plan \\\n  axis=b\n\n# only a comment\n"
    assert script("make_tutorial").lines(typed) == ("ablate -m axis=a", "ablate plan axis=b")


def test_every_command_of_the_tutorial_has_its_output(script: Any) -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    shown = script("make_tutorial").blocks(text)
    typed = [
        line
        for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        for line in script("make_tutorial").lines(block)
    ]
    assert [line for block in shown for line in block.commands] == [line for line in typed if line.startswith("ablate")]
    assert all(block.output.strip() for block in shown), "run: python docs/make_tutorial.py"


def test_the_tutorial_ends_in_a_verdict(script: Any) -> None:
    study = next(
        block for block in script("make_tutorial").blocks(TUTORIAL.read_text("utf-8")) if " -m " in block.commands[0]
    )
    assert re.search(r"learning_rate .*(hurts|helps|equivalent|inconclusive)", study.output)
    assert "LOW POWER" in study.output
    assert "one variable" in study.output

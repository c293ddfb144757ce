"""The methods paragraph of a paper, from the plan, the analysis and the manifests.

Every sentence describes what the study did. What was not checked, not declared or not finished is named too. The sentences are
in `templates/methods.txt`, the works that they cite in `static/references.bib`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ablate import formatting as fmt
from ablate.analysis.infer_plan import PlanOptions
from ablate.analysis.interim import declared
from ablate.analysis.load import read_plan
from ablate.analysis.results import Analysis
from ablate.config.flatten import leaf_or_absent, leaves
from ablate.config.schema import Config
from ablate.design.axis import show
from ablate.design.plan import Plan
from ablate.records.layout import StudyDir
from ablate.records.metadata import Manifest
from ablate.report.latex_text import tex
from ablate.report.plan import design_lines
from ablate.report.study_files import StudyFiles
from ablate.report.view_model import View, floors_sentence, named
from ablate.stats.linear_model import ENOUGH_SEEDS
from ablate.stats.paired import smallest_p
from ablate.stats.verdicts import BY_STEPS
from ablate.units import END

BIB = "references.bib"
PROGRAM = "torch-ablate"


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, and the works that it cites."""

    text: str
    cites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Methods:
    """The paragraph. version: of the program that made the runs, according to their manifests."""

    sentences: tuple[Sentence, ...]
    version: str = ""

    @property
    def cited(self) -> tuple[str, ...]:
        return tuple(sorted({key for one in self.sentences for key in one.cites}))

    def plain(self) -> str:
        """Return the paragraph with authors and years in parentheses."""
        return " ".join(_with(one, _named(one.cites)) for one in self.sentences)

    def latex(self) -> str:
        r"""Return the paragraph with `\cite`, for a bibliography from `references.bib`; needs no package."""
        lines = [
            tex(fmt.typeset(one.text.removesuffix(".")))
            + (rf"~\cite{{{','.join(one.cites)}}}" if one.cites else "")
            + "."
            for one in self.sentences
        ]
        return f"% cites {BIB}\n" + "\n".join(lines) + "\n"

    def bib(self) -> str:
        """Return the entries of the cited works, and of the program."""
        return "\n".join([*(works()[key] for key in self.cited if key != PROGRAM), _program(self.version)])


def methods(view: View, folder: Path, options: PlanOptions | None = None) -> Methods:
    """Return the methods of a study directory. options: for a directory without a plan.json, as in `read_plan`."""
    plan = read_plan(folder, options)
    manifests = StudyFiles(view.analysis, folder).manifests()
    found: list[Sentence] = []

    def say(*cites: str, caller: Callable[[], str]) -> str:
        found.append(Sentence(caller(), cites))
        return ""

    environment = Environment(
        loader=PackageLoader("ablate.report"), undefined=StrictUndefined, trim_blocks=True, autoescape=False
    )
    template = environment.get_template("methods.txt", globals={"say": say})
    template.render(_context(view, plan, manifests, frozen=StudyDir(folder).plan.exists()))
    made_by = {one.versions.get(PROGRAM, "") for one in manifests} - {""}
    return Methods(tuple(found), version=fmt.joined(sorted(made_by)) or _installed())


def _context(view: View, plan: Plan, manifests: tuple[Manifest, ...], *, frozen: bool) -> dict[str, Any]:
    """What the sentences are about. frozen: whether the plan was written before the first run.

    external: whether an external loop trained: its random streams and its definition of a step are not known then.
    """
    analysis = view.analysis
    kinds = [arm.kind for arm in view.arms]
    return {
        "analysis": analysis,
        "view": view,
        "plan": plan,
        "frozen": frozen,
        "external": plan.app is not None or analysis.imported is not None or not frozen,
        "program": PROGRAM,
        "kinds": kinds,
        "variants": [arm.change for arm in view.arms if arm.kind not in (None, "placebo", "rerun", "observation")],
        "design": next((text.rstrip(":") for _, text in design_lines(plan.crossed)), "") if plan.crossed else "",
        "seeds": _seeds(analysis, plan),
        "trained": _trained(plan.baseline.config),
        "settings": _settings(plan),
        "derived": _derived(analysis),
        "batches": any("data.batch_size" in arm.changes for arm in view.arms),
        "declared": _declared(analysis, plan, frozen=frozen),
        "ended": Counter(run.status for run in analysis.runs),
        "shared": sum(one.shared_from is not None for one in manifests),
        "devices": sorted({one.device for one in manifests if one.device}),
        "versions": sorted({one.versions["torch"] for one in manifests if "torch" in one.versions}),
        "leaf": lambda key: _leaf(plan.baseline.config, key),
        **{"joined": fmt.joined, "counted": fmt.counted, "plain": fmt.plain, "number": _number},
        **{"named": named, "floors_sentence": floors_sentence},
        **_tests(view),
    }


def _tests(view: View) -> dict[str, Any]:
    """Which tests were made."""
    analysis = view.analysis
    primary = [one for one in analysis.contrasts if one.primary]
    family = max((one.family for one in primary), default=1)
    fewest = min((len(one.seeds) for one in primary if one.seeds), default=ENOUGH_SEEDS)
    diverged = [one for one in analysis.divergences if one.count or one.baseline_count]
    definition, budgets = view.metric.definition.rstrip("."), analysis.budgets
    at_samples = budgets is not None and budgets.unit in (END, "samples")
    return {
        "primary": primary,
        "family": family,
        "pooled": any(one.method == "seed-blocked" for one in primary),
        "by_steps": any(BY_STEPS in one.labels for one in primary),
        "incomplete": any("MISSING SEEDS" in one.labels for one in primary),
        "exact": any(one.signflip_p is not None and smallest_p(len(one.seeds)) < 0.05 for one in primary),
        "few": fewest if fewest < ENOUGH_SEEDS else 0,
        "interim": _interim(analysis),
        "meaning": f": {definition[:1].lower()}{definition[1:]}" if definition else "",
        "updates_differ": at_samples
        and budgets is not None
        and len({arm.samples for arm in budgets.arms}) == 1
        and len({arm.steps for arm in budgets.arms}) > 1,
        "divergences": "; ".join(
            f"{one.arm} {one.count} of {one.runs} (p {fmt.p_value(one.p_value)})" for one in diverged
        ),
    }


def _interim(analysis: Analysis) -> str:
    if analysis.interim is None:
        return ""
    made = [one for one in analysis.interim.analyses if one.made]
    levels = [one.level for one in analysis.interim.analyses]
    text = declared([one.seeds for one in analysis.interim.analyses], analysis.interim.spending, levels)
    done = f"{len(made)} of {len(levels)} interim analyses made" if made else "no interim analysis made yet"
    share = "" if analysis.interim.spending == "anytime" else ", which share the 5%"
    return f"{text}{share}; {done}"


def _trained(config: Mapping[str, Any]) -> str:
    model, data = _leaf(config, "model.name"), _leaf(config, "data.path") or _leaf(config, "data.name")
    target = _leaf(config, "task.entry_point")
    if not model or not data:
        return ""
    random = _leaf(config, "model.init") == "random"
    start = "a randomly initialized model of the architecture of" if random else "the model"
    return f"the task {target}" if target else f"{start} {model} on the data {data}"


def _settings(plan: Plan) -> str:
    """The optimizer's settings; those that nobody declared are named as defaults."""
    config = plan.baseline.config
    limit = _leaf(config, "train.max_grad_norm")
    settings = {
        "optim.name": f"optimizer {_leaf(config, 'optim.name')}",
        "optim.lr": f"rate {_plain(_leaf(config, 'optim.lr'))}",
        "optim.weight_decay": f"weight decay {_plain(_leaf(config, 'optim.weight_decay'))}",
        "optim.lr_schedule": f"{_leaf(config, 'optim.lr_schedule')} schedule",
        "optim.warmup_ratio": f"{_plain(_leaf(config, 'optim.warmup_ratio'))} of the budget as warm-up",
        "data.batch_size": f"batches of {_leaf(config, 'data.batch_size')}",
        "train.max_grad_norm": f"gradients clipped at a norm of {_plain(limit)}" if limit else "no clipping",
    }
    chosen, by_default = _by_declaration(plan, settings)
    return "; ".join(
        [*([", ".join(chosen)] if chosen else []), *([f"by default: {', '.join(by_default)}"] if by_default else [])]
    )


def _declared(analysis: Analysis, plan: Plan, *, frozen: bool) -> str:
    smallest = f"{analysis.smallest_effect:g} as the smallest effect of interest"
    if not frozen:
        return f"Chosen in the analysis: this metric, and {smallest}"
    chosen, by_default = _by_declaration(plan, {"study.metric": "this metric", "study.smallest_effect": smallest})
    first = f"Declared before the first run: {fmt.joined(chosen)}" if chosen else ""
    second = f"{'by' if chosen else 'By'} default, before the first run: {fmt.joined(by_default)}" if by_default else ""
    return "; ".join(filter(None, (first, second)))


def _by_declaration(plan: Plan, settings: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Divide settings into those that the command or a file that it names sets, and defaults."""
    defaults = leaves(asdict(Config()))
    chosen, by_default = list[str](), list[str]()
    for key, text in settings.items():
        written = re.search(rf"(^|[\s'\"+]){re.escape(key)}=", plan.command) is not None
        own = written or _leaf(plan.baseline.config, key) != defaults.get(key)
        (chosen if own else by_default).append(text)
    return chosen, by_default


def _derived(analysis: Analysis) -> str:
    found = {}
    for control in analysis.controls:
        items = list(dict.fromkeys(item.partition(".")[0] for item in control.derived))
        if control.name == "matched" and items:
            found[control.arm] = fmt.joined(items)
    return "; ".join(f"{arm}: {items}" for arm, items in found.items())


def _seeds(analysis: Analysis, plan: Plan) -> str:
    numbers = list(analysis.seeds)
    in_a_row = len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1))
    named = f"{numbers[0]} to {numbers[-1]}" if in_a_row else fmt.joined(map(str, numbers))
    return f"{'up to ' if plan.interim_seeds else ''}{fmt.counted(len(numbers), 'seed')} ({named})"


def _number(count: int) -> str:
    names = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
    return names[count] if count < len(names) else str(count)


def _leaf(config: Mapping[str, Any], key: str) -> Any:
    found = leaf_or_absent(config, key)
    return None if found == "absent" else found


def _plain(value: Any) -> str:
    """5e-05, 0.01, 1; an edited plan may contain any type."""
    return f"{value:g}" if isinstance(value, int | float) else show(value)


# The works that are cited.


def _with(one: Sentence, named: str) -> str:
    return f"{fmt.typeset(one.text.removesuffix('.'))}{f' ({named})' if named else ''}."


def _named(cites: tuple[str, ...]) -> str:
    return "; ".join(PROGRAM if key == PROGRAM else short(works()[key]) for key in cites)


@lru_cache(maxsize=1)
def works() -> dict[str, str]:
    """Return the works that a paragraph may cite: their BibTeX entries by key."""
    text = (files("ablate.report") / "static" / BIB).read_text(encoding="ascii")
    return {re.findall(r"@\w+\{(\w+),", entry)[0]: f"{entry.rstrip()}\n" for entry in text.split("\n\n")}


def short(entry: str) -> str:
    """Return `Dunnett and Tamhane 1991`, for a text without a bibliography."""
    author, year = (re.findall(rf"  {field} = \{{(.*)\}},", entry)[0] for field in ("author", "year"))
    names = [name.partition(",")[0] for name in author.split(" and ")]
    several = len(names) > 2 or "others" in names
    return f"{f'{names[0]} et al.' if several else ' and '.join(names)} {year}"


def _program(version: str) -> str:
    lines = [f"@misc{{{PROGRAM},", f"  title = {{{{{PROGRAM}}}: one-variable experiments for PyTorch}},"]
    lines += [f"  key = {{{PROGRAM}}},"]
    lines += [f"  note = {{Version {tex(version)}}},"] if version else []
    return "\n".join([*lines, "}", ""])


def _installed() -> str:
    try:
        return version(PROGRAM)
    except PackageNotFoundError:
        return ""

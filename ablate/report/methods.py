"""What was done, as the methods paragraph of a paper: from the plan, the analysis and the manifests, and nothing else.

A sentence stands here only where the study did what it says. What was not proven, not declared or not finished is said too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ablate import formatting as digits
from ablate.analysis.infer_plan import Asked
from ablate.analysis.interim import declared
from ablate.analysis.load import read_plan
from ablate.analysis.results import Analysis
from ablate.config.flatten import leaf_or_absent
from ablate.design.axis import show
from ablate.design.plan import Plan
from ablate.errors import AblateError
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Manifest, read_manifest
from ablate.report import budgets
from ablate.report.bibliography import PROGRAM, WORKS, bibtex
from ablate.report.effects import design_lines
from ablate.report.latex import tex
from ablate.report.view import View, floors_sentence
from ablate.stats.linear_model import ENOUGH_SEEDS
from ablate.stats.paired import smallest_p
from ablate.stats.verdicts import BY_STEPS, OWN_VARIANCE
from ablate.units import END

BIB = "references.bib"


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence, and the works it rests on."""

    text: str
    cites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Methods:
    """The paragraph. version: of the program that made the runs, as far as their manifests say."""

    sentences: tuple[Said, ...]
    version: str = ""

    @property
    def cited(self) -> tuple[str, ...]:
        return tuple(sorted({key for one in self.sentences for key in one.cites}))

    def plain(self) -> str:
        """With authors and years in brackets."""
        return " ".join(_with(one, _named(one.cites)) for one in self.sentences)

    def latex(self) -> str:
        r"""With `\cite`, for a bibliography made of `references.bib`; needs no package."""
        lines = [
            tex(digits.typeset(one.text.removesuffix(".")))
            + (rf"~\cite{{{','.join(one.cites)}}}" if one.cites else "")
            + "."
            for one in self.sentences
        ]
        return f"% cites {BIB}\n" + "\n".join(lines) + "\n"

    def bib(self) -> str:
        return bibtex((key for key in self.cited if key != PROGRAM), self.version)


def methods(view: View, folder: Path, asked: Asked | None = None) -> Methods:
    """Of a study folder and the view of its analysis. asked: of a folder without a plan.json, as in `read_plan`."""
    plan = read_plan(folder, asked)
    manifests = tuple(_manifests(view.analysis, folder))
    about = _About(view, plan, manifests, frozen=StudyDir(folder).plan.exists())
    made_by = {one.versions.get(PROGRAM, "") for one in manifests} - {""}
    return Methods(tuple(about.sentences()), version=digits.joined(sorted(made_by)) or _installed())


def _with(one: Said, named: str) -> str:
    return f"{digits.typeset(one.text.removesuffix('.'))}{f' ({named})' if named else ''}."


def _named(cites: tuple[str, ...]) -> str:
    return "; ".join(PROGRAM if key == PROGRAM else WORKS[key].short for key in cites)


def _installed() -> str:
    try:
        return version(PROGRAM)
    except PackageNotFoundError:
        return ""


def _manifests(analysis: Analysis, folder: Path) -> Iterator[Manifest]:
    """Of the runs that can be read; a link that leads out of the study is not followed."""
    for run in analysis.runs:
        place = RunDir(folder / run.folder)
        if run.status != "missing" and place.manifest.exists() and not place.leads_out():
            with suppress(AblateError):
                yield read_manifest(place)


@dataclass(frozen=True, slots=True)
class _About:
    """frozen: whether the plan was written before the first run; of an adopted folder it was not."""

    view: View
    plan: Plan
    manifests: tuple[Manifest, ...]
    frozen: bool

    @property
    def analysis(self) -> Analysis:
        return self.view.analysis

    @property
    def foreign(self) -> bool:
        """Whether other code than ours trained: nothing is known then of streams and of what a step is."""
        return self.plan.app is not None or self.analysis.imported is not None or not self.frozen

    def sentences(self) -> Iterator[Said]:
        yield from self._design()
        yield from self._training()
        yield from self._pairing()
        yield from self._controls()
        yield from self._outcome()
        yield from self._budget()
        yield from self._test()
        yield from self._floors()
        yield from self._seen_again()
        yield from self._runs()
        yield from self._limits()
        yield from self._made_with()

    def _design(self) -> Iterator[Said]:
        analysis, plan = self.analysis, self.plan
        seeds = _seeds(analysis, plan)
        if analysis.variance is not None:
            chance = analysis.variance
            yield Said(
                f"One configuration was run under every pair of {chance.draws} draws of {chance.streams[0]} and "
                f"{chance.draws} draws of {chance.streams[1]}, {chance.draws**2} runs"
                + (f"; held at one draw: {digits.joined(chance.held)}" if chance.held else "")
            )
        elif plan.corners is not None:
            corners = plan.corners
            every = "every corner" if not corners.paths else f"{len(corners.numbers)} corners, along drawn orders,"
            yield Said(
                f"Two configurations differ in {digits.counted(len(corners.names), 'key')} "
                f"({digits.joined(corners.names)}); {every} between them was run with {seeds}"
            )
        elif plan.mediation is not None:
            held = plan.mediation
            yield Said(
                f"{held.key} was moved from {held.levels[0]} to {held.levels[1]}, as it is and with a mediator held in both "
                f"arms ({digits.joined(one.label for one in held.held)}); every arm was run with {seeds}"
            )
        elif plan.crossed is not None:
            design = " ".join(text.rstrip(":") for _, text in list(design_lines(plan.crossed))[:1])
            yield Said(f"Several variables were moved together ({design}); every arm was run with {seeds}")
        else:
            variants = [
                arm.change for arm in self.view.arms if arm.kind not in (None, "placebo", "rerun", "observation")
            ]
            if variants:
                count = "One change was" if len(variants) == 1 else f"{_number(len(variants))} changes were each"
                alone = "" if len(variants) == 1 else " alone"
                yield Said(
                    f"{count} made{alone} to one baseline ({'; '.join(variants)}), and the baseline and every variant were run "
                    f"with {seeds}"
                )
            else:
                yield Said(f"One baseline was run with {seeds}, and no variant of it")
        controls = [arm.kind for arm in self.view.arms if arm.kind in ("placebo", "rerun")]
        if "placebo" in controls:
            yield Said(
                "A placebo arm repeats the baseline with another order of the samples and other dropout masks",
                ("bouthillier2021",),
            )
        if "rerun" in controls:
            yield Said("A repeat arm is the baseline with the same seed once more")
        if not self.frozen:
            yield Said(
                "No plan was written before the runs: arms, metric and smallest effect were told from the runs or chosen in "
                "the reading"
            )

    def _training(self) -> Iterator[Said]:
        """The baseline's settings, where the config is one of ours."""
        config = self.plan.baseline.config
        if self.foreign:
            return
        model, data = _leaf(config, "model.name"), _leaf(config, "data.path") or _leaf(config, "data.name")
        if model and data:
            start = (
                "a model of random weights of the shape of" if _leaf(config, "model.init") == "random" else "the model"
            )
            target = _leaf(config, "task.entry_point")
            what = f"the task {target}" if target else f"{start} {model} on the data {data}"
            yield Said(
                f"The baseline trains {what} with {_leaf(config, 'optim.name')} (rate "
                f"{_plain(_leaf(config, 'optim.lr'))}, weight decay {_plain(_leaf(config, 'optim.weight_decay'))}, "
                f"{_leaf(config, 'optim.lr_schedule')} schedule, {_plain(_leaf(config, 'optim.warmup_ratio'))} of the budget as "
                f"warm-up), in batches of {_leaf(config, 'data.batch_size')}{_clip(config)}, for {_leaf(config, 'train.budget')}"
            )
        derived = self.plan.baseline.derived
        if "eval_examples" in derived:
            held = f"{digits.plain(derived['eval_examples'])} held-out examples"
            yield Said(f"It is evaluated on {held}, every {_leaf(config, 'eval.every')}")

    def _pairing(self) -> Iterator[Said]:
        if self.analysis.variance is not None:
            return
        if self.foreign:
            yield Said("Runs of equal seed number were paired; what their seeds make equal is not known")
            return
        yield Said(
            "Runs of one seed are paired: initial weights, the order of the samples and dropout are drawn from streams of "
            "their own, keyed by that seed"
        )
        if held := self.view.controls.held:
            yield Said(f"Found equal in every arm and seed, in the live objects: {digits.joined(held)}")
        came = {}
        for control in self.analysis.controls:
            items = list(dict.fromkeys(item.partition(".")[0] for item in control.derived))
            if control.name == "matched" and items:
                came[control.arm] = digits.joined(items)
        if came:
            arms = "; ".join(f"{arm}: {items}" for arm, items in came.items())
            yield Said(f"Not equal, and declared to come with the change: {arms}")
        if any("data.batch_size" in arm.changes for arm in self.view.arms):
            yield Said("Dropout masks of unequal batch sizes are not the same")

    def _controls(self) -> Iterator[Said]:
        summary = self.view.controls.summary
        if summary:
            yield Said(f"Controls: {'; '.join(f'{label} {figures}' for label, figures in summary)}")
        for sentence in self.view.controls.failures:
            yield Said(f"A control that is not proven: {sentence}")

    def _outcome(self) -> Iterator[Said]:
        analysis, metric = self.analysis, self.view.metric
        unit = f" ({metric.unit})" if metric.unit else ""
        definition = metric.definition.rstrip(".")
        said = f": {definition[:1].lower()}{definition[1:]}" if definition else ""
        yield Said(f"The primary outcome is {metric.name}{unit}, {self.view.direction}{said}")
        when = "Declared before the first run" if self.frozen else "Chosen in the reading"
        yield Said(f"{when}: this outcome, and {analysis.smallest_effect:g} as the smallest difference that matters")

    def _budget(self) -> Iterator[Said]:
        about = self.analysis.budgets
        if about is None or not about.question:
            return
        steps = {arm.steps for arm in about.arms}
        samples = {arm.samples for arm in about.arms}
        alike = about.unit in (END, "samples") and len(samples) == 1 and len(steps) > 1
        yield Said(
            f"Arms were compared {about.question}"
            + ("; another number of updates comes with the change" if alike else ""),
            ("shallue2019",) if alike else (),
        )
        for caution in budgets.cautions(self.analysis):
            yield Said(caution)

    def _test(self) -> Iterator[Said]:
        analysis = self.analysis
        if analysis.variance is not None:
            yield Said(
                "The variance between runs was divided between the two streams and what is left (two crossed random effects), "
                "with generalized 95 % intervals of the shares",
                ("weerahandi1993",),
            )
            return
        primary = [one for one in analysis.contrasts if one.primary]
        if not primary:
            return
        family = max(one.family for one in primary)
        pooled = any(one.method == "seed-blocked" for one in primary)
        if pooled:
            yield Said(
                "All variants were judged together in one linear model (value = arm + seed + residual, one residual variance); "
                f"intervals and p are Dunnett's, simultaneous over {family} variants",
                ("dunnett1955",),
            )
            if any(len(one.seeds) >= ENOUGH_SEEDS for one in primary if one.family == family):
                used = any(BY_STEPS in one.labels for one in primary)
                yield Said(
                    "Verdicts are taken by steps, at 5 % over all variants together, and need the variant's own paired t test "
                    "to agree" + ("; a verdict by steps alone is marked" if used else ""),
                    ("dunnetttamhane1991",),
                )
            else:
                yield Said("A verdict also needs the variant's own paired t test to agree")
        elif family > 1:
            yield Said(
                f"Each of {family} variants was judged by its own paired t test over seeds, with Holm's correction",
                ("holm1979",),
            )
        else:
            level = self.view.method.split(",")[0]
            yield Said(
                f"Each arm was compared with the baseline by a paired t test over seeds, two-sided, with {level}"
            )
        if pooled and any(OWN_VARIANCE in one.labels for one in primary):
            arms = digits.joined(one.arm for one in primary if OWN_VARIANCE in one.labels)
            yield Said(
                f"An F test set aside {arms}, whose spread (or the baseline's) is unlike the other arms': judged by own pairs "
                "with Holm's correction",
                ("holm1979",),
            )
        if any("MISSING SEEDS" in one.labels for one in primary) and pooled:
            yield Said(
                "Seeds that lost an arm count for what they hold (incomplete blocks); nothing was imputed",
                ("yates1940",),
            )
        yield Said(
            "The verdict that there is no effect takes two one-sided tests inside the smallest difference that matters; "
            "what is neither is undecided",
            ("lakens2017",),
        )
        exact = [one for one in primary if one.signflip_p is not None and smallest_p(len(one.seeds)) < 0.05]
        if exact:
            yield Said("An exact sign-flip test over seeds is reported beside it, unadjusted", ("fisher1935",))
        yield Said("Effect sizes are Hedges g, by the standard deviation of single runs", ("hedges1981",))
        yield from self._more_tests()
        yield from self._looks()

    def _more_tests(self) -> Iterator[Said]:
        analysis = self.analysis
        if (shares := analysis.attribution) is not None and not shares.refused:
            yield Said(
                "The difference between the two configurations was divided into what each key does alone and what they do only "
                "together, and with that divided evenly among them; shares have Fieller's intervals, and parts are told from "
                "zero by a closed test over all of them",
                ("shapley1953", "fieller1954", "shaffer1986"),
            )
        if (held := analysis.mediated) is not None and held.held and not held.refused:
            yield Said(
                "What goes through the mediator is the treatment's effect less that between arms with the mediator held, as a "
                "share of the total with Fieller's interval",
                ("fieller1954",),
            )
        if (crossed := analysis.effects) is not None and not crossed.refused:
            yield Said(
                f"Main effects and interactions are contrasts of the {len(crossed.cells)} arms' means, with 95 % intervals "
                f"simultaneous over all {crossed.family} of them"
            )

    def _looks(self) -> Iterator[Said]:
        looks = self.analysis.looks
        if looks is None:
            return
        levels = [one.level for one in looks.looks]
        made = [one for one in looks.looks if one.made]
        said = declared([one.seeds for one in looks.looks], looks.spending, levels)
        done = f"{len(made)} of {len(levels)} looks made" if made else "no look made yet"
        yield Said(
            f"Seeds were added until variants were decided: {said}, which share the 5 %; {done}; a variant that a look decided "
            "was run no further, and its effect is overstated on average",
            ("landemets1983", "jennisonturnbull1989"),
        )

    def _floors(self) -> Iterator[Said]:
        if text := floors_sentence(self.view):
            yield Said(f"{text.removesuffix('.')} (root mean square of the differences from the baseline)")

    def _seen_again(self) -> Iterator[Said]:
        for axis, levels in self.view.replays.items():
            shown = digits.joined(str(level.level) for level in levels)
            same = all(level.same_trajectory for level in levels)
            yield Said(
                f"{axis} ({shown}) was read again from the dense record of the baseline's runs; nothing was trained for it"
                + ("" if same else ", and the trajectories are NOT the same")
            )

    def _runs(self) -> Iterator[Said]:
        runs = self.analysis.runs
        count = Counter(run.status for run in runs)
        others = [f"{number} {status}" for status, number in sorted(count.items()) if status != "finished"]
        yield Said(
            f"Of {digits.counted(len(runs), 'run')} {count['finished']} finished"
            + "".join(f", {one}" for one in others)
        )
        if diverged := [one for one in self.analysis.divergences if one.count or one.baseline_count]:
            rates = "; ".join(
                f"{one.arm} {one.count} of {one.runs} (p {digits.p_value(one.p_value)})" for one in diverged
            )
            yield Said(
                f"Divergence is an outcome of its own, over all runs that finished or diverged, with exact intervals and "
                f"Fisher's exact test against the baseline with Holm's correction: {rates}",
                ("clopperpearson1934", "holm1979"),
            )
        shared = sum(one.shared_from is not None for one in self.manifests)
        if shared:
            yield Said(f"{digits.counted(shared, 'run')} of these had been made by an earlier study with equal digests")

    def _limits(self) -> Iterator[Said]:
        if imported := self.analysis.imported:
            for _, sentence in imported.alarms:
                yield Said(sentence)
        primary = [one for one in self.analysis.contrasts if one.primary and one.seeds]
        few = min((len(one.seeds) for one in primary), default=ENOUGH_SEEDS)
        if few < ENOUGH_SEEDS:
            yield Said(
                f"With {digits.counted(few, 'seed')} the power is low: a true effect is easily missed, and a found one is "
                "likely overstated",
                ("colas2018",),
            )
        if self.analysis.examples is None or not self.analysis.examples.contrasts:
            yield Said(
                "Claims are about this evaluation set: the sampling of its examples is not part of the intervals"
            )
        if not self.analysis.complete:
            yield Said("The study is not complete")

    def _made_with(self) -> Iterator[Said]:
        where = sorted({one.device for one in self.manifests if one.device})
        torch = sorted({one.versions["torch"] for one in self.manifests if "torch" in one.versions})
        on = f" on {digits.joined(where)}" if where else ""
        by = f" with PyTorch {digits.joined(torch)}" if torch else ""
        made = "Runs were made" if on or by else ""
        read = f"planned, controlled and read with {PROGRAM}" if not self.foreign else f"read with {PROGRAM}"
        start = f"{made}{on}{by}, and " if made else "The study was "
        yield Said(f"{start}{read}" + (f": {self.plan.command}" if self.plan.command else ""), (PROGRAM,))


def _seeds(analysis: Analysis, plan: Plan) -> str:
    numbers = list(analysis.seeds)
    named = (
        f"{numbers[0]} to {numbers[-1]}"
        if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1))
        else ""
    )
    named = named or digits.joined(map(str, numbers))
    return f"{'up to ' if plan.looks else ''}{digits.counted(len(numbers), 'seed')} ({named})"


def _number(count: int) -> str:
    names = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
    return names[count] if count < len(names) else str(count)


def _leaf(config: Mapping[str, Any], key: str) -> Any:
    found = leaf_or_absent(config, key)
    return None if found == "absent" else found


def _plain(value: Any) -> str:
    """5e-05, 0.01, 1; a plan that was edited may hold anything."""
    return f"{value:g}" if isinstance(value, int | float) else show(value)


def _clip(config: Mapping[str, Any]) -> str:
    limit = _leaf(config, "train.max_grad_norm")
    return f", gradients clipped at a norm of {_plain(limit)}" if limit is not None else ", without clipping"

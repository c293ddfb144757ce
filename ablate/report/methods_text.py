"""Sentences of the methods paragraph: each describes what the study did, with the works that it cites."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ablate import formatting as fmt
from ablate.analysis.interim import declared
from ablate.analysis.results import Analysis
from ablate.config.flatten import leaf_or_absent, leaves
from ablate.config.schema import Config
from ablate.design.axis import show
from ablate.design.plan import Plan
from ablate.records.metadata import Manifest
from ablate.report.plan import design_lines
from ablate.report.view_model import View, floors_sentence
from ablate.stats.linear_model import ENOUGH_SEEDS
from ablate.stats.paired import smallest_p
from ablate.stats.verdicts import BY_STEPS, OWN_VARIANCE
from ablate.units import END

PROGRAM = "torch-ablate"


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, and the works that it cites."""

    text: str
    cites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """frozen: whether the plan was written before the first run; False for a plan inferred from runs."""

    view: View
    plan: Plan
    manifests: tuple[Manifest, ...]
    frozen: bool

    @property
    def analysis(self) -> Analysis:
        return self.view.analysis

    @property
    def external(self) -> bool:
        """Whether an external loop trained: its random streams and its definition of a step are not known then."""
        return self.plan.app is not None or self.analysis.imported is not None or not self.frozen

    def sentences(self) -> Iterator[Sentence]:
        yield from self._design()
        yield from self._training()
        yield from self._pairing()
        yield from self._controls()
        yield from self._outcome()
        yield from self._budget()
        yield from self._test()
        yield from self._floors()
        yield from self._resampled()
        yield from self._runs()
        yield from self._limits()
        yield from self._made_with()

    def _design(self) -> Iterator[Sentence]:
        analysis, plan = self.analysis, self.plan
        seeds = _seeds(analysis, plan)
        if analysis.variance is not None:
            variance = analysis.variance
            yield Sentence(
                f"One configuration was run under every pair of {variance.draws} draws of {variance.streams[0]} and "
                f"{variance.draws} draws of {variance.streams[1]}, {variance.draws**2} runs"
                + (f"; held at one draw: {fmt.joined(variance.held)}" if variance.held else "")
            )
        elif plan.corners is not None:
            corners = plan.corners
            every = (
                "every combination"
                if not corners.paths
                else f"{len(corners.numbers)} combinations, along drawn orders,"
            )
            yield Sentence(
                f"Two configurations differ in {fmt.counted(len(corners.names), 'key')} "
                f"({fmt.joined(corners.names)}); {every} of the two was run with {seeds}"
            )
        elif plan.mediation is not None:
            held = plan.mediation
            yield Sentence(
                f"{held.key} was changed from {held.levels[0]} to {held.levels[1]}, with and without a mediator held in both "
                f"arms ({fmt.joined(one.label for one in held.held)}); every arm was run with {seeds}"
            )
        elif plan.crossed is not None:
            design = " ".join(text.rstrip(":") for _, text in list(design_lines(plan.crossed))[:1])
            yield Sentence(f"Several variables were changed together ({design}); every arm was run with {seeds}")
        else:
            variants = [
                arm.change for arm in self.view.arms if arm.kind not in (None, "placebo", "rerun", "observation")
            ]
            if variants:
                count = "One change was" if len(variants) == 1 else f"{_number(len(variants))} changes were each"
                alone = "" if len(variants) == 1 else " alone"
                yield Sentence(
                    f"{count} made{alone} to one baseline ({'; '.join(variants)}), and the baseline and every variant were run "
                    f"with {seeds}"
                )
            else:
                yield Sentence(f"One baseline was run with {seeds}, and no variant of it")
        controls = [arm.kind for arm in self.view.arms if arm.kind in ("placebo", "rerun")]
        if "placebo" in controls:
            yield Sentence(
                "A placebo arm repeats the baseline with another order of the samples and other dropout masks",
                ("bouthillier2021",),
            )
        if "rerun" in controls:
            yield Sentence("A rerun arm is the baseline with the same seed again")
        if not self.frozen:
            yield Sentence(
                "No plan was written before the runs: arms, metric and smallest effect of interest were inferred from the "
                "runs or chosen in the analysis"
            )

    def _training(self) -> Iterator[Sentence]:
        """The baseline's settings, unless an external loop trained; those that nobody declared are named as defaults."""
        config = self.plan.baseline.config
        if self.external:
            return
        model, data = _leaf(config, "model.name"), _leaf(config, "data.path") or _leaf(config, "data.name")
        if model and data:
            random = _leaf(config, "model.init") == "random"
            start = "a randomly initialized model of the architecture of" if random else "the model"
            target = _leaf(config, "task.entry_point")
            what = f"the task {target}" if target else f"{start} {model} on the data {data}"
            limit = _leaf(config, "train.max_grad_norm")
            settings = {
                "optim.name": f"optimizer {_leaf(config, 'optim.name')}",
                "optim.lr": f"rate {_plain(_leaf(config, 'optim.lr'))}",
                "optim.weight_decay": f"weight decay {_plain(_leaf(config, 'optim.weight_decay'))}",
                "optim.lr_schedule": f"{_leaf(config, 'optim.lr_schedule')} schedule",
                "optim.warmup_ratio": f"{_plain(_leaf(config, 'optim.warmup_ratio'))} of the budget as warm-up",
                "data.batch_size": f"batches of {_leaf(config, 'data.batch_size')}",
                "train.max_grad_norm": "no clipping"
                if limit is None
                else f"gradients clipped at a norm of {_plain(limit)}",
            }
            parts = [", ".join(text for key, text in settings.items() if self._declared(key))]
            by_default = ", ".join(text for key, text in settings.items() if not self._declared(key))
            parts += [f"by default: {by_default}"] if by_default else []
            yield Sentence(
                f"The baseline trains {what} for {_leaf(config, 'train.budget')} ({'; '.join(filter(None, parts))})"
            )
        derived = self.plan.baseline.derived
        if "eval_examples" in derived:
            held = f"{fmt.plain(derived['eval_examples'])} held-out examples"
            yield Sentence(f"It is evaluated on {held}, every {_leaf(config, 'eval.every')}")

    def _declared(self, key: str) -> bool:
        """Whether the study's command or a file that it names sets a value: it is written there, or is not the default."""
        written = re.search(rf"(^|[\s'\"+]){re.escape(key)}=", self.plan.command)
        return written is not None or _leaf(self.plan.baseline.config, key) != leaves(asdict(Config())).get(key)

    def _pairing(self) -> Iterator[Sentence]:
        if self.analysis.variance is not None:
            return
        if self.external:
            yield Sentence("Runs with the same seed number were paired; what the seeds hold equal is not known")
            return
        yield Sentence(
            "Runs with the same seed are paired: initial weights, the order of the samples and dropout are drawn from separate "
            "random streams, keyed by that seed"
        )
        if held := self.view.held:
            yield Sentence(f"Equal in every arm and seed, by fingerprints of the live objects: {fmt.joined(held)}")
        came = {}
        for control in self.analysis.controls:
            items = list(dict.fromkeys(item.partition(".")[0] for item in control.derived))
            if control.name == "matched" and items:
                came[control.arm] = fmt.joined(items)
        if came:
            arms = "; ".join(f"{arm}: {items}" for arm, items in came.items())
            yield Sentence(f"Derived changes, declared beforehand: {arms}")
        if any("data.batch_size" in arm.changes for arm in self.view.arms):
            yield Sentence("Dropout masks differ between batch sizes")

    def _controls(self) -> Iterator[Sentence]:
        summary = self.view.controls
        if summary:
            yield Sentence(f"Controls: {'; '.join(f'{label} {figures}' for label, figures in summary)}")
        for sentence in self.view.control_failures:
            yield Sentence(f"Control not proven: {sentence}")

    def _outcome(self) -> Iterator[Sentence]:
        analysis, metric = self.analysis, self.view.metric
        unit = f" ({metric.unit})" if metric.unit else ""
        definition = metric.definition.rstrip(".")
        meaning = f": {definition[:1].lower()}{definition[1:]}" if definition else ""
        yield Sentence(f"The primary metric is {metric.name}{unit}, {self.view.direction}{meaning}")
        when = "Declared before the first run" if self.frozen else "Chosen in the analysis"
        smallest = f"{analysis.smallest_effect:g} as the smallest effect of interest"
        if self.frozen:
            told = {"study.metric": "this metric", "study.smallest_effect": smallest}
            chosen = [text for key, text in told.items() if self._declared(key)]
            by_default = [text for key, text in told.items() if not self._declared(key)]
            parts = [f"{when}: {fmt.joined(chosen)}"] if chosen else []
            parts += (
                [f"{'by' if chosen else 'By'} default, before the first run: {fmt.joined(by_default)}"]
                if by_default
                else []
            )
            yield Sentence("; ".join(parts))
        else:
            yield Sentence(f"{when}: this metric, and {smallest}")

    def _budget(self) -> Iterator[Sentence]:
        about = self.analysis.budgets
        if about is None or not about.question:
            return
        steps = {arm.steps for arm in about.arms}
        samples = {arm.samples for arm in about.arms}
        alike = about.unit in (END, "samples") and len(samples) == 1 and len(steps) > 1
        yield Sentence(
            f"Arms were compared {about.question}"
            + ("; the number of updates differs with the change" if alike else ""),
            ("shallue2019",) if alike else (),
        )
        for caution in self.view.budget_cautions:
            yield Sentence(caution)

    def _test(self) -> Iterator[Sentence]:
        analysis = self.analysis
        if analysis.variance is not None:
            yield Sentence(
                "The variance between runs was divided between the two streams and the rest (two crossed random effects), "
                "with generalized 95% intervals of the shares",
                ("weerahandi1993",),
            )
            return
        primary = [one for one in analysis.contrasts if one.primary]
        if not primary:
            return
        family = max(one.family for one in primary)
        pooled = any(one.method == "seed-blocked" for one in primary)
        if pooled:
            yield Sentence(
                "All variants were judged together in one linear model (value = arm + seed + residual, one residual variance); "
                f"intervals and p are Dunnett's, simultaneous over {family} variants",
                ("dunnett1955",),
            )
            if any(len(one.seeds) >= ENOUGH_SEEDS for one in primary if one.family == family):
                used = any(BY_STEPS in one.labels for one in primary)
                yield Sentence(
                    "Verdicts are step-down, at 5% over all variants together, and need the variant's own paired t test "
                    "to agree" + ("; a verdict by the step-down procedure alone is marked" if used else ""),
                    ("dunnetttamhane1991",),
                )
            else:
                yield Sentence("A verdict also needs the variant's own paired t test to agree")
        elif family > 1:
            yield Sentence(
                f"Each of {family} variants was judged by its own paired t test over seeds, with Holm's correction",
                ("holm1979",),
            )
        else:
            level = self.view.method.split(",")[0]
            yield Sentence(
                f"Each arm was compared with the baseline by a paired t test over seeds, two-sided, with {level}"
            )
        if pooled and any(OWN_VARIANCE in one.labels for one in primary):
            arms = fmt.joined(one.arm for one in primary if OWN_VARIANCE in one.labels)
            yield Sentence(
                f"An F test set aside {arms}, whose variance (or the baseline's) differs from the other arms': judged by "
                "their own pairs with Holm's correction",
                ("holm1979",),
            )
        if any("MISSING SEEDS" in one.labels for one in primary) and pooled:
            yield Sentence(
                "Seeds with missing runs contribute the runs that they have (incomplete blocks); nothing was imputed",
                ("yates1940",),
            )
        yield Sentence(
            "The verdict `equivalent` takes two one-sided tests within the smallest effect of interest; "
            "an effect that is neither significant nor equivalent is inconclusive",
            ("lakens2017",),
        )
        exact = [one for one in primary if one.signflip_p is not None and smallest_p(len(one.seeds)) < 0.05]
        if exact:
            yield Sentence("An exact sign-flip test over seeds is reported as well, unadjusted", ("fisher1935",))
        yield Sentence("Effect sizes are Hedges g, in standard deviations of single runs", ("hedges1981",))
        yield from self._more_tests()
        yield from self._interim_analyses()

    def _more_tests(self) -> Iterator[Sentence]:
        analysis = self.analysis
        if (shares := analysis.attribution) is not None and not shares.refused:
            yield Sentence(
                "The difference between the two configurations was divided into the effect of each key alone and their "
                "interaction, and with the interaction divided evenly among the keys; shares have Fieller's intervals, and a "
                "closed test over all parts decides which are significant",
                ("shapley1953", "fieller1954", "shaffer1986"),
            )
        if (held := analysis.mediated) is not None and held.held and not held.refused:
            yield Sentence(
                "The effect through the mediator is the treatment's effect minus that between arms with the mediator held, "
                "as a share of the total with Fieller's interval",
                ("fieller1954",),
            )
        if (crossed := analysis.effects) is not None and not crossed.refused:
            yield Sentence(
                f"Main effects and interactions are contrasts of the {len(crossed.cells)} arms' means, with 95% intervals "
                f"simultaneous over all {crossed.family} of them"
            )

    def _interim_analyses(self) -> Iterator[Sentence]:
        interim = self.analysis.interim
        if interim is None:
            return
        levels = [one.level for one in interim.analyses]
        made = [one for one in interim.analyses if one.made]
        text = declared([one.seeds for one in interim.analyses], interim.spending, levels)
        done = f"{len(made)} of {len(levels)} interim analyses made" if made else "no interim analysis made yet"
        yield Sentence(
            f"Seeds were added until variants were decided: {text}, which share the 5%; {done}; a variant that an interim "
            "analysis decided was not run further, and its effect is overstated on average",
            ("landemets1983", "jennisonturnbull1989"),
        )

    def _floors(self) -> Iterator[Sentence]:
        if text := floors_sentence(self.view):
            yield Sentence(f"{text.removesuffix('.')} (root mean square of the differences from the baseline)")

    def _resampled(self) -> Iterator[Sentence]:
        for axis, levels in self.view.replays.items():
            shown = fmt.joined(str(level.level) for level in levels)
            same = all(level.same_trajectory for level in levels)
            yield Sentence(
                f"{axis} ({shown}) was resampled from the dense record of the baseline's runs; nothing was trained for it"
                + ("" if same else ", and the trajectories are NOT the same")
            )

    def _runs(self) -> Iterator[Sentence]:
        runs = self.analysis.runs
        count = Counter(run.status for run in runs)
        others = [f"{number} {status}" for status, number in sorted(count.items()) if status != "finished"]
        yield Sentence(
            f"Of {fmt.counted(len(runs), 'run')} {count['finished']} finished" + "".join(f", {one}" for one in others)
        )
        if diverged := [one for one in self.analysis.divergences if one.count or one.baseline_count]:
            rates = "; ".join(f"{one.arm} {one.count} of {one.runs} (p {fmt.p_value(one.p_value)})" for one in diverged)
            yield Sentence(
                f"Divergence is a separate outcome, over all runs that finished or diverged, with exact intervals and "
                f"Fisher's exact test against the baseline with Holm's correction: {rates}",
                ("clopperpearson1934", "holm1979"),
            )
        shared = sum(one.shared_from is not None for one in self.manifests)
        if shared:
            yield Sentence(
                f"{fmt.counted(shared, 'run')} of these had been made by an earlier study with equal digests"
            )

    def _limits(self) -> Iterator[Sentence]:
        if imported := self.analysis.imported:
            for _, sentence in imported.alarms:
                yield Sentence(sentence)
        primary = [one for one in self.analysis.contrasts if one.primary and one.seeds]
        few = min((len(one.seeds) for one in primary), default=ENOUGH_SEEDS)
        if few < ENOUGH_SEEDS:
            yield Sentence(
                f"With {fmt.counted(few, 'seed')} the power is low: a true effect is easily missed, and a significant one is "
                "likely overstated",
                ("colas2018",),
            )
        if self.analysis.examples is None or not self.analysis.examples.contrasts:
            yield Sentence(
                "Conclusions are about this evaluation set: the sampling of its examples is not part of the intervals"
            )
        if not self.analysis.complete:
            yield Sentence("The study is not complete")

    def _made_with(self) -> Iterator[Sentence]:
        where = sorted({one.device for one in self.manifests if one.device})
        torch = sorted({one.versions["torch"] for one in self.manifests if "torch" in one.versions})
        on = f" on {fmt.joined(where)}" if where else ""
        by = f" with PyTorch {fmt.joined(torch)}" if torch else ""
        made = "Runs were made" if on or by else ""
        read = f"planned, controlled and analysed with {PROGRAM}" if not self.external else f"analysed with {PROGRAM}"
        start = f"{made}{on}{by}, and " if made else "The study was "
        yield Sentence(f"{start}{read}" + (f": {self.plan.command}" if self.plan.command else ""), (PROGRAM,))


def _seeds(analysis: Analysis, plan: Plan) -> str:
    numbers = list(analysis.seeds)
    named = (
        f"{numbers[0]} to {numbers[-1]}"
        if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1))
        else ""
    )
    named = named or fmt.joined(map(str, numbers))
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

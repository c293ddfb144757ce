"""Set-ups in which more than one variable is varied, or none: each is caught, and the sentence names what it is.

pytest tests/controls/test_planted_faults.py -s        prints them as a table
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from ablate import Checkpoints, Evaluation, Recorder
from ablate.analysis.analyse import analyse
from ablate.config.schema import StudyConfig
from ablate.controls.config_isolation import isolate
from ablate.design.axis import Axis
from ablate.design.derived import DERIVED
from ablate.errors import AblateError
from ablate.hashing import Planned
from ablate.records.layout import StudyDir
from ablate.records.metadata import read_manifest, versions
from ablate.runner.worker import execute
from ablate.serialization import write_json
from ablate.training import fingerprint as environment
from ablate.training.grad_norms import GradNorms
from ablate.training.gradient_noise import SubsampledLoss
from tests.controls.studies import Toys, config_of, drawn, failures_of, planned, run_dir, run_planned, toy
from tests.training.test_resume import after
from tests.training.toy import jitter, loss_fn, metric_fn, network, points, sample_losses

Plant = Callable[[Path, pytest.MonkeyPatch], str]
"""Sets the fault up in an empty folder and gives back what was said of it, a sentence in each line; '' where nothing was."""


@dataclass(frozen=True)
class Fault:
    """what: was planted. by: the control or check that has to catch it. says: what the sentence has to name."""

    what: str
    by: str
    says: str
    plant: Plant


FAULTS: list[Fault] = []


def fault(what: str, *, by: str, says: str) -> Callable[[Plant], Plant]:
    def add(plant: Plant) -> Plant:
        FAULTS.append(Fault(what, by, says, plant))
        return plant

    return add


@pytest.fixture(scope="module")
def table() -> Iterator[list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = []
    yield rows
    print("\n\n| planted | caught by | what is said |\n| --- | --- | --- |")
    print("\n".join(f"| {' | '.join(cells)} |" for cells in rows))


@pytest.mark.parametrize("one", FAULTS, ids=lambda one: one.what)
def test_it_is_caught_and_named(
    one: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: list[tuple[str, ...]]
) -> None:
    monkeypatch.chdir(tmp_path)
    sentences = one.plant(tmp_path / "study", monkeypatch).splitlines()
    named = [sentence for sentence in sentences if re.search(one.says, sentence)]
    assert named, "\n".join(sentences) or "nothing was said"
    table.append((one.what, one.by, named[0].replace("|", "\\|")))


def refused(plan: Callable[[], object]) -> str:
    """What planning says, in one line; '' where it plans."""
    try:
        plan()
    except AblateError as error:
        return str(error).replace("\n  fix:", "; fix:")
    return ""


def own_conf(folder: Path, **files: str) -> Path:
    """A folder with the user's own config files: `axis__mine='...'` writes axis/mine.yaml."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


MINE = """
name: mine
question: Does it?
kind: training
keys: [data.batch_size]
values: [16]
may_change: [{accepts}]
"""


# ---- on paper --------------------------------------------------------------------------------------------------------


@fault("a second key changed", by="one_variable", says=r"sets optim\.lr, which its `keys` does not declare")
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    text = MINE.format(accepts="").replace("[16]", "[{data.batch_size: 16, optim.lr: 1.0e-3}]")
    return refused(lambda: planned(axes=("mine",), conf=own_conf(folder, axis__mine=text)))


@fault(
    "an interpolation that drags another key",
    by="one_variable",
    says=r"16 also changes eval\.batch_size \(8 -> 16\), which its `keys` does not declare",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    conf = own_conf(folder, eval__dragged="defaults: [even]\nbatch_size: ${data.batch_size}\n")
    return refused(lambda: planned("eval=dragged", data__batch_size=(16,), conf=conf))


@fault(
    "a derived change that nobody declared",
    by="one_variable",
    says=r"comes steps_per_epoch \(6 -> 3\), total_steps \(8 -> 4\).*add steps_per_epoch, total_steps to `may_change` of "
    r"axis/mine\.yaml .*, or keep it equal and add it to `must_match`",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    text = MINE.format(accepts="warmup_steps, schedule_steps, evaluations, effective_batch")
    return refused(lambda: planned(axes=("mine",), conf=own_conf(folder, axis__mine=text)))


@fault(
    "a level that is the baseline's own value",
    by="one_variable",
    says=r"'batch_size': the level 64 equals the baseline's own value",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    return refused(lambda: planned("data.batch_size=64", axes=("batch_size",)))


@fault(
    "a rate that does not follow the batch size as the bundle says",
    by="one_variable",
    says=r"with the level 64, optim\.lr is 0\.001, and the rule 'sqrt' makes it 0\.000141421",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    plan = planned(axes=("batch_size_sqrt_lr",)).plan
    arm = plan.arms[1]
    edited = replace(arm, config=arm.config | {"optim": arm.config["optim"] | {"lr": 1e-3}})
    return refused(lambda: isolate(plan.baseline, edited, plan.axes[0]))


@fault("a mistyped layer", by="the plan", says=r"'layers\.0\.attentoin' matches no module of Bert.*attention")
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    return refused(lambda: planned(model__module_edits=(["zero:layers.0.attentoin"],)))


# ---- an arm that varies nothing --------------------------------------------------------------------------------------

DROPOUT = Axis(
    name="dropout",
    question="?",
    kind="model",
    keys=("model.dropout",),
    values=(0.2,),
    may_change=(*DERIVED, "dropout", "first_step"),
)


@fault(
    "a value that equals the model's default",
    by="took_effect",
    says=r"no-op: dropout=0\.1 ends with the baseline's weights.*equal too, so model\.dropout never reached the run",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    prepared = planned("model.dropout=null", model__dropout=(0.1,))
    run_planned(prepared)
    return "\n".join(failures_of(prepared))


@fault(
    "a setting that is read nowhere",
    by="took_effect",
    says=r"no-op: variant.*fingerprints are equal too, so model\.dropout never reached the run",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    return "\n".join(Toys(folder, arm=toy, axis=DROPOUT).failures())


NOISE = Axis(
    name="grad_noise",
    question="?",
    kind="training",
    keys=("train.noise_batch_size",),
    values=(2,),
    may_change=(*DERIVED, "grad_noise", "first_step"),
    must_match=("init", "order", "loss_at_start"),
)


@fault(
    "gradient noise that is drawn and not applied",
    by="took_effect",
    says=r"no-op: variant.*train\.noise_batch_size was applied \(grad_noise.*but changed no update",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    def forgotten(self: SubsampledLoss, model: nn.Module, marked: Any) -> Any:
        return loss_fn(model, marked.batch)

    patch.setattr(SubsampledLoss, "__call__", forgotten)
    return "\n".join(Toys(folder, arm=noisy, axis=NOISE).failures())


@fault(
    "gradient noise that is applied and not declared",
    by="matched",
    says=r"contaminated: .*grad_noise\b",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    return "\n".join(Toys(folder, arm=lambda **given: noisy(lr=0.02, **given)).failures())


def noisy(**given: Any) -> Any:
    return toy(noise_batch_size=2, sample_losses=sample_losses, **given)


class Fixed(torch.optim.AdamW):
    """Steps at a rate of its own."""

    def step(self, closure: Any = None) -> Any:
        asked = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] = 0.005
        super().step(closure)
        for group, rate in zip(self.param_groups, asked, strict=True):
            group["lr"] = rate


@fault(
    "an optimizer that ignores the learning rate",
    by="took_effect",
    says=r"no-op: variant.*optim\.lr was applied \(optimizer\.group 0\.lr \(0\.01 -> 0\.02\)\) but changed no update",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    patch.setattr(torch.optim, "AdamW", Fixed)
    return "\n".join(Toys(folder).failures())


@fault(
    "a seed ignored",
    by="seeds",
    says=r"seed ignored: baseline, seeds 0 and 1 end with the same weights, bit for bit; equal too: init, order",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    deaf = Toys(folder, baseline=lambda seed, folder: toy(seed=7, folder=folder))
    return next(said for said in deaf.failures() if "seed ignored" in said)


# ---- an arm that varies more than it says ----------------------------------------------------------------------------


def contaminated(folder: Path, **settings: Any) -> str:
    """The arm of a learning rate, which does something else as well."""
    return "\n".join(Toys(folder, arm=lambda **run: toy(lr=0.02, **run, **settings)).failures())


@fault(
    "weight decay changed along with the learning rate",
    by="matched",
    says=r"variant, seed 0: optimizer\.group 0\.weight_decay \(0\.01 -> 0\.1\) differs .* learning_rate does not accept it",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    def decayed(seed: int, folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(torch.optim, "AdamW", lambda weights, **kw: plain(weights, weight_decay=0.1, **kw))
            toy(seed=seed, folder=folder, lr=0.02)

    plain = torch.optim.AdamW
    return "\n".join(Toys(folder, arm=decayed).failures())


@fault(
    "parameters in another group of the optimizer",
    by="matched",
    says=r"variant, seed 0: optimizer\.group 0\.names \(\w+ -> \w+\) differs",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    def grouped(first: slice, second: slice) -> Callable[..., Any]:
        def build(weights: Any, lr: float, fused: bool) -> torch.optim.Optimizer:
            held = list(weights)
            return plain([{"params": held[first]}, {"params": held[second], "weight_decay": 0.0}], lr=lr, fused=fused)

        return build

    def trained(seed: int, folder: Path, first: slice, second: slice, **settings: Any) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(torch.optim, "AdamW", grouped(first, second))
            toy(seed=seed, folder=folder, **settings)

    plain = torch.optim.AdamW
    study = Toys(
        folder,
        baseline=lambda **run: trained(**run, first=slice(0, None, 2), second=slice(1, None, 2)),
        arm=lambda **run: trained(**run, first=slice(1, None, 2), second=slice(0, None, 2), lr=0.02),
    )
    return "\n".join(study.failures())


def foreign(folder: Path, seed: int, dropout: float) -> None:
    """Somebody's loop: one global generator for weights, dropout and the order of two epochs."""
    torch.manual_seed(seed)
    model = network(seed, dropout)
    x, y = points().tensors
    with Recorder(folder, model, facts={}) as run:
        for _ in range(2):
            for ids in torch.randperm(256)[:128].split(8):
                loss = functional.cross_entropy(model(x[ids]), y[ids])
                model.zero_grad()
                loss.backward()
                run.log_step(loss, samples=8, sample_ids=ids.tolist())
                with torch.no_grad():
                    for p in model.parameters():
                        p -= 0.1 * p.grad  # type: ignore[operator]


@fault(
    "dropout that moves the data order",
    by="matched",
    says=r"variant, seed 0: order\.256 \(\w+ -> \w+\) differs from the baseline's, and axis dropout does not accept it",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    state = torch.get_rng_state()
    study = Toys(
        folder, axis=DROPOUT,
        baseline=lambda seed, folder: foreign(folder, seed, 0.0), arm=lambda seed, folder: foreign(folder, seed, 0.2),
    )  # fmt: skip
    said = "\n".join(study.failures())
    torch.set_rng_state(state)
    return said


@fault(
    "weights drawn in the order of construction",
    by="matched",
    says=r"variant, seed 0: init\.2 \(\w+ -> \w+\) differs from the baseline's, and axis wide does not accept it",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    def layers(width: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(10, 32), nn.Sequential(nn.Linear(32, width), nn.Linear(width, 32)), nn.Linear(32, 2)
        )

    wide = Axis(name="wide", question="?", kind="model", keys=("model.config_overrides",), values=({"width": 8},),
                may_change=(*DERIVED, "parameters", "init.1", "optimizer", "first_step", "loss_at_start", "flops"))  # fmt: skip
    study = Toys(
        folder, axis=replace(wide, values=({"model.config_overrides": {"width": 8}},)),
        baseline=lambda seed, folder: toy(seed=seed, folder=folder, model=drawn(seed, lambda: layers(4))),
        arm=lambda seed, folder: toy(seed=seed, folder=folder, model=drawn(seed, lambda: layers(8))),
    )  # fmt: skip
    return "\n".join(study.failures())


@fault("a buffer that starts elsewhere", by="matched", says=r"variant, seed 0: init\.1 \(\w+ -> \w+\) differs")
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    def normed(seed: int, mean: float) -> nn.Module:
        model = drawn(seed, lambda: nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 2)))
        model[1].running_mean += mean  # type: ignore[index,operator]
        return model

    study = Toys(
        folder,
        baseline=lambda seed, folder: toy(seed=seed, folder=folder, model=normed(seed, 0.0)),
        arm=lambda seed, folder: toy(seed=seed, folder=folder, model=normed(seed, 1.0), lr=0.02),
    )
    return "\n".join(study.failures())


def tied(probability: float) -> nn.Module:
    """A model that hands its dropout to a function, as attention does."""
    model = network(0, 0.1)
    model.attention_dropout = probability
    return model


@fault(
    "dropout in a function, not in a module",
    by="matched",
    says=r"variant, seed 0: dropout\.attention_dropout \(0\.1 -> 0\.0\) differs",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    study = Toys(
        folder, seeds=(0,),
        baseline=lambda seed, folder: toy(seed=seed, folder=folder, model=tied(0.1)),
        arm=lambda seed, folder: toy(seed=seed, folder=folder, model=tied(0.0), lr=0.02),
    )  # fmt: skip
    return "\n".join(study.failures())


@fault("a layer frozen by mistake", by="matched", says=r"variant, seed 0: parameters\.trainable \(418 -> 66\) differs")
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    def frozen(seed: int, folder: Path) -> None:
        model = network(seed)
        model[0].requires_grad_(False)  # type: ignore[index,operator]
        toy(seed=seed, folder=folder, model=model, lr=0.02)

    return "\n".join(Toys(folder, arm=frozen).failures())


PRECISION = Axis(
    name="precision", question="?", kind="systems", keys=("train.precision",), values=("bf16",),
    may_change=(*DERIVED, "precision", "loss_at_start", "first_step"),
)  # fmt: skip


@fault(
    "a clip that is active only under AMP",
    by="applied",
    says=r"not as declared: variant, seed 0: max_grad_norm\.max is 100, but at step 1 a gradient of norm \S+ was multiplied by "
    r"\S+ and not by 1",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    clip = GradNorms.clip

    def harder(self: GradNorms, total: torch.Tensor, largest: float | None) -> torch.Tensor:
        return clip(self, total, 0.1 if amp[0] else largest)

    amp = [False]
    patch.setattr(GradNorms, "clip", harder)

    def under_amp(seed: int, folder: Path) -> None:
        amp[0] = True
        toy(seed=seed, folder=folder, precision="bf16", max_grad_norm=100.0)
        amp[0] = False

    plain: Callable[..., Any] = lambda **run: toy(**run, max_grad_norm=100.0)  # noqa: E731
    return "\n".join(Toys(folder, baseline=plain, arm=under_amp, axis=PRECISION).failures())


@fault(
    "a gradient clamped by a hook, only under AMP",
    by="matched",
    says=r"variant, seed 0: hooks\.0\.weight \(absent -> gradient\) differs from the baseline's",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    def hooked(seed: int, folder: Path) -> None:
        model = network(seed)
        model[0].weight.register_hook(lambda grad: grad.clamp(-0.01, 0.01))  # type: ignore[index,operator,union-attr]
        toy(seed=seed, folder=folder, model=model, precision="bf16")

    return "\n".join(Toys(folder, arm=hooked, axis=PRECISION).failures())


@fault(
    "somebody else's schedule on top",
    by="applied",
    says=r"not as declared: variant, seed 0: the schedule's rate at step 1 is 0\.02, but the optimizer had 0\.002",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    class Slower(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                group["lr"] = group["lr"] / 10
            return super().step(closure)

    def slower(seed: int, folder: Path) -> None:
        Slower.__name__ = "AdamW"
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(torch.optim, "AdamW", Slower)
            toy(seed=seed, folder=folder, lr=0.02)

    return "\n".join(Toys(folder, arm=slower).failures())


@fault(
    "an evaluation set that differs",
    by="matched",
    says=r"variant, seed 0: loss_at_start\.accuracy \(0\.\d+ -> 0\.\d+\) differs from the baseline's",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    return contaminated(folder, evaluation=Evaluation(points(100, seed=10), metric_fn, every="80 samples"))


@fault(
    "an evaluation set that differs, in a study of the command line",
    by="matched",
    says=r"mine=16, seed 0: eval_set\.count \(24 -> 16\) differs .* mine promises to hold it",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    text = MINE.replace("[data.batch_size]", "[eval.max_examples]") + "must_match: [eval_set]\n"
    conf = own_conf(folder, axis__mine=text.format(accepts=", ".join(DERIVED)))
    prepared = planned("eval.max_examples=24", axes=("mine",), conf=conf)
    run_planned(prepared)
    return "\n".join(failures_of(prepared))


@fault(
    "an augmentation in one arm only",
    by="matched",
    says=r"variant, seed 0: first_step\.grad_norm \(0\.\d+ -> 0\.\d+\) differs",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    return contaminated(folder, augment=jitter)


SCALE = 1.0


class Scaled(nn.Module):
    """Reads a global."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.inner = network(seed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scaled: torch.Tensor = SCALE * self.inner(x)
        return scaled


@fault(
    "a model that reads a global",
    by="matched",
    says=r"variant, seed 0: loss_at_start\.loss \(0\.\d+ -> 0\.\d+\) differs from the baseline's",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    def scaled(seed: int, folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setitem(globals(), "SCALE", 1.5)
            toy(seed=seed, folder=folder, model=Scaled(seed), lr=0.02)

    return "\n".join(
        Toys(
            folder, baseline=lambda seed, folder: toy(seed=seed, folder=folder, model=Scaled(seed)), arm=scaled
        ).failures()
    )


@fault(
    "a change of tokens that nobody declared",
    by="matched",
    says=r"mine=16, seed 0: tokens_seen \(\d+ -> \d+\) differs .* add tokens_seen to `may_change` of axis/mine\.yaml if it "
    r"belongs to the change, or keep it equal and add it to `must_match`",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    text = MINE.replace("[data.batch_size]", "[data.max_length]").format(accepts="first_step, loss_at_start")
    prepared = planned("study.seeds=1", axes=("mine",), conf=own_conf(folder, axis__mine=text))
    run_planned(prepared)
    return "\n".join(failures_of(prepared))


# ---- what happens to the machine between two runs --------------------------------------------------------------------


def meanwhile(folder: Path, change: Callable[[pytest.MonkeyPatch], None]) -> str:
    """A clean study of a learning rate, whose arm finds another machine."""

    def elsewhere(seed: int, folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patched:
            change(patched)
            toy(seed=seed, folder=folder, lr=0.02)

    return "\n".join(Toys(folder, arm=elsewhere).failures())


@fault(
    "a library version that differs between runs",
    by="matched",
    says=r"variant, seed 0: environment\.transformers \(\S+ -> 4\.0\.0\) differs",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    return meanwhile(
        folder,
        lambda patched: patched.setattr(
            environment, "versions", lambda names: versions(names) | {"transformers": "4.0.0"}
        ),
    )


@fault("another device", by="matched", says=r"variant, seed 0: environment\.device \(\S+ cpu -> arm64 cpu\) differs")
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    return meanwhile(folder, lambda patched: patched.setattr(environment.platform, "machine", lambda: "arm64"))


@fault(
    "an environment variable that changes determinism",
    by="matched",
    says=r"variant, seed 0: environment\.CUBLAS_WORKSPACE_CONFIG \(absent -> :4096:8\) differs",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    patch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    return meanwhile(folder, lambda patched: patched.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8"))


@fault(
    "another number of threads in one seed",
    by="matched",
    says=r"contaminated: baseline, seed 1: environment\.num_threads \(\d -> \d\) differs from its own seed 0",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    before = torch.get_num_threads()

    def threads(seed: int, folder: Path) -> None:
        torch.set_num_threads(before + seed)
        toy(seed=seed, folder=folder)
        torch.set_num_threads(before)

    return "\n".join(Toys(folder, baseline=threads).failures())


def reviews(path: Path, word: str) -> str:
    rows = [f"a {word} film about number {k},{k % 2}" for k in range(96)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return f"data.path={path}"


@fault(
    "a data file that changed on disk after the plan",
    by="the worker",
    says=r"the data of .*films\.csv have changed since the study was planned",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    folder.mkdir()
    prepared = planned(reviews(folder / "films.csv", "fine"), "study.seeds=1", optim__lr=(1e-3,))
    planned_data = prepared.plan.baseline.data
    reviews(folder / "films.csv", "dull")
    one = prepared.plan.runs[0]
    return execute(config_of(prepared, one), run_dir(prepared, one), changes={}, digest="",
                   planned=Planned(data=planned_data)).message  # fmt: skip


@fault(
    "a data file that changed on disk between arms",
    by="matched",
    says=r"learning_rate=0\.001, seed 0: data\.source \(\w+ -> \w+\) differs from the baseline's",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    folder.mkdir()
    file = folder / "films.csv"
    prepared = planned(reviews(file, "fine"), "study.seeds=1", optim__lr=(1e-3,))
    run_planned(prepared, before=lambda one: reviews(file, "fine" if one.arm == "baseline" else "dull"))
    return "\n".join(failures_of(prepared))


@fault(
    "a run that was continued by other code",
    by="consistent_resume",
    says=r"contaminated: baseline, seed 0: session 2 of the run is by other code \(\w{12} -> \w{12}\) than the one before",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    prepared = planned("study.seeds=1", optim__lr=(1e-3,))
    one = next(one for one in prepared.plan.runs if one.arm == "baseline")
    config = replace(config_of(prepared, one), study=StudyConfig(accept_code_change=True))
    place = run_dir(prepared, one)
    first = execute(
        config, place, changes={}, digest="by the old code", planned=Planned(request=one.request), stop=after(6)
    )
    assert first.status == "interrupted"
    patch.setattr("ablate.runner.worker.code_files", lambda targets: {"ablate/training/train.py": "0" * 64})
    execute(config, place, changes={}, digest=one.digest, planned=Planned(request=one.request))
    assert len(read_manifest(place).sessions) == 2
    return "\n".join(failures_of(prepared))


@fault(
    "a run that was continued elsewhere",
    by="consistent_resume",
    says=r"variant, seed 0: session 2 of the run has another environment\.deterministic \(True -> False\) than the one before",
)
def _(folder: Path, patch: pytest.MonkeyPatch) -> str:
    def moved(seed: int, folder: Path) -> None:
        settings: dict[str, Any] = {"lr": 0.02, "checkpoint": Checkpoints()}
        torch.use_deterministic_algorithms(True)
        toy(seed=seed, folder=folder, should_stop=after(5), **settings)
        torch.use_deterministic_algorithms(False)
        toy(seed=seed, folder=folder, **settings)

    return "\n".join(Toys(folder, arm=moved).failures())


def test_a_baseline_that_fails_a_control_leaves_no_verdict_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unclipped(seed: int, folder: Path) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(GradNorms, "clip", lambda self, total, largest: torch.ones_like(total))
            toy(seed=seed, folder=folder, max_grad_norm=0.1)

    study = Toys(tmp_path, baseline=unclipped, arm=lambda **run: toy(lr=0.02, max_grad_norm=0.1, **run))
    assert {control.arm for control in study.controls() if control.status == "failed"} == {"baseline"}
    write_json(StudyDir(tmp_path).plan, study.plan().to_json())
    analysis = analyse(tmp_path)
    assert {one.verdict for one in analysis.contrasts} == {"none"}
    said = "not as declared: baseline, seed 0: max_grad_norm.max is 0.1, but at step 1"
    assert f"no verdict, because the control `settings_applied` failed: {said}" in analysis.contrasts[0].sentence
    assert any(sentence.startswith(f"No verdict for any arm: {said}") for sentence in analysis.conclusions)

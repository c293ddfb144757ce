"""Component ablations from the shell: Hydra's grammar, the axis files, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.design.plan import Plan
from ablate.serialization import read_json

SMALL = ["data.max_examples=200", "eval.max_examples=50", "study.seeds=1"]


def plan_in(folder: Path) -> Plan:
    return Plan.from_json(read_json(folder / "plan.json"))


@pytest.mark.slow
def test_lists_are_levels_and_take_the_declarations_of_their_axis(ablate, runs, here):
    swept = "model.module_edits=[zero:pooler],[remove:layers.0],['zero:layers.*.attention.self',\"freeze:layers.0-2\"]"
    assert ablate("-m", swept, *SMALL)[0] == 0
    plan = plan_in(here / "runs" / "component")
    assert [(arm.name, arm.changes) for arm in plan.arms[1:]] == [
        ("component=zero:pooler", {"model.module_edits": ["zero:pooler"]}),
        ("component=remove:layers.0", {"model.module_edits": ["remove:layers.0"]}),
        ("component=zero:layers.*.attention.self+freeze:layers.0-2",
         {"model.module_edits": ["zero:layers.*.attention.self", "freeze:layers.0-2"]}),
    ]  # fmt: skip
    assert "components" in plan.axis("component").may_change
    assert plan.axis("component").values == tuple(arm.value for arm in plan.arms[1:])
    fewer, same = (plan.arm(f"component={name}").derived for name in ("zero:pooler", "remove:layers.0"))
    assert same["parameters.count"] < fewer["parameters.count"] < plan.baseline.derived["parameters.count"]


@pytest.mark.slow
def test_each_layer_is_an_arm_of_its_own(ablate, runs, here):
    assert ablate("-m", "axis=drop_layer,freeze", *SMALL)[0] == 0
    plan = plan_in(here / "runs" / "drop_layer+freeze")
    assert [arm.name for arm in plan.arms] == [
        "baseline", *(f"drop_layer={k}" for k in range(6)), "freeze=embeddings", "freeze=embeddings+layers.lower",
    ]  # fmt: skip
    assert plan.arm("drop_layer=3").changes == {"model.drop_layers": [3]}
    frozen, whole = plan.arm("freeze=embeddings").derived, plan.baseline.derived
    assert frozen["parameters.count"] == whole["parameters.count"]
    assert frozen["parameters.trainable"] < whole["parameters.trainable"]


@pytest.mark.parametrize(
    ("typed", "problem", "fix"),
    [
        (
            "model.module_edits=[zero:encoder.layr.0],[zero:pooler]",
            "'encoder.layr.0' matches no module",
            "'encoder.layer.0'",
        ),
        ("model.freeze=[layers.99],[embeddings]", "'layers.99' matches no module", "'layers.5'"),
        ("model.drop_layers=[0,1,2,3,4,5],[0]", "takes out all 6 layers", "leave one"),
        ("model.drop_layers=[6],[0]", "layers 0 to 5, and no layer 6", "[5]"),
        ("model.drop_layers=[-1],[0]", "expected layers counted from 0 at the embeddings, got -1", "remove:layers.-1"),
        ("model.drop_layers=3,4", "3 is a whole number, expected a list of whole numbers", "<a list of whole numbers>"),
        (
            "model.module_edits=[remove:pooler],[zero:pooler]",
            "has another shape than its output",
            "[zero:pooler]",
        ),
        ("model.module_edits=[zeroo:pooler],[zero:pooler]", "'zeroo:pooler' is not <action>:<path>", "[zero:pooler]"),
        ("model.module_edits=[pooler],[zero:pooler]", "'pooler' is not <action>:<path>", "[remove:pooler]"),
        ("model.reinit_top_layers=0,7", "has 6 layers", "model.reinit_top_layers=6"),
        ("data.remove_text_features=[cases],[digits]", "'cases' is not one of case, punctuation", "'case'"),
        (
            "data.remove_text_features=[case],[digits]",
            "leaving out case changes none of the 200 texts",
            "leave case out",
        ),
        ("data.drop_columns=[text],[]", "leaves out every text column", "data.extra_text_columns="),
        ("data.drop_columns=[titel],[]", "'titel' is not one of the text columns text", "known: text"),
        ("axis=column", "the text comes from one column, 'text'", "data.extra_text_columns="),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(ablate, here, typed, problem, fix):
    code, _, err = ablate("-m", typed, *SMALL)
    assert code == 2
    assert problem in err
    assert fix in err.partition("fix:")[2]
    assert not any(here.rglob("status.json"))
    assert not (here / "runs").exists() or not any(path for path in (here / "runs").glob("[!.]*"))


def test_new_layers_of_a_random_model_are_the_same_layers(ablate, here):
    code, _, err = ablate("-m", "axis=reinit_top_layers", "debug=quick")
    assert code == 2
    assert "would draw again what model.init=random already draws" in err

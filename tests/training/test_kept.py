"""What the final evaluation gave of each example: kept whole, kept once, and without any effect on the run."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from torch.nn import functional

from ablate import Checkpoints, Evaluation, Recorder, read_evals, read_predictions
from ablate.errors import LoopError, RecordError
from ablate.records.layout import RunDir
from ablate.records.schema import PREDICTIONS
from ablate.training.evaluation import Measured
from tests.training.toy import evaluation, measure, points, run


def kept(folder: Path, **settings: Any) -> Any:
    run(folder=folder, evaluation=evaluation(**settings))
    return read_predictions(RunDir(folder).predictions)


def test_the_kept_examples_add_up_to_the_final_evaluation(tmp_path: Path) -> None:
    found = kept(tmp_path)
    assert found.metrics == ["loss", "accuracy"]
    assert found["id"].tolist() == list(range(100))
    assert found["items"].tolist() == [1] * 100
    for metric in found.metrics:
        curve = read_evals(RunDir(tmp_path).evals).curve(metric)
        assert found[metric].mean() == pytest.approx(curve.value[-1], rel=1e-12)
        assert found.step == curve.step[-1]


def test_each_example_has_its_own_values_whatever_the_order_of_the_batches(tmp_path: Path) -> None:
    model, _ = run(folder=tmp_path, evaluation=evaluation(order=list(range(99, -1, -1)), batch_size=7))
    found = read_predictions(RunDir(tmp_path).predictions)
    x, y = points(100, seed=9).tensors
    model.eval()
    with torch.no_grad():
        wanted = functional.cross_entropy(model(x), y, reduction="none").double().numpy()
    assert np.allclose(found["loss"], wanted, rtol=1e-5, atol=1e-7)


def test_it_opens_as_a_data_set(tmp_path: Path) -> None:
    kept(tmp_path)
    rows = datasets.Dataset.from_file(str(RunDir(tmp_path).predictions))
    assert rows.column_names == [*PREDICTIONS.names, "loss", "accuracy"]
    assert set(rows["accuracy"]) <= {0.0, 1.0}


def test_keeping_changes_no_bit_of_the_run(tmp_path: Path) -> None:
    (_, one), (_, other) = (
        run(folder=tmp_path / str(keep), evaluation=evaluation(keep_examples=keep)) for keep in (True, False)
    )
    assert one.outcome.weights_sha256 == other.outcome.weights_sha256
    assert one.trace["loss"].tolist() == other.trace["loss"].tolist()
    assert one.evals.table.drop_columns(["train_seconds", "eval_seconds"]) == other.evals.table.drop_columns(
        ["train_seconds", "eval_seconds"]
    )
    assert RunDir(tmp_path / "True").predictions.exists()
    assert not RunDir(tmp_path / "False").predictions.exists()


def test_a_recorded_loop_keeps_the_last_look_that_names_its_examples(tmp_path: Path) -> None:
    model = torch.nn.Linear(10, 2)
    x, y = points(20).tensors
    with Recorder(tmp_path / "baseline" / "seed=0", model) as record:
        for step in range(3):
            loss = functional.cross_entropy(model(x), y, reduction="none")
            loss.mean().backward()
            record.step(loss.mean(), samples=20)
            record.look({"loss": loss + step}, ids=range(100, 80, -1) if step < 2 else None)
        with pytest.raises(LoopError, match="3 ids and loss \\(20,\\)"):
            record.look({"loss": loss}, ids=[1, 2, 3])
        with pytest.raises(LoopError, match="no metric per example"):
            record.look({"loss": Measured(1.0, 1.0, 20)}, ids=range(20))
    found = read_predictions(tmp_path / "baseline" / "seed=0" / "predictions.arrow")
    assert found.step == 2
    assert found["id"].tolist() == list(range(81, 101))
    assert np.allclose(found["loss"], (loss.detach() + 1).double().numpy()[::-1])


def test_a_run_begun_anew_leaves_none_of_the_run_before(tmp_path: Path) -> None:
    kept(tmp_path)
    run(folder=tmp_path, evaluation=evaluation(keep_examples=False))
    assert not RunDir(tmp_path).predictions.exists()


def test_ids_and_groups_are_those_that_the_task_names(tmp_path: Path) -> None:
    found = kept(tmp_path, ids=[7 * k for k in range(100)], groups=[k // 4 for k in range(100)])
    assert found["id"].tolist() == [7 * k for k in range(100)]
    assert found["group"].tolist() == [k // 4 for k in range(100)]


def test_values_of_an_example_with_several_items_are_summed(tmp_path: Path) -> None:
    """Item k of an example is k + 1 times its loss, and example j of a batch has j + 1 of them."""

    def items(batch: Any) -> list[int]:
        return [k + 1 for k in range(len(batch[1]))]

    def several(model: Any, batch: Any) -> dict[str, torch.Tensor]:
        loss = measure(model, batch)["loss"]
        return {"loss": torch.cat([loss[k] * torch.arange(1.0, k + 2) for k in range(len(loss))])}

    model, _ = run(
        folder=tmp_path,
        evaluation=Evaluation(examples=points(100, seed=9), measure=several, items=items, batch_size=10),
    )
    found = read_predictions(RunDir(tmp_path).predictions)
    place = np.arange(100) % 10
    assert found["items"].tolist() == (place + 1).tolist()
    x, y = points(100, seed=9).tensors
    with torch.no_grad():
        loss = functional.cross_entropy(model.eval()(x), y, reduction="none").double().numpy()
    assert np.allclose(found["loss"], loss * (place + 1) * (place + 2) / 2, rtol=1e-5)
    assert found["loss"].sum() / found["items"].sum() == pytest.approx(
        read_evals(RunDir(tmp_path).evals).curve("loss").value[-1], rel=1e-12
    )


def test_a_metric_that_is_not_of_examples_is_left_out_and_none_leaves_no_file(tmp_path: Path) -> None:
    def per_class(model: Any, batch: Any) -> dict[str, torch.Tensor]:
        return {**measure(model, batch), "logit": model(batch[0]).flatten(), "id": measure(model, batch)["loss"]}

    def only_logits(model: Any, batch: Any) -> dict[str, torch.Tensor]:
        return {"logit": model(batch[0]).flatten()}

    run(folder=tmp_path / "some", evaluation=Evaluation(examples=points(100), measure=per_class))
    assert read_predictions(RunDir(tmp_path / "some").predictions).metrics == ["loss", "accuracy"]
    run(folder=tmp_path / "none", evaluation=Evaluation(examples=points(100), measure=only_logits))
    assert not RunDir(tmp_path / "none").predictions.exists()


def test_a_run_that_was_stopped_keeps_them_once_it_is_over(tmp_path: Path) -> None:
    polled = iter(range(10**6))
    saved = Checkpoints(every=None, keep_final=False)
    run(folder=tmp_path, evaluation=evaluation(), checkpoints=saved,
        stop=lambda: signal.SIGTERM.name if next(polled) > 12 else None)  # fmt: skip
    assert not RunDir(tmp_path).predictions.exists()
    run(folder=tmp_path, evaluation=evaluation(), checkpoints=saved)
    kept(tmp_path.with_name("whole"))
    one, other = (read_predictions(RunDir(f).predictions) for f in (tmp_path, tmp_path.with_name("whole")))
    assert one.table == other.table


def test_a_diverged_run_keeps_none(tmp_path: Path) -> None:
    calls = iter(range(100))

    def broken(net: Any, batch: Any) -> tuple[torch.Tensor, int]:
        return net(batch[0]).sum() * (float("inf") if next(calls) else 1.0), len(batch[1])

    _, result = run(folder=tmp_path, objective=broken, evaluation=evaluation(), max_skipped_steps=3)
    assert result.status.status == "diverged"
    assert not RunDir(tmp_path).predictions.exists()


@pytest.mark.parametrize("name", ["ids", "groups"])
def test_ids_of_another_number_are_refused_before_training(name: str) -> None:
    with pytest.raises(LoopError, match=rf"{name}=.* has 3 entries for 100 examples") as raised:
        evaluation(**{name: [1, 2, 3]})
    assert f"{name}=None" in str(raised.value)


def test_a_file_that_is_no_such_table_is_refused(tmp_path: Path) -> None:
    kept(tmp_path)
    with pytest.raises(RecordError, match="id: expected int64, got no such column"):
        read_predictions(RunDir(tmp_path).evals)
    with pytest.raises(RecordError, match="not a readable table"):
        read_predictions(tmp_path / "nothing.arrow")

"""The task that a config names: build it, or count its samples and digest its data and model without torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ablate.config.schema import Config
from ablate.data.datasets import DataFacts, load_examples
from ablate.data.splits import described, split
from ablate.hashing import model_digest
from ablate.models.hub import check_layers, locate_model, num_layers

if TYPE_CHECKING:
    from ablate.tasks.task import Task
    from ablate.training.random_streams import RandomStreams


def build_task(config: Config, streams: RandomStreams) -> Task:
    """Load, split and tokenise the data and build the model of `task.name`, weights from the `init` stream.

    Raises DataError or ModelError, and ConfigError for a task of the user that cannot be found or is none.
    """
    if config.task.name == "custom":
        from ablate.tasks.custom import own_task

        return own_task(config, streams)
    if config.task.name == "causal_lm":
        from ablate.tasks.causal_lm import causal_lm_task

        return causal_lm_task(config, streams)
    from ablate.tasks.text_classification import text_classification_task

    return text_classification_task(config, streams)


def data_facts(config: Config) -> DataFacts:
    """Load the data, check that the model's files are there, count. Raises DataError or ModelError.

    A task of the user's has data and a model of its own: ConfigError where it cannot be had.
    """
    if config.task.name == "custom":
        from ablate.tasks.custom import own_facts

        return own_facts(config)
    model = model_digest(config.model, locate_model(config.model))
    if config.task.name == "causal_lm":
        return replace(_of_pieces(config), model=model)
    pool = load_examples(config.data)
    splits = split(pool, config.data, eval_examples=config.eval.max_examples)
    _check_components(config, len(pool.classes))
    return DataFacts(
        num_train=len(splits.train),
        num_held_out=len(splits.held_out),
        num_eval=len(splits.evaluated),
        num_classes=len(pool.classes),
        data=pool.source,
        model=model,
        notes=tuple(described(pool, splits)),
    )


def _of_pieces(config: Config) -> DataFacts:
    """How many pieces a document has is known once it is tokenised; the tokens are kept for the runs."""
    from ablate.data.documents import load_corpus

    corpus = load_corpus(config)
    _check_components(config, 0)
    return DataFacts(
        num_train=len(corpus.train), num_held_out=len(corpus.held_out), num_eval=len(corpus.evaluated), num_classes=0,
        data=corpus.pool.source, notes=tuple(described(corpus.pool, corpus.documents)),
    )  # fmt: skip


def _check_components(config: Config, num_classes: int) -> None:
    """Raise ModelError for layers and modules that the model does not have. Paths cost torch; numbers of layers do not."""
    model = config.model
    if (model.drop_layers or model.reinit_top_layers) and (count := num_layers(model)):
        check_layers(model, count)
    if model.freeze or model.module_edits:
        from ablate.models.build import outline

        outline(config, num_classes=num_classes)

"""Build the task that a config names."""

from __future__ import annotations

from ablate.config.schema import Config
from ablate.tasks.task import Task
from ablate.training.random_streams import Streams


def build_task(config: Config, streams: Streams) -> Task:
    """Load, split and tokenise the data and build the model of `task.name`, weights from the `init` stream.

    Raises DataError or ModelError, and ConfigError for a task of the user that cannot be found or is none.
    """
    if config.task.name == "custom":
        from ablate.tasks.custom import own_task

        return own_task(config, streams)
    if config.task.name == "causal_lm":
        from ablate.tasks.causal_lm import causal_lm

        return causal_lm(config, streams)
    from ablate.tasks.text_classification import text_classification

    return text_classification(config, streams)

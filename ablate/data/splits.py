"""Nested splits of a pool into training and held-out examples, and training labels that are wrong on purpose. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ablate.config.schema import DataConfig
from ablate.errors import DataError

if TYPE_CHECKING:
    from ablate.training.random_streams import RandomStreams

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Examples:
    """The pool that is split. Every array has shape [pool]; an example's id is its position.

    label: class numbers. classes: the label values, in class order; one class for all where no label was read.
    official_test: True where the source itself calls the example test data.
    source: digest of all that was read, before anything was chosen from it. commit: of the hub that it came from, or ''.
    notes: sentences about what was left out.
    """

    text: tuple[str, ...]
    label: NDArray[np.int64]
    classes: tuple[str, ...]
    official_test: NDArray[np.bool_]
    source: str = ""
    commit: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.text)

    @property
    def texts(self) -> str:
        """Digest of the texts as they are read: other than `source`, it shows what was left out of them."""
        total = sha256()
        for text in self.text:
            total.update(f"{len(text)} {text}".encode())
        return total.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Splits:
    """Ids into the pool. evaluated: the part of `held_out` that is evaluated, in nested order."""

    train: Ids
    held_out: Ids
    evaluated: Ids


def split(pool: Examples, config: DataConfig, *, eval_examples: int | None = None) -> Splits:
    """Cut the pool at `train_test_ratio`, or where the source's own parts meet.

    The pool is put into one order that does not depend on the ratio, and the held-out part is the beginning of that order:
    a smaller held-out part is a subset of every larger one, and so are the evaluated examples. A fraction of the training part
    is the end of the order, so that it has the same examples at every ratio with as many.
    """
    order = _order(pool, config, config.split)
    num_held_out, num_evaluated = _sizes(pool, config)
    held_out, evaluated, train = order[:num_held_out], order[:num_evaluated], order[num_held_out:]
    if not len(held_out) or not len(train):
        raise DataError(
            f"data.train_test_ratio={config.train_test_ratio:g} splits {len(pool)} examples into {len(train)} for training and "
            f"{len(held_out)} held out: both need at least one",
            "data.train_test_ratio=1 splits them in half",
        )
    if config.split == "predefined":
        _check_classes(pool, train, held_out)
    if config.train_fraction < 1:
        train = train[-max(1, round(config.train_fraction * len(train))) :]
    if eval_examples is not None and eval_examples > len(evaluated):
        raise DataError(
            f"eval.max_examples={eval_examples} asks for more than the {len(evaluated)} examples that are held out",
            f"eval.max_examples={len(evaluated)}, or eval.max_examples=null for all of them",
        )
    return Splits(np.sort(train), np.sort(held_out), evaluated[:eval_examples])


def _sizes(pool: Examples, config: DataConfig) -> tuple[int, int]:
    """Return how many examples are held out and evaluated. Raises DataError for a ratio that contradicts the source's parts."""
    by_ratio = _num_held_out(len(pool), config.train_test_ratio)
    evaluated = _num_held_out(len(pool), config.eval_test_ratio or config.train_test_ratio)
    if config.split != "predefined":
        return by_ratio, evaluated
    own, contradicted = int(pool.official_test.sum()), ""
    if config.train_test_ratio != 1 and abs(by_ratio - own) > 1:
        contradicted = f"data.train_test_ratio={config.train_test_ratio:g}"
    elif config.eval_test_ratio is not None and evaluated > own:
        contradicted = f"data.eval_test_ratio={config.eval_test_ratio:g}"
    if contradicted:
        raise DataError(
            f"{contradicted} with data.split=predefined: the data's own parts have {len(pool) - own} training and {own} test "
            "examples",
            "data.train_test_ratio=1 data.eval_test_ratio=null keep the parts; data.split=shuffled cuts at any ratio",
        )
    return own, own if config.eval_test_ratio is None else evaluated


def _check_classes(pool: Examples, train: Ids, held_out: Ids) -> None:
    unseen = sorted(set(pool.label[held_out].tolist()) - set(pool.label[train].tolist()))
    if unseen:
        raise DataError(
            f"the test part has the labels {', '.join(repr(pool.classes[label]) for label in unseen[:5])}"
            f"{', ...' if len(unseen) > 5 else ''}, which no training example has; the training part has "
            f"{', '.join(repr(pool.classes[label]) for label in sorted(set(pool.label[train].tolist()))[:5])}",
            "write the labels of both parts alike, or data.missing_labels=[...] for labels that mean none",
        )


def described(pool: Examples, splits: Splits) -> list[str]:
    """Return what a reader has to know of the data: the classes with their counts, and the notes of the pool."""
    counts = np.bincount(pool.label, minlength=len(pool.classes))
    shown = ", ".join(f"{name} ({count})" for name, count in zip(pool.classes[:10], counts, strict=False))
    more = f" and {len(pool.classes) - 10} others" if len(pool.classes) > 10 else ""
    lines = [f"{len(pool.classes)} classes: {shown}{more}"] if len(pool.classes) > 1 else []
    trained, held_out = set(pool.label[splits.train].tolist()), set(pool.label[splits.held_out].tolist())
    for part, other, what in (
        (held_out, trained, "held out and never trained on"),
        (trained, held_out, "never held out"),
    ):
        names = [pool.classes[label] for label in sorted(part - other)]
        if names:
            lines.append(f"{what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}")
    return [*lines, *pool.notes]


def _num_held_out(num_examples: int, train_test_ratio: float) -> int:
    return round(num_examples / (1 + train_test_ratio))


# Orders of the pool: a function of the pool and of the `split` stream alone. Labels stay balanced along each of them.


def _shuffled(pool: Examples, rng: np.random.Generator, part: NDArray[np.bool_] | None = None) -> Ids:
    return _interleave([rng.permutation(_of_class(pool, c, part)) for c in range(len(pool.classes))])


def _blocks(pool: Examples, rng: np.random.Generator) -> Ids:
    """Each label's file order, turned by the same fraction: what is held out is one contiguous stretch per label.

    Reviews of one film stand together in the file, so only the films at the two edges of a stretch fall on both sides.
    """
    turn = rng.random()
    ids = [_of_class(pool, c) for c in range(len(pool.classes))]
    return _interleave([np.roll(own, -int(turn * len(own))) for own in ids])


def _official(pool: Examples, rng: np.random.Generator) -> Ids:
    """The source's own test part first, then its training part, each shuffled."""
    if not pool.official_test.any() or pool.official_test.all():
        raise DataError(
            "data.split=predefined, but the data does not have both a train and a test part of its own"
            + "".join(f"; {note}" for note in pool.notes),
            "data.split=shuffled",
        )
    return np.concatenate([_shuffled(pool, rng, part) for part in (pool.official_test, ~pool.official_test)])


_ORDERS: dict[str, Callable[[Examples, np.random.Generator], Ids]] = {
    "shuffled": _shuffled,
    "blocks": _blocks,
    "predefined": _official,
}


def _order(pool: Examples, config: DataConfig, name: str) -> Ids:
    return _ORDERS[name](pool, np.random.Generator(np.random.Philox(key=config.split_seed)))


def _of_class(pool: Examples, label: int, part: NDArray[np.bool_] | None = None) -> Ids:
    mine = pool.label == label
    return np.flatnonzero(mine if part is None else mine & part)


def _interleave(lists: list[Ids]) -> Ids:
    """Merge so that every prefix holds each list in proportion to its length."""
    place = np.concatenate([(np.arange(len(ids)) + 0.5) / max(len(ids), 1) for ids in lists])
    owner = np.concatenate([np.full(len(ids), k) for k, ids in enumerate(lists)])
    return np.concatenate(lists)[np.lexsort((owner, place))]


def cap(pool: Examples, config: DataConfig) -> Examples:
    """`num_examples` of the pool, balanced over labels, in file order. Drawn by the split stream, once for all ratios."""
    assert config.max_examples is not None
    if config.max_examples > len(pool):
        raise DataError(
            f"data.max_examples={config.max_examples}, but {config.path or config.name} has {len(pool)}",
            f"data.max_examples={len(pool)}, or data.max_examples=null for all of them",
        )
    order = _order(pool, config, "predefined" if config.split == "predefined" else "shuffled")
    if config.split == "predefined":  # keep the proportion of the source's own parts
        num_official = int(pool.official_test.sum())
        num_test = round(config.max_examples * float(pool.official_test.mean()))
        chosen = np.concatenate([order[:num_test], order[num_official:][: config.max_examples - num_test]])
    else:
        chosen = order[: config.max_examples]
    chosen = np.sort(chosen)
    text = tuple(pool.text[i] for i in chosen)
    return replace(pool, text=text, label=pool.label[chosen], official_test=pool.official_test[chosen])


def with_wrong_labels(
    label: NDArray[np.int64], num_classes: int, share: float, streams: RandomStreams
) -> NDArray[np.int64]:
    """The labels of a pool, about `share` of them replaced by another class. label: class numbers [pool].

    Each example has its own number, drawn from the `labels` stream at its index in the pool, and its label is wrong if the
    number is below the fraction: the wrong labels at 10% are a subset of those at 20%, with the same wrong values.
    """
    if not share or num_classes < 2:
        return label
    drawn = streams.generator("labels").random(len(label))
    other = 1 + np.floor(streams.generator("labels", "which").random(len(label)) * (num_classes - 1)).astype(np.int64)
    return np.where(drawn < share, (label + other) % num_classes, label)

"""`study.*`: what a study compares, how often, and how it is run."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from itertools import pairwise

from ablate.config.fields import check_fields, choice, number
from ablate.config.train import RandomStreamsConfig
from ablate.errors import ConfigError, nearest
from ablate.units import parse_amount

DESIGNS = ("one_at_a_time", "factorial", "fractional", "pairwise", "variance_components")
SPENDING = ("obrien_fleming", "pocock")
MOST_DRAWS = 30
"""Largest `study.draws`: 900 runs."""
_SEEDS = 5


@dataclass(kw_only=True, slots=True)
class StudyConfig:
    name: str | None = None
    """Directory under `output_dir`; None makes one from the axes."""
    question: str | None = None
    """Question that the study answers, shown at its top; None takes the questions of its axes."""
    smoke_run: bool = False
    """A study at debug size, to see that everything works: labelled SMOKE RUN, without verdicts. `debug=quick` and
    `debug=overfit` set it."""
    axes: list[str] = field(default_factory=list)
    """Axes by file name; `axis=a,b` on the command line replaces them."""
    seeds: int = number(_SEEDS, at_least=1)
    """Seeds 0 .. seeds-1 for every arm; with `stopping=sequential` or `anytime`, those of the first interim analysis."""
    stopping: str = choice("fixed", "fixed", "sequential", "anytime")
    """`fixed`: all seeds are run. `sequential`: after each interim analysis, seeds are added for the variants that are still
    undecided. `anytime`: the same after every seed, at levels that hold for any number of analyses."""
    interim_seeds: list[int] = field(default_factory=list)
    """With `stopping=sequential`: numbers of seeds at the interim analyses, the last of them the most that are run; empty takes
    `seeds`, 1.6 and 2.4 times as many (5, 8, 12). With `stopping=anytime`, empty takes every number from `seeds` to four times
    as many (5 to 20)."""
    alpha_spending: str = choice("obrien_fleming", *SPENDING)
    """How the interim analyses share the error rate of 5%: `obrien_fleming` (the last one is almost the plain test) or `pocock`
    (about evenly)."""
    metric: str = "eval_loss"
    """The one primary metric: a name out of `docs/reference/metrics.md`, a target such as `samples_to:eval_loss:0.6`, or a
    custom metric, `my_module:my_metric`."""
    smallest_effect: float = number(0.01, above=0)
    """Smallest difference in `metric` that would matter; `equivalent` means inside plus or minus this."""
    compare_at: str | None = None
    """Where arms are compared: at equal `steps`, `samples`, `tokens`, `epochs` or `seconds`, as many as every run had, or at an
    amount such as `512 samples`, up to which each run is read. None compares the runs as they ended; `ablate report
    --compare-at` reads them again."""
    design: str = choice("one_at_a_time", *DESIGNS)
    """`one_at_a_time`: the baseline, and each value of each axis alone. `factorial`: every combination of values. `fractional`:
    some of them, see `resolution`. `pairwise`: each value alone, and each two together. `variance_components`: one config under
    every pair of draws of two `streams`, with one seed."""
    resolution: int | None = number(None, at_least=3, at_most=5)
    """Resolution of a fractional design; None takes 4. 3: the effect of an axis is mixed with interactions of two; 4: those
    with each other; 5: neither."""
    max_arms: int | None = number(64, at_least=2)
    """Arms above which a design that combines values is refused; None never refuses."""
    streams: list[str] = field(default_factory=lambda: ["init", "order"])
    """With `design=variance_components`: the two random streams to compare; `order+dropout` draws several together."""
    draws: int = number(4, at_least=2, at_most=MOST_DRAWS)
    """With `design=variance_components`: draws of each of the two streams, so that draws x draws runs are made."""
    arm_order_seed: int = 0
    """Shuffles the arms within each seed block."""
    workers: int | None = number(None, at_least=1)
    """Runs at a time on this machine; None takes `runs_per_gpu` for each GPU, or one per CPU core."""
    runs_per_gpu: int = number(1, at_least=1)
    """Runs that share one GPU, where there is one."""
    retries: int = number(1, at_least=0)
    """How often a run is tried again after a transient failure: killed, hung, network, a device fault. Never after an error of
    the code or of the config, and never after running out of memory."""
    hang_timeout_minutes: float | None = number(30.0, above=0)
    """A run without a sign of life for so long writes its stack to its log and is ended. None waits for ever."""
    confirm_above_hours: float | None = number(8.0, above=0)
    """Ask before a study that is expected to take longer than this; None never asks."""
    accept_code_change: bool = False
    """Keep the runs that were made by other code; the study and its report then say so. `--accept-code-change` sets it."""
    fail_fast: bool = False
    """Stop at the first failed run instead of recording it and going on."""
    output_dir: str = "runs"
    """Directory that holds the study directories, under the current one."""

    def __post_init__(self) -> None:
        check_fields(self, "study")
        if self.compare_at is not None:
            parse_amount(self.compare_at, key="study.compare_at")
        if self.resolution is not None and self.design != "fractional":
            raise ConfigError(
                f"study.resolution={self.resolution} is of a fractional design, and study.design={self.design}",
                f"study.design=fractional study.resolution={self.resolution}",
            )
        if self.design == "variance_components":
            self._check_streams()
        self._check_stopping()

    def _check_streams(self) -> None:
        """Expect two factors of known streams, none of them in both."""
        known, typed = [item.name for item in fields(RandomStreamsConfig)], f"study.streams=[{','.join(self.streams)}]"
        named = [stream for factor in self.streams for stream in factor.split("+")]
        for stream in named:
            if stream not in known:
                raise ConfigError(f"{typed}: unknown random stream {stream!r}", nearest(stream, known))
        twice = next((stream for stream in named if named.count(stream) > 1), None)
        if twice is not None:
            raise ConfigError(f"{typed}: {twice!r} is named twice", "study.streams=[init,order]")
        if len(self.streams) != 2:
            other = "order" if "order" not in named else "init"
            first, more = (self.streams[:1] or ["init"])[0], self.streams[1:]
            fix = f"study.streams=[{first},{'+'.join(more) if more else other}]"
            raise ConfigError(f"{typed}: expected exactly 2 streams, got {len(self.streams)}", fix)

    def _check_stopping(self) -> None:
        """Interim analyses are declared as a whole before the first run, or not at all."""
        planned, typed = self.interim_seeds, f"study.interim_seeds=[{','.join(map(str, self.interim_seeds))}]"
        if self.stopping == "fixed":
            if planned:
                raise ConfigError(
                    f"{typed} without study.stopping=sequential: there is no interim analysis",
                    f"study.stopping=sequential {typed}",
                )
            return
        if self.design != "one_at_a_time":
            raise ConfigError(
                f"study.stopping={self.stopping} with study.design={self.design}: variants stop one by one, and "
                "this one needs all",
                "study.stopping=fixed",
            )
        fewest = _SEEDS if self.stopping == "anytime" else 2
        if self.seeds < fewest and not planned:
            raise ConfigError(
                f"study.stopping={self.stopping} study.seeds={self.seeds}: expected at least {fewest}, because an earlier "
                "interim analysis can decide nothing",
                "study.interim_seeds=[5,8,12]",
            )
        wrong = [n for n in planned if isinstance(n, bool) or not isinstance(n, int) or not fewest <= n <= 1000]
        if wrong or any(later <= earlier for earlier, later in pairwise(planned)):
            fixed = sorted({n for n in planned if n not in wrong}) or [5, 8, 12]
            raise ConfigError(
                f"{typed}: expected ascending numbers of seeds, each from {fewest} to 1,000",
                f"study.interim_seeds=[{','.join(map(str, fixed))}]",
            )
        if planned and self.seeds not in (*planned, _SEEDS):
            raise ConfigError(
                f"study.seeds={self.seeds} and {typed}: the interim analyses set the number of seeds, {planned[-1]} at most",
                f"study.seeds={planned[0]}",
            )

    @property
    def planned_interim_seeds(self) -> tuple[int, ...]:
        """Numbers of seeds at the interim analyses, ascending; empty for a study whose number of seeds is fixed."""
        if self.stopping == "fixed":
            return ()
        if self.stopping == "anytime" and not self.interim_seeds:
            return tuple(range(self.seeds, 4 * self.seeds + 1))
        return tuple(self.interim_seeds) or (self.seeds, -(-8 * self.seeds // 5), -(-12 * self.seeds // 5))

    @property
    def most_seeds(self) -> int:
        """Largest number of seeds of an arm."""
        if self.design == "variance_components":
            return 1
        return self.planned_interim_seeds[-1] if self.planned_interim_seeds else self.seeds

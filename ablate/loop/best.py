"""The best look of every metric."""

from __future__ import annotations

from collections.abc import Mapping

LOWER_IS_BETTER = {"loss": True}
"""A metric that is not named here is better when higher."""


class Best:
    """values: {metric: {"value", "step"}}, kept apart from the last look."""

    def __init__(self, values: Mapping[str, Mapping[str, float]] | None = None) -> None:
        given = (values or {}).items()
        self.values = {name: {"value": float(one["value"]), "step": one["step"]} for name, one in given}

    def see(self, means: Mapping[str, float], step: int) -> None:
        """means: of every metric at one look. Equal values keep the earlier look; nan is never best."""
        for name, value in means.items():
            sign = -1 if LOWER_IS_BETTER.get(name, False) else 1
            if value == value and (name not in self.values or sign * value > sign * self.values[name]["value"]):
                self.values[name] = {"value": value, "step": step}

"""Limits that metrics have to keep: `aocr test --fail-under exact=0.95`."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aocr.errors import usage_error
from aocr.evaluation.analysis import FIGURES, SHORT_NAMES


class Limit(NamedTuple):
    """The worst value that a metric may have."""

    name: str  # of FIGURES
    value: float

    def missed_by(self, metrics: Mapping[str, float]) -> bool:
        """Returns whether the metric is worse; NaN is worse than every limit."""
        value = metrics[self.name]
        return not (value >= self.value if FIGURES[self.name].higher_is_better else value <= self.value)


def parse_limits(texts: Iterable[str]) -> list[Limit]:
    """Parses `NAME=VALUE` texts. UserError for an unknown metric or a value that is not a number."""
    return [_parse(text) for text in texts]


def _parse(text):
    name, equals, value = text.partition("=")
    name = SHORT_NAMES.get(name.strip(), name.strip())
    if not equals:
        raise usage_error(f"--fail-under is {text!r}; give METRIC=VALUE, such as exact=0.95")
    if name not in FIGURES:
        raise usage_error(f"--fail-under {text}: no metric is called {name!r}; use one of "
                          f"{', '.join([*SHORT_NAMES, *FIGURES])}")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise usage_error(f"--fail-under {text}: {value!r} is not a number; give METRIC=VALUE, such as exact=0.95")
    return Limit(name, number)


def missed(limits: Iterable[Limit], metrics: Mapping[str, float]) -> str | None:
    """Returns one line on the limits that the metrics miss; None if they keep all."""
    problems = [f"{limit.name} is {metrics[limit.name]:.6g}, "
                f"{'below' if FIGURES[limit.name].higher_is_better else 'above'} {limit.value:g}"
                for limit in limits if limit.missed_by(metrics)]
    return f"--fail-under: {'; '.join(problems)}" if problems else None

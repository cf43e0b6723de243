"""Results of the checks of an encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["pass", "fail", "not applicable"]


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Parameters
    ----------
    passed : bool, optional
        None: the check does not apply to the encoder.
    meaning : str
        One sentence.
    value : float, optional
        The measured number.
    unit : str
        Unit or name of the number.
    """

    passed: bool | None
    meaning: str
    value: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class CheckResult:
    """A row of a report card.

    Parameters
    ----------
    name : str
    state : {"pass", "fail", "not applicable"}
    value : float, optional
        The measured number; None if there is none or it is not finite.
    unit : str
        Unit or name of the number.
    meaning : str
        One sentence.
    """

    name: str
    state: State
    value: float | None
    unit: str
    meaning: str

    @property
    def number(self) -> str:
        """Return the number with its unit, for a table."""
        return "" if self.value is None else f"{self.value:.4g} {self.unit}".rstrip()


@dataclass(frozen=True)
class ReportCard:
    """The checks of one encoder.

    Parameters
    ----------
    model : str
    sample_rate : int
        Hz, of the input of the encoder.
    checks : tuple of CheckResult
    """

    model: str
    sample_rate: int
    checks: tuple[CheckResult, ...]

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """Return the checks that failed."""
        return tuple(check for check in self.checks if check.state == "fail")

    @property
    def passed(self) -> bool:
        """Return whether no check failed."""
        return not self.failed

    @property
    def summary(self) -> str:
        """Return the numbers of checks in each state as one line."""
        states = [check.state for check in self.checks]
        return (
            f"{states.count('pass')} checks passed, {states.count('fail')} failed,"
            f" {states.count('not applicable')} not applicable"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report card as plain values."""
        return {**asdict(self), "passed": self.passed}

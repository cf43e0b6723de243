"""Page of the report card of an encoder."""

from __future__ import annotations

from pathlib import Path

from unheard.evaluation.report_card.result import ReportCard
from unheard.view.page import write_page


def write_report_card(card: ReportCard, out: Path) -> Path:
    """Write the page of a report card. Return its path.

    Raises
    ------
    DataError
        When the file cannot be written.
    """
    return write_page(out, "report_card.html", title=f"Report card of {card.model}", wide=True, card=card)

"""HTML pages from the templates in ``templates/``: one file each, with embedded figures, sounds and data."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unheard.errors import DataError
from unheard.files import write_text


def write_page(out: Path, template: str, **values: Any) -> Path:
    """Render a template and write it as one HTML file. Return its path.

    Parameters
    ----------
    template : str
        Name of a file in ``templates/``.
    values : object
        Values of the template, including ``title``.

    Raises
    ------
    DataError
        When the file cannot be written.
    """
    page = _environment().get_template(template).render(**values)
    try:
        return write_text(out, page)
    except OSError as error:
        raise DataError(f"could not write {out}: {error.strerror or error}") from error


@cache
def _environment() -> Environment:
    """Return the template environment; an undefined value in a template is an error."""
    loader = PackageLoader("unheard.view")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["inline"] = _inline
    environment.filters["number"] = _number
    return environment


def _inline(file: Path, kind: str) -> str:
    """Return a file as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _number(value: Any) -> Any:
    """Format a float with three digits and None as an empty string; return other values unchanged."""
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else value

"""Pages from the templates in ``templates/``: one HTML file each, with pictures, sounds and data inside, escaped by
Jinja2.
"""

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
        What the template names, ``title`` among them.

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
    """Return the templates. A value that a template names and nobody gives is an error."""
    loader = PackageLoader("unheard.view")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["inline"] = _inline
    environment.filters["number"] = _number
    return environment


def _inline(file: Path, kind: str) -> str:
    """Return a file as a data address."""
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _number(value: Any) -> Any:
    """Return a float with three digits, nothing for None, other values as they are."""
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else value

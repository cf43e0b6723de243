"""What every page here shares: its look, and pictures that lie inside the file."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from unheard.errors import DataError
from unheard.files import write_text

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { margin-top: 2.5rem; font-size: 1.2rem }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .8rem; border-bottom: 1px solid #8884; text-align: left }
td + td { font-variant-numeric: tabular-nums } figure { margin: 1.5rem 0 } img { max-width: 100%; background: white }
figcaption { opacity: .7; font-size: .9rem } .lead { opacity: .7; margin-top: .2rem }
"""


def write_page(out: Path, title: str, body: str, style: str = STYLE) -> Path:
    """Write one HTML file under a temporary name, then put it in place; returns its path.

    Raises
    ------
    DataError
        When it cannot be written.
    """
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{html.escape(title)}</title>"
    try:
        return write_text(out, f"<!doctype html><html lang=en>{head}<style>{style}</style><body>{body}</body></html>\n")
    except OSError as error:
        raise DataError(f"could not write {out}: {error.strerror or error}") from error


def picture(file: Path, text: str) -> str:
    """A figure with its caption."""
    return f"<figure><img src='{inline(file, 'image/png')}' alt='{html.escape(text)}'><figcaption>{html.escape(text)}</figcaption></figure>"


def inline(file: Path, kind: str) -> str:
    """A file as a data address."""
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"

"""The call tree as a page: to read on a screen and to print from there. No script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jinja2

from services.roster.call_tree.document import CallTree
from services.roster.call_tree.printing import printable

OLD_AFTER = timedelta(hours=25)
"""It is renewed daily; one that is older says so."""

_FOLDER = Path(__file__).with_name("pages")
_STYLE = (_FOLDER / "call_tree.css").read_text("utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _shown(text: str) -> str:
    """The text, with its Latin form beside it where a screen may lack the letters as paper does."""
    latin = printable(text)
    return text if latin == unicodedata.normalize("NFC", text) else f"{text} ({latin})"


_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_TEMPLATES.filters["instant"] = _instant
_TEMPLATES.filters["shown"] = _shown

PRIVATE = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
}
"""It holds people's numbers: nothing on the way keeps it."""

HEADERS = {
    **PRIVATE,
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'none'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
}


def page_of(document: str, *, now: datetime) -> str:
    """The page of a `CallTree` as JSON, with its age at `now`."""
    tree = CallTree.model_validate_json(document)
    age = max(timedelta(), now - tree.made_at)
    return _TEMPLATES.get_template("call_tree.html").render(
        tree=tree, style=_STYLE, age=_age_text(age), is_old=age > OLD_AFTER
    )


def _age_text(age: timedelta) -> str:
    hours, minutes = divmod(int(age.total_seconds()) // 60, 60)
    if hours >= 48:
        return f"{hours // 24} days"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"

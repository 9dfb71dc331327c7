"""The page about the API: whole, escaped, and content with itself."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import httpx
from fastapi import FastAPI

from shared import docs_page
from shared.openapi import operations_of
from tests.support.snapshots import ROOT

DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))


class Reader(HTMLParser):
    """What a browser would see: elements with their attributes, and whether every element ends."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(page: str) -> Reader:
    """The page as a browser reads it."""
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_every_call_stands_on_the_page() -> None:
    """Each operation and each webhook has its place, under an id that links can name."""
    ids = {attributes.get("id") for _, attributes in read(docs_page.page_of(DOCUMENT)).found}
    for _, _, operation in operations_of(DOCUMENT):
        assert operation["operationId"].replace("_", "-") in ids


def test_nothing_comes_from_elsewhere() -> None:
    """No script, frame, picture, form or handler, and nothing but links leads to other hosts."""
    for tag, attributes in read(docs_page.page_of(DOCUMENT)).found:
        assert tag not in {"script", "iframe", "img", "link", "form", "object", "embed"}
        assert not any(name.startswith("on") or name in {"src", "style"} for name in attributes)
        if "href" in attributes and tag != "a":
            raise AssertionError(attributes)


def test_hostile_words_stay_words() -> None:
    """Markup in the document is shown, not obeyed."""
    hostile = '<script>alert(1)</script>"><img src=x onerror=alert(1)> [x](javascript:alert(1)) `</code><b>`'
    document = {
        "info": {"title": hostile, "description": hostile},
        "tags": [{"name": "T", "description": hostile}],
        "paths": {
            "/v1/x": {
                "get": {
                    "operationId": "x",
                    "tags": ["T"],
                    "summary": hostile,
                    "description": hostile,
                    "responses": {
                        "200": {
                            "description": hostile,
                            "content": {"application/json": {"schema": {}, "example": {"a": hostile}}},
                        }
                    },
                }
            }
        },
    }
    found = read(docs_page.page_of(document)).found
    assert not {tag for tag, _ in found} & {"script", "img", "b"}
    assert not any("javascript:" in (attributes.get("href") or "") for _, attributes in found)


async def test_its_policy_allows_its_style_and_nothing_else() -> None:
    """The page is served with a policy under which only this very style sheet is applied; `/` leads to it."""
    app = FastAPI(docs_url=None)
    app.include_router(docs_page.router())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://example") as client:
        start = await client.get("/")
        page = await client.get("/docs")
    assert (start.status_code, start.headers["location"]) == (307, "/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy

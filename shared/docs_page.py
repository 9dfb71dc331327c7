"""The API's description for people: one page made from the OpenAPI document, without scripts.

The promise: what the document says stands here, escaped; the page asks nothing of any other host, and its style sheet
is the only thing that its security policy lets a browser apply.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from shared.openapi import operations_of, resolve

STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--strong:#b00020}
*{box-sizing:border-box}
body{font:16px/1.55 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1.5rem}
h1{margin:.2em 0}h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}
code,pre{font:14px/1.45 ui-monospace,monospace}
pre{background:var(--soft);padding:.8rem;overflow:auto;border-radius:6px}
code{background:var(--soft);padding:.05em .3em;border-radius:4px}pre code{background:none;padding:0}
details{border:1px solid var(--line);border-radius:6px;margin:.5rem 0;padding:0 .8rem}
summary{cursor:pointer;padding:.5rem 0}
details details{border:0;padding:0;margin:.3rem 0}
.method{font-weight:700;display:inline-block;min-width:4.5rem}
.gone{color:var(--strong)}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line)}
nav a{margin-right:1rem;white-space:nowrap}
@media(prefers-color-scheme:dark){:root{--strong:#ff8a80}}
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode("ascii")
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "Cache-Control": "public, max-age=300",
}


def router() -> APIRouter:
    """`/docs`, and `/`, which leads there."""
    routes = APIRouter(include_in_schema=False)
    made: dict[str, str] = {}

    @routes.get("/docs")
    async def show_documentation(request: Request) -> HTMLResponse:
        """The page; made once."""
        if "page" not in made:
            made["page"] = page_of(request.app.openapi())
        return HTMLResponse(made["page"], headers=_HEADERS)

    @routes.get("/")
    async def show_start() -> RedirectResponse:
        """Whoever opens the address itself wants to know what this is."""
        return RedirectResponse("/docs", status_code=307)

    return routes


def page_of(document: Mapping[str, Any]) -> str:
    """The whole page."""
    tags = document.get("tags", [])
    links = "".join(f'<a href="#{_anchor(tag["name"])}">{_text(tag["name"])}</a> ' for tag in tags)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(document['info']['title'])} API</title><style>{STYLE}</style></head><body>"
        f"<h1>{_text(document['info']['title'])} API</h1>"
        f"<p>{_text(document['info'].get('summary', ''))} "
        '<a href="/openapi.json">OpenAPI document</a> · <a href="/problems">all problems</a> · '
        '<a href="/.well-known/redphone-keys">keys</a> · <a href="/readyz">health</a></p>'
        f"<nav>{links}</nav>{''.join(_blocks(document['info'].get('description', '')))}"
        f"{''.join(_section(document, tag) for tag in tags)}</body></html>"
    )


def _section(document: Mapping[str, Any], tag: Mapping[str, str]) -> str:
    shown = "".join(
        _operation(document, method, path, operation)
        for method, path, operation in operations_of(document)
        if tag["name"] in operation["tags"]
    )
    name = tag["name"]
    return f'<h2 id="{_anchor(name)}">{_text(name)}</h2><p>{_inline(tag.get("description", ""))}</p>{shown}'


def _operation(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> str:
    is_webhook = path in document.get("webhooks", {})
    verb = "sends" if is_webhook else method.upper()
    title = f'<span class="method">{verb}</span><code>{_text(path)}</code> {_text(operation["summary"])}'
    parts = [
        f'<details id="{_anchor(operation["operationId"])}"><summary>{title}</summary>',
        *_blocks(operation.get("description", "")),
        _parameters(operation),
        _body(document, "It sends" if is_webhook else "Send", operation.get("requestBody", {})),
    ]
    refusals = []
    for status, given in operation["responses"].items():
        answer = resolve(document, given)
        if status.startswith("2"):
            parts.append(_body(document, f"{status} {answer['description']}", answer))
        else:
            codes = answer.get("content", {}).get("application/problem+json", {}).get("examples", {})
            named = ", ".join(f'<a href="/problems/{_text(code)}"><code>{_text(code)}</code></a>' for code in codes)
            refusals.append(f"<tr><td>{_text(status)}</td><td>{named or _text(answer['description'])}</td></tr>")
    parts.append(f"<details><summary>Refusals</summary><table>{''.join(refusals)}</table></details></details>")
    return "".join(parts)


def _parameters(operation: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{_text(one['name'])}</code>{' *' if one.get('required') else ''}</td>"
        f"<td>{_text(one['in'])}</td><td>{_inline(one.get('description', ''))}</td></tr>"
        for one in operation.get("parameters", ())
    ]
    return f"<table>{''.join(rows)}</table>" if rows else ""


def _body(document: Mapping[str, Any], title: str, body: Mapping[str, Any]) -> str:
    shown = []
    for media_type, media in body.get("content", {}).items():
        given = [media["example"]] if "example" in media else [one["value"] for one in media["examples"].values()]
        texts = [
            one if isinstance(one, str) else orjson.dumps(one, option=orjson.OPT_INDENT_2).decode() for one in given
        ]
        examples = "".join(f"<pre><code>{_text(text)}</code></pre>" for text in texts)
        fields = _fields(resolve(document, media["schema"]))
        shown.append(f"<p><code>{_text(media_type)}</code></p>{fields}{examples}")
    if not shown:
        return ""
    return f"<details><summary>{_text(title)}</summary>{''.join(shown)}</details>"


def _fields(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        f"<tr><td><code>{_text(name)}</code>{' *' if name in required else ''}</td>"
        f"<td>{_inline(part.get('description', ''))}</td></tr>"
        for name, part in schema.get("properties", {}).items()
        if part.get("description") or name in required
    ]
    return f"<table>{''.join(rows)}</table>" if rows else ""


# --- the little CommonMark that descriptions use ----------------------------------------------------------------------


def _blocks(text: str) -> Iterator[str]:
    for block in text.split("\n\n"):
        if block.startswith("## "):
            yield f"<h2>{_inline(block[3:])}</h2>"
        elif block.startswith("    "):
            code = "\n".join(line.removeprefix("    ") for line in block.splitlines())
            yield f"<pre><code>{_text(code)}</code></pre>"
        elif block:
            yield f"<p>{_inline(block)}</p>"


def _inline(text: str) -> str:
    shown = _text(text)
    shown = re.sub(r"`([^`]+)`", r"<code>\1</code>", shown)
    shown = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", shown)
    shown = re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?!\w)", r"<em>\1</em>", shown)
    return re.sub(r"\[([^\]]+)\]\((https://[^)\s]+)\)", r'<a href="\2" rel="noreferrer">\1</a>', shown)


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())

"""The playground: one page for people, its script and style, packaged files at fixed paths that anyone may read."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Response

_SCRIPTS = (
    *("api", "charts", "columns", "conditions", "distributions", "dress"),
    *("jobs", "main", "requests", "rows", "verdict"),
)
_FILES = {
    "/": ("index.html", "text/html"),
    "/playground/style.css": ("style.css", "text/css"),
    **{f"/playground/{name}.js": (f"{name}.js", "text/javascript") for name in _SCRIPTS},
}
PLAYGROUND_PATHS = tuple(_FILES)
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


def add_playground(app: FastAPI) -> None:
    """Serve the page at `/`, and what it loads."""
    for path, (name, media_type) in _FILES.items():
        _add_file(app, path, (files("difflm.serving") / "page" / name).read_bytes(), media_type)


def _add_file(app: FastAPI, path: str, content: bytes, media_type: str) -> None:
    @app.get(path, include_in_schema=False)
    async def file() -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

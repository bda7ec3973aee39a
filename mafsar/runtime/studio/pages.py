"""The files of the pages, which are part of the package, and short answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mafsar.errors import MafsarError, MissingError, UnavailableError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

FOLDER = Path(__file__).with_name("pages")
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
NO_STORE = {"cache-control": "no-store"}


def page(name: str) -> Callable[[Request], Response]:
    """What answers with one page."""

    def answer(_request: Request) -> Response:
        return _file(name)

    return answer


def static(request: Request) -> Response:
    """Scripts and styles."""
    from starlette.responses import PlainTextResponse

    name = request.path_params["name"]
    if name not in {path.name for path in FOLDER.iterdir()}:
        return PlainTextResponse("no such file\n", 404)
    return _file(name)


def _file(name: str) -> Response:
    from starlette.responses import Response

    path = FOLDER / name
    return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=NO_STORE)


def json(document: dict[str, Any], status: int = 200) -> Response:
    """A JSON object; text outside Unicode, as in odd file names, is replaced."""
    import json as standard

    from starlette.responses import Response

    body = standard.dumps(document, ensure_ascii=False, allow_nan=False)
    return Response(
        body.encode("utf-8", "replace"), status, media_type="application/json", headers=NO_STORE
    )


def failure(error: MafsarError, said: str) -> Response:
    """An error of the library: 404, 409 or 422, with one sentence."""
    status = 404 if isinstance(error, MissingError) else 422
    return json({"error": said}, 409 if isinstance(error, UnavailableError) else status)

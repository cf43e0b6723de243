"""The application: endpoints, the static page, and errors as responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from unheard.errors import UnheardError, shown
from unheard.serving.guard import Address, Guard
from unheard.serving.limits import RefusedError
from unheard.serving.routes import detecting, inspecting, labelling, searching, sounds
from unheard.serving.workbench import Workbench
from unheard.version import __version__

PAGE = Path(__file__).parent / "page"
DESCRIPTION = (
    "Embeddings, reconstruction, attention, search, labels and detections of one model. Sounds are uploaded, or are"
    " files of a folder, which are named by an id."
)
PROBLEM = {"type": "object", "title": "Problem", "required": ["detail"], "properties": {"detail": {"type": "string"}}}


def build_app(bench: Workbench, address: Address = Address()) -> FastAPI:
    """Return the application of a server.

    Parameters
    ----------
    bench : Workbench
        Its model and sounds.
    address : Address
        Where it is bound; requests to any other host are refused.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        bench.close()

    app = FastAPI(
        title="unheard serve",
        version=__version__,
        description=DESCRIPTION,
        openapi_url="/api/openapi.json",
        docs_url=None,  # their pages load scripts from other sites
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.bench = bench
    for module in (inspecting, sounds, searching, labelling, detecting):
        app.include_router(module.router)
    _answer_errors(app)
    _describe_errors(app)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    app.add_middleware(Guard, address=address, limits=bench.limits)
    return app


def _answer_errors(app: FastAPI) -> None:
    """Return every error as one sentence in ``detail``."""

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse({"detail": shown(error)}, error.status, error.headers)

    @app.exception_handler(UnheardError)
    async def unusable(_: Request, error: UnheardError) -> JSONResponse:
        return JSONResponse({"detail": shown(error)}, 422)

    @app.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"detail": shown(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        found = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()[:5])
        return JSONResponse({"detail": shown(found)}, 422)


def _describe_errors(app: FastAPI) -> None:
    """Add the schema of errors to the OpenAPI document, in place of FastAPI's."""
    made = app.openapi

    def openapi() -> dict[str, object]:
        schema = made()
        schema["components"]["schemas"]["Problem"] = PROBLEM
        return schema

    app.openapi = openapi  # type: ignore[method-assign]

"""The web application: the JSON endpoint and the page."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastapi
import gradio
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

import animesion_jax
from animesion_jax.errors import InputError, encodable, first_line
from animesion_jax.serve.page import FONTS, SCRIPTS, create_page
from animesion_jax.serve.service import Answer, Service

SEND_A_FORM = "send a form by POST: curl -F image=@face.jpg .../api/predict"


def create_app(service: Service, examples: Sequence[Path] = (), root_path: str = "") -> fastapi.FastAPI:
    """Returns the application: POST /api/predict, GET /api/info, and the page at /.

    All of it also answers below `root_path`, so a proxy may strip the prefix or keep it.
    """
    app = fastapi.FastAPI(title="animesion_jax", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/api/info")
    def info() -> dict[str, Any]:
        bundle = service.recognizer.bundle
        return {
            "animesion_jax": animesion_jax.__version__,
            "characters": len(bundle.names),
            "image_size": bundle.image_size,
            "threshold": bundle.threshold,
            "detector": service.finder.detector.name if service.finder else None,
            "max_file_bytes": service.max_bytes,
            "max_images": service.max_images,
        }

    @app.post("/api/predict")
    async def predict(request: fastapi.Request) -> JSONResponse:
        """Takes a multipart form of image files and returns {"results": [...]} in their order."""
        refusal = _refuse(request, service)
        if refusal:
            return refusal
        try:
            async with request.form(max_files=service.max_images, max_fields=service.max_images) as form:
                uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
                if not uploads:
                    return _error(400, f"no file in the form; {SEND_A_FORM}")
                service.check_number(len(uploads))
                results = [await asyncio.to_thread(_answer, service, upload) for upload in uploads]
        except HTTPException as error:
            return _error(400, f"not a form of image files: {error.detail}; {service.limits}")
        except UnicodeError as error:
            return _error(400, f"file names are not in the form's charset: {first_line(error)}; send UTF-8")
        except InputError as error:
            return _error(400, str(error))
        return JSONResponse({"results": results})

    @app.get("/api/predict")
    def how_to_predict() -> JSONResponse:
        """Explains the endpoint; without this route the page would answer."""
        return _error(405, SEND_A_FORM)

    page = create_page(service, examples)
    app.add_middleware(_with_root_path, root_path)
    # Gradio rejects a whole upload if one file is too large. Let larger files through, so that the service reports the
    # large file and answers for the others.
    return gradio.mount_gradio_app(
        app, page, path="/", max_file_size=service.max_request_bytes, show_error=True, theme=FONTS, footer_links=[],
        ssr_mode=False, head=SCRIPTS, root_path=root_path, run_history=False,
    )  # fmt: skip


def _with_root_path(app: ASGIApp, root_path: str) -> ASGIApp:
    """Returns an application that answers both at its own paths and below `root_path`."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette's routes leave out the root path where a path begins with it.
        await app(dict(scope) | {"root_path": root_path}, receive, send)

    return answer


def _refuse(request: fastapi.Request, service: Service) -> JSONResponse | None:
    """Returns the error for a request whose body should not be read; None for other requests."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return _error(415, SEND_A_FORM)
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        return _error(411, "the request has no length; allowed: a request with a Content-Length")
    if int(length) > service.max_request_bytes:
        return _error(413, f"the request is too large: {length} bytes; allowed: {service.limits}")
    return None


def _answer(service: Service, upload: UploadFile) -> Answer:
    return service.answer(upload.file, upload.size, encodable(os.path.basename(upload.filename or "")))


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status)

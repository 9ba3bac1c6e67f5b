"""Runs an ASGI application with uvicorn, quietly: the guard logs, uvicorn does not."""

from __future__ import annotations

import uvicorn
from starlette.types import ASGIApp

from ..redact import log_safely


def run(app: ASGIApp, host: str, port: int) -> None:
    """Serve until interrupted."""
    log_safely()
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=256,  # connections; more get a 503
        timeout_keep_alive=10,
        timeout_graceful_shutdown=10,
    )

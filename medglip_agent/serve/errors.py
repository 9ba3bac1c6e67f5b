"""Errors in the form that OpenAI's clients understand. Every message is ours, none an exception's."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import JSONResponse

_TYPES: Final = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """A refusal with its HTTP status; the message may be shown to the client."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        """Say why.

        Args:
            status: HTTP status.
            message: what was expected, what came, what to do.
            code: a word for programs, such as "model_not_found".
            param: the field of the request that is wrong.
        """
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def body(self) -> dict[str, Any]:
        """Return the JSON that OpenAI's clients expect."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """Return the HTTP reply."""
        headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "5"}, 503: {"Retry-After": "5"}}
        return JSONResponse(self.body(), self.status, headers.get(self.status))


def internal_error(request_id: str) -> ApiError:
    """Return what a client is told about a fault of ours."""
    message = f"the server failed at this request; its log tells more under {request_id}"
    return ApiError(500, message, code="internal_error")

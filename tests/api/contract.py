"""Holds every answer against the OpenAPI document: its status, its media type, its headers and its body."""

import re
from typing import Any

from openapi_schema_validator import OAS31Validator, oas31_format_checker


class Contract:
    """The document that the application under test serves."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._paths = [
            (re.compile("^" + re.sub(r"\{[^}]+\}", "[^/]+", path) + "$"), path) for path in document["paths"]
        ]
        self._paths.sort(key=lambda pair: "{" in pair[1])

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        """The documented operation of a request, or None."""
        for pattern, name in self._paths:
            if pattern.match(path):
                operation: dict[str, Any] | None = self.document["paths"][name].get(method.lower())
                return operation
        return None

    def check(self, method: str, path: str, *, status: int, media_type: str, headers: Any, body: Any) -> None:
        """Fail unless the document has this answer to this request."""
        assert headers["X-Request-ID"]
        operation = self.operation("GET" if method == "HEAD" else method, path)
        if operation is None:
            return
        where = f"{method} {path} {status}"
        assert str(status) in operation["responses"], f"{where} is not documented"
        response = operation["responses"][str(status)]
        for name in response.get("headers", {}):
            if response["headers"][name].get("required") is False:
                continue
            if name != "Retry-After" or media_type == "application/problem+json":
                assert name in headers or "$ref" in response["headers"][name], f"{where} lacks {name}"
        if body is not None:
            assert media_type in response["content"], f"{where} as {media_type} is not documented"
            self.check_schema(response["content"][media_type]["schema"], body)

    def check_schema(self, schema: dict[str, Any], value: Any) -> None:
        """Fail unless the value is what a schema of the document says."""
        found = list(self._validator(schema).iter_errors(value))
        assert not found, found[0]

    def accepts(self, schema: dict[str, Any], value: Any) -> bool:
        """Whether the value is what a schema of the document says."""
        return not list(self._validator(schema).iter_errors(value))

    def _validator(self, schema: dict[str, Any]) -> Any:
        return OAS31Validator(
            {**schema, "components": self.document["components"]}, format_checker=oas31_format_checker
        )

"""Writes the OpenAPI 3.1 document from the table of endpoints and the signatures of the handlers."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from app.api.binding import Signature, read_signature
from app.api.endpoint import JSON, Answer, Endpoint, Permission
from app.api.guard import Access
from app.api.problems import (
    PROBLEM_JSON,
    REQUEST_ID,
    STATUSES,
    BadJson,
    BodyTooLarge,
    Forbidden,
    InternalError,
    Problem,
    RateLimited,
    Unauthorized,
    UnsupportedMediaType,
)
from app.core import limits
from app.core.errors import ArqiveError, Invalid, StoreUnavailable, TooManyStreams

_SCHEME = "key"
_REF = "#/components/schemas/{model}"

_TAGS = (
    ("tasks", "Submit tasks, read them, change them."),
    ("events", "Changes as server-sent events, live and from where a client left off."),
    ("schedules", "Have tasks submitted again and again."),
    ("queues", "How much waits and runs in each, and what may start."),
    ("service", "What runs, how much of it, and how well."),
)

_PATH_PARAMETERS: dict[str, JsonSchemaValue] = {
    "task_id": {"type": "string", "pattern": "^[0-9a-fA-F]{24}$", "description": "24 hexadecimal digits."},
    "name": {
        "type": "string", "pattern": limits.NAME_PATTERN, "maxLength": limits.MAX_NAME,
        "description": "Letters, digits and `_ . : -`.",
    },
}  # fmt: skip

# Each endpoint's own: a header that nobody would type by hand is in the document once.
_REQUEST_ID_REF = {REQUEST_ID: {"$ref": "#/components/headers/RequestId"}}


class _Untitled(GenerateJsonSchema):
    """Schemas without the titles that only repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


def build_document(endpoints: Sequence[Endpoint], *, version: str, access: Access | None = None) -> dict[str, Any]:
    """The document of all endpoints that are to be documented.

    Args:
        endpoints: The table.
        version: Of the service.
        access: Who may do what.
    """
    access = access or Access()
    shown = [(endpoint, read_signature(endpoint.handler)) for endpoint in endpoints if endpoint.documented]
    schemas, components = _schemas(shown)
    paths: dict[str, Any] = {}
    for endpoint, signature in shown:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = {
            **_operation(endpoint, signature, schemas, access),
            **_security(endpoint, access),
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Arqive",
            "version": version,
            "description": "A durable task queue that runs as a service. Durations are seconds; moments are RFC 3339.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                _SCHEME: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key whose scope is the one named or a higher one: read, write, admin.",
                }
            },
            "headers": {
                "RequestId": {
                    "description": "Names the request in the log; taken from the request when it has one.",
                    "schema": {"type": "string"},
                }
            },
        },
    }


def _schemas(shown: Sequence[tuple[Endpoint, Signature]]) -> tuple[dict[Any, JsonSchemaValue], dict[str, Any]]:
    """The schema of everything that is named, by what names it, and the components they refer to.

    All in validation mode: a model that is both sent and received then has one schema, not two.
    """
    wanted: dict[Any, TypeAdapter[Any]] = {(Problem,): TypeAdapter(Problem)}
    for endpoint, signature in shown:
        if signature.has_query:
            wanted[(endpoint.name, "query")] = TypeAdapter(signature.query)
        if signature.body is not None:
            wanted[(endpoint.name, "body")] = signature.body
        for answer in endpoint.answers.values():
            if answer.body is not None:
                wanted[(answer.body,)] = TypeAdapter(answer.body)
    by_key, definitions = TypeAdapter.json_schemas(
        [(key, "validation", adapter) for key, adapter in wanted.items()],
        ref_template=_REF,
        schema_generator=_Untitled,
    )
    schemas = {key: schema for (key, _), schema in by_key.items()}
    components: dict[str, Any] = definitions["$defs"]
    for endpoint, signature in shown:
        if signature.has_query:  # its fields become parameters, nothing refers to it
            schemas[(endpoint.name, "query")] = components.pop(signature.query.__name__)
    return schemas, components


def _operation(
    endpoint: Endpoint, signature: Signature, schemas: dict[Any, JsonSchemaValue], access: Access
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "x-permission": endpoint.permission.value,
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in _PATH_PARAMETERS.items()
        if f"{{{name}}}" in endpoint.path
    ]
    parameters += [
        {
            "name": header.name,
            "in": "header",
            "required": False,
            "description": header.description,
            "schema": dict(header.schema),
        }
        for header in signature.headers
    ]
    if signature.has_query:
        parameters += _query_parameters(schemas[(endpoint.name, "query")])
    if parameters:
        operation["parameters"] = parameters
    if signature.body is not None:
        content: dict[str, Any] = {"schema": schemas[(endpoint.name, "body")]}
        if endpoint.examples:
            content["examples"] = dict(endpoint.examples)
        operation["requestBody"] = {"required": signature.body_required, "content": {JSON: content}}
    operation["responses"] = _responses(endpoint, signature, schemas, access)
    return operation


def _security(endpoint: Endpoint, access: Access) -> dict[str, Any]:
    """Which key is needed; without keys one may be sent all the same."""
    if not access.may_refuse(endpoint):
        return {"security": []}
    needed = {_SCHEME: [endpoint.permission.value]}
    return {"security": [needed] if access.restricted else [{}, needed]}


def _query_parameters(schema: JsonSchemaValue) -> list[dict[str, Any]]:
    parameters = []
    for name, of_field in schema["properties"].items():
        parameter = {"name": name, "in": "query", "required": False, "schema": _without_null(of_field)}
        if "description" in of_field:
            parameter["description"] = parameter["schema"].pop("description")
        parameters.append(parameter)
    return parameters


def _without_null(schema: JsonSchemaValue) -> JsonSchemaValue:
    """A query parameter is there or not; it is never null."""
    rest = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
    for alternative in schema.get("anyOf", ()):
        if alternative != {"type": "null"}:
            rest.update(alternative)
    return rest


def _responses(
    endpoint: Endpoint, signature: Signature, schemas: dict[Any, JsonSchemaValue], access: Access
) -> dict[str, dict[str, Any]]:
    responses = {str(status.value): _answer(answer, schemas) for status, answer in endpoint.answers.items()}
    reading: tuple[type[ArqiveError], ...] = (Invalid,)
    if signature.body is not None:
        reading = (BadJson, BodyTooLarge, UnsupportedMediaType, Invalid)
    admitting: tuple[type[ArqiveError], ...] = ()
    if access.may_refuse(endpoint):
        # Whoever may come in at all may read.
        refused = () if endpoint.permission is Permission.READ else (Forbidden,)
        admitting = (Unauthorized, *refused, RateLimited)
    for error in (*endpoint.errors, *reading, *admitting, InternalError):
        _add_problem(responses, STATUSES[error], error, schemas[(Problem,)])
    return dict(sorted(responses.items()))


def _answer(answer: Answer, schemas: dict[Any, JsonSchemaValue]) -> dict[str, Any]:
    headers = {
        name: {"description": description, "required": name in answer.headers, "schema": {"type": "string"}}
        for name, description in {**answer.headers, **answer.sometimes}.items()
    }
    response: dict[str, Any] = {"description": answer.description, "headers": {**_REQUEST_ID_REF, **headers}}
    if answer.body is not None:
        response["content"] = {answer.media_type: {"schema": schemas[(answer.body,)]}}
    return response


def _add_problem(
    responses: dict[str, dict[str, Any]], status: HTTPStatus, error: type[ArqiveError], schema: JsonSchemaValue
) -> None:
    told = f"`{error.code}`: {(error.__doc__ or '').splitlines()[0]}"
    response = responses.setdefault(str(status.value), {"description": "", "headers": dict(_REQUEST_ID_REF)})
    response["description"] = f"{response['description']} {told}".strip()
    response.setdefault("content", {})[PROBLEM_JSON] = {"schema": schema}
    if error is Unauthorized:
        response["headers"]["WWW-Authenticate"] = {"description": "Bearer.", "schema": {"type": "string"}}
    if error in {StoreUnavailable, RateLimited, TooManyStreams}:
        response["headers"]["Retry-After"] = {
            "description": "Seconds after which to try again.",
            "schema": {"type": "integer", "minimum": 0},
        }

"""The OpenAPI document: valid, complete, and about the handlers as they are."""

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.api.binding import read_signature
from app.api.endpoint import Permission, Reply
from app.api.endpoints import ENDPOINTS
from app.api.openapi import build_document
from tests.api.conftest import Api
from tests.api.contract import Contract

DOCUMENT = build_document(ENDPOINTS, version="1.2.3")
OPERATIONS = {operation["operationId"]: operation for item in DOCUMENT["paths"].values() for operation in item.values()}


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


async def test_it_is_served(api: Api) -> None:
    answer = await api.get("/openapi.json")
    assert (answer.status, answer.media_type) == (200, "application/json")
    assert answer.json == DOCUMENT
    assert answer.json["info"]["version"] == "1.2.3"


def test_every_schema_is_a_schema() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        OAS31Validator.check_schema(schema)


def test_every_endpoint_is_there_unless_it_is_the_documentation() -> None:
    hidden = {endpoint.path for endpoint in ENDPOINTS if not endpoint.documented}
    assert hidden == {"/openapi.json", "/docs", "/docs/page.js", "/docs/page.css"}
    assert {(path, method.upper()) for path, item in DOCUMENT["paths"].items() for method in item} == {
        (endpoint.path, endpoint.method) for endpoint in ENDPOINTS if endpoint.documented
    }


def test_every_operation_says_what_is_needed_to_use_it() -> None:
    assert len(OPERATIONS) == sum(endpoint.documented for endpoint in ENDPOINTS)
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for name, operation in OPERATIONS.items():
        assert operation["summary"], name
        assert set(operation["tags"]) <= tags, name
        assert "500" in operation["responses"], name


def test_statuses_of_a_submission() -> None:
    assert list(OPERATIONS["submit_task"]["responses"]) == [
        "200", "201", "400", "401", "403", "413", "415", "422", "429", "500", "503"
    ]  # fmt: skip
    assert list(OPERATIONS["submit_tasks"]["responses"]) == [
        "200", "201", "207", "400", "401", "403", "413", "415", "422", "429", "500", "503"
    ]  # fmt: skip
    both = OPERATIONS["submit_tasks"]["responses"]["422"]["content"]
    assert set(both) == {"application/json", "application/problem+json"}
    assert "Location" in OPERATIONS["submit_task"]["responses"]["201"]["headers"]
    assert "Retry-After" in OPERATIONS["submit_task"]["responses"]["503"]["headers"]


def test_a_refusal_names_its_codes() -> None:
    responses = OPERATIONS["retry_task"]["responses"]
    assert "`task_not_found`" in responses["404"]["description"]
    assert "`wrong_state`" in responses["409"]["description"]


@pytest.mark.parametrize("name", ["submit_task", "submit_tasks"])
async def test_examples_are_accepted(api: Api, name: str) -> None:
    path = next(endpoint.path for endpoint in ENDPOINTS if endpoint.name == name)
    examples = OPERATIONS[name]["requestBody"]["content"]["application/json"]["examples"]
    assert examples
    for example in examples.values():
        assert (await api.post(path, example["value"])).status == 201


def test_the_schema_of_a_submission_refuses_what_the_model_does() -> None:
    contract = Contract(DOCUMENT)
    schema = OPERATIONS["submit_task"]["requestBody"]["content"]["application/json"]["schema"]
    contract.check_schema(schema, {"type": "echo", "delay": 1, "tags": ["a"]})
    for wrong in ({}, {"type": "echo", "x": 1}, {"type": "echo", "priority": 10}, {"type": "echo", "tags": ["a b"]}):
        assert not contract.accepts(schema, wrong), wrong


def test_query_parameters_are_those_of_the_handler() -> None:
    parameters = {parameter["name"]: parameter for parameter in OPERATIONS["list_tasks"]["parameters"]}
    assert set(parameters) == {
        "status",
        "type",
        "queue",
        "tag",
        "schedule",
        "created_after",
        "created_before",
        "error_code",
        "limit",
        "cursor",
    }
    assert parameters["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}
    assert parameters["status"]["schema"]["type"] == "array"


def test_what_changes_something_needs_more_than_reading() -> None:
    for endpoint in ENDPOINTS:
        if endpoint.method != "GET":
            assert endpoint.permission in {Permission.WRITE, Permission.ADMIN}, endpoint.name
        elif endpoint.permission is Permission.NONE:
            assert endpoint.path.startswith(("/health", "/docs", "/openapi.json")), endpoint.name


async def test_a_parameter_that_nothing_can_fill_is_found_at_the_start() -> None:
    async def handler(colour: str) -> Reply:
        return Reply(colour)

    with pytest.raises(TypeError, match="colour"):
        read_signature(handler)

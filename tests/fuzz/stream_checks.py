"""What the fuzzer holds against streams of events besides the schema of each event; loaded by schemathesis itself."""

import json
import re
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, Response

from tests.api.contract import Contract

RETRY = re.compile(r"retry: [1-3]\d{3}")
FIELDS = {"", "id", "event", "data", "retry"}


@schemathesis.check
def event_stream(ctx: CheckContext, response: Response, case: "Case[Any]") -> None:
    """A stream that opens begins by saying when to come back, and its blocks are those of docs/events.md."""
    if response.headers.get("content-type", [""])[0] != "text/event-stream":
        return
    assert response.headers["cache-control"] == ["no-store"]
    assert response.headers["x-accel-buffering"] == ["no"]
    retry, *blocks, rest = response.content.decode().split("\r\n\r\n")
    assert RETRY.fullmatch(retry), f"the stream begins with {retry!r}"
    assert not rest, f"the stream ends with {rest!r}"
    document = case.operation.schema.raw_schema
    data_schema = document["components"]["schemas"]["StreamedEvent"]["properties"]["data"]["contentSchema"]
    for block in blocks:
        fields = dict(line.split(":", 1) for line in block.split("\r\n"))
        assert fields.keys() <= FIELDS, f"a block with {fields.keys()}"
        if "data" in fields:
            assert {"id", "event"} <= fields.keys(), f"an event with {fields.keys()}"
            Contract(document).check_schema(data_schema, json.loads(fields["data"]))

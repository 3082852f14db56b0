"""Thousands of requests that the OpenAPI document allows, and many that it does not, at a service that wants keys."""

import asyncio
import hashlib
import os
import shutil
import sys
from pathlib import Path

import pytest

from settings import Settings, load_settings
from tests.processes import started
from tests.servers import measured, running_web

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(1800)]

KEY = "arqive_a_key_for_a_fuzzer_that_may_do_everything"

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
"""Not whether all that the document allows is accepted: a schema cannot tell which types are registered."""

STREAMS = r"/events$"
"""They do not end by themselves; tests/api looks at them."""


@pytest.fixture
def settings(mongo_url: str, empty_redis: str, mongo_database: str) -> Settings:
    """Servers and no more: a process gets the rest from `EVERYTHING_ON`."""
    return load_settings(
        mongo_url=mongo_url,
        redis_url=empty_redis,
        mongo_database=mongo_database,
        health_port=0,
    )


EVERYTHING_ON = {
    "api_keys": f"fuzzer:admin:sha256:{hashlib.sha256(KEY.encode()).hexdigest()}",
    "callback_secrets": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAAAAAAAAAA=",
}


async def test_the_service_keeps_to_its_document(settings: Settings, tmp_path: Path) -> None:
    """No 5xx, no status or field that is not documented, nothing bad accepted, nothing open without a key.

    ARQIVE_TEST_EXAMPLES is how many requests are made up for each operation.
    """
    program = shutil.which("st", path=str(Path(sys.executable).parent))
    assert program is not None
    examples = os.environ.get("ARQIVE_TEST_EXAMPLES", "50")
    with started("worker", settings, tmp_path, **EVERYTHING_ON):
        async with running_web(settings, tmp_path, **EVERYTHING_ON) as web:
            fuzzer = await asyncio.create_subprocess_exec(
                program, "run", f"{web.url}/openapi.json", "--header", f"Authorization: Bearer {KEY}",
                "--checks", ",".join(CHECKS), "--exclude-path-regex", STREAMS, "--max-examples", examples,
                "--request-timeout", "90", "--continue-on-failure", "--no-color",
                cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            output, _ = await fuzzer.communicate()
            text = output.decode()
            assert fuzzer.returncode == 0, text
            measured(text[text.rindex("SUMMARY") :])
            assert not web.process.logged("Traceback")

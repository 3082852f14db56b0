"""The documentation page as files: nothing from elsewhere, and a policy that would not let it."""

import re

import pytest

from tests.api.conftest import Api

FILES = {"/docs": "text/html", "/docs/page.js": "text/javascript", "/docs/page.css": "text/css"}


@pytest.mark.parametrize("path", FILES)
async def test_each_file_is_served(api: Api, path: str) -> None:
    answer = await api.get(path)
    assert (answer.status, answer.media_type) == (200, FILES[path])
    assert answer.headers["Content-Type"].endswith("charset=utf-8")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"


@pytest.mark.parametrize("path", FILES)
async def test_no_file_names_another_site_or_writes_markup(api: Api, path: str) -> None:
    text = (await api.get(path)).raw.decode()
    assert re.findall(r"(?:https?:)?//[a-z]", text.replace("// ", "")) == []
    assert "innerHTML" not in text
    assert "style=" not in text


async def test_what_the_page_loads_is_there(api: Api) -> None:
    page = (await api.get("/docs")).raw.decode()
    loaded = set(re.findall(r'(?:src|href)="(/[^"]+)"', page))
    assert loaded == {"/docs/page.js", "/docs/page.css", "/openapi.json"}
    for path in loaded:
        assert (await api.get(path)).status == 200

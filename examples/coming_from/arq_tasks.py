"""An arq job as a task: the shared client is the context's, and a failure is tried again without being asked."""

from pydantic import BaseModel, HttpUrl

from app import Context, Fail, task


class Page(BaseModel):
    """The page to fetch."""

    url: HttpUrl


@task("page.measure", max_attempts=5, timeout=30)
async def measure_page(ctx: Context, page: Page) -> int:
    """Fetch a page and count its characters."""
    async with ctx.session.get(str(page.url)) as response:
        if response.status == 404:
            raise Fail("there is no such page")  # another attempt would find the same
        response.raise_for_status()  # any other exception is another attempt
        return len(await response.text())

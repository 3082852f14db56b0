"""A type that takes some seconds and tells how far it is."""

import asyncio

from pydantic import BaseModel, Field

from app import Context, task


class Album(BaseModel):
    """What to scan."""

    pictures: int = Field(ge=1, le=10_000)
    seconds_each: float = Field(0.1, ge=0, le=60)


@task("album.scan", timeout=3_600)
async def scan(ctx: Context, album: Album) -> dict[str, int]:
    """Look at every picture of an album."""
    for number in range(1, album.pictures + 1):
        await asyncio.sleep(album.seconds_each)  # stands for the work
        ctx.progress(number / album.pictures, f"picture {number} of {album.pictures}")
    return {"scanned": album.pictures}

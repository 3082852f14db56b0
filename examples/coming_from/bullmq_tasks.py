"""A BullMQ processor as a task: one processor that switches on the job's name becomes one handler a type."""

from pydantic import BaseModel, Field

from app import Context, task


class Video(BaseModel):
    """The video to cut into pieces."""

    seconds: int = Field(ge=1, le=36_000)


@task("video.cut", max_attempts=3)
async def cut_video(ctx: Context, video: Video) -> list[str]:
    """Cut a video into minutes, telling how far it is."""
    minutes = range(0, video.seconds, 60)
    pieces = []
    for count, start in enumerate(minutes, start=1):
        pieces.append(f"{start}-{min(start + 60, video.seconds)}")
        ctx.progress(count / len(minutes), f"piece {count}")
        ctx.log(f"cut from second {start}")
    return pieces


@task("video.name", max_attempts=3)
async def name_video(_ctx: Context, video: Video) -> str:
    """What was a second `case` of the processor."""
    return f"{video.seconds // 60} minutes"

"""The module that the guide 'Write a task' makes."""

from pydantic import BaseModel, Field

from app import Context, Fail, Retry, task


class Greeting(BaseModel):
    name: str = Field(min_length=1)
    times: int = Field(1, ge=1, le=10)


@task("greeting.write", max_attempts=3, timeout=20)
async def write(ctx: Context, greeting: Greeting) -> dict[str, str]:
    if greeting.name == "nobody":
        raise Fail("there is nobody to greet")  # fails for good
    if greeting.name == "late" and ctx.attempt == 1:
        raise Retry(0.1, "not there yet")  # another attempt in a tenth of a second
    lines = []
    for number in range(greeting.times):
        lines.append(f"Hello {greeting.name}")
        ctx.progress((number + 1) / greeting.times)
    return {"text": "\n".join(lines)}

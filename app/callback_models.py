"""The callback of a task: as a client asks for it, and as the API shows it."""

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from app.core.callbacks import EVENTS, CallbackState, Event
from app.core.http_url import SoundUrl
from app.core.states import TERMINAL

if TYPE_CHECKING:
    from app.store.documents import TaskDocument


class CallbackRequest(BaseModel):
    """Where to POST the outcome of a task to, and which outcomes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: SoundUrl = Field(description="Where to; http or https, without credentials.")
    events: tuple[Event, ...] = Field(
        EVENTS, min_length=1, max_length=len(EVENTS), description="The ends that call back; all of them by default."
    )


class Callback(BaseModel):
    """The callback of a task, as the API shows it. A retry starts it anew."""

    url: str
    events: list[Event]
    state: CallbackState
    task_id: str | None = Field(description="The task that delivers it, or delivered it in the round before.")


def callback_fields(document: "TaskDocument") -> dict[str, object]:
    """What a task says of its callback, or of the task whose callback it delivers."""
    stored = document.get("callback")
    if stored is None:
        return {}
    if "of" in stored:
        return {"callback": None, "callback_of": str(stored["of"])}
    state = stored.get("state")
    if "owed" in stored:
        # What is stored is of the round before.
        if document["status"] not in TERMINAL:
            state = CallbackState.WAITING
        else:
            state = CallbackState.DUE if document["status"] in stored["events"] else CallbackState.SKIPPED
    task_id = stored.get("task_id")
    return {"callback": {**stored, "state": state, "task_id": None if task_id is None else str(task_id)}}

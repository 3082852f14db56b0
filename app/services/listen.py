"""What a web process listens to in Redis, over one connection, however many clients wait for something."""

from app.queue import keys
from app.queue.signals import Signals
from app.queue.task_queue import TaskQueue
from app.services.live import Live
from app.services.wait import Endings


def web_signals(queue: TaskQueue, endings: Endings, live: Live) -> Signals:
    """The subscription of a web process."""

    def on_ended(message: str) -> None:
        endings.on_signal(message)
        live.on_signal(message)

    def on_connect() -> None:
        endings.wake_all()
        live.look_now()
        queue.audience.on_connect()

    return Signals(
        queue.redis,
        {
            keys.ENDED_CHANNEL: on_ended,
            keys.CHANGED_CHANNEL: live.on_signal,
            keys.AUDIENCE_CHANNEL: queue.audience.on_signal,
        },
        on_connect,
    )

"""Celery: one prefork worker with as many children as cores, messages fetched ahead, no results and no events."""

from celery import Celery
from tape import REDIS_URL, main, started

app = Celery("celery_jobs", broker=REDIS_URL)
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=128, broker_connection_retry_on_startup=True)


@app.task(name="noop")
def noop() -> None:
    started()


def fill(count: int) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(count):
            noop.apply_async(producer=producer)


def work() -> None:
    app.worker_main(["worker", "--loglevel=WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"])


if __name__ == "__main__":
    main(fill=fill, one=noop.delay, work=work)

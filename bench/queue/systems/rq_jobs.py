"""RQ: its worker that does not fork for each job, and no results."""

import sys

from redis import Redis
from rq import Queue, SimpleWorker
from tape import REDIS_URL, main, started

connection = Redis.from_url(REDIS_URL)
queue = Queue(connection=connection)


def noop() -> None:
    started()


def _job() -> str:
    return "rq_jobs.noop"


def fill(count: int) -> None:
    for start in range(0, count, 1000):
        queue.enqueue_many([Queue.prepare_data(_job(), result_ttl=0) for _ in range(min(1000, count - start))])


def one() -> object:
    return queue.enqueue(_job(), result_ttl=0)


def work() -> None:
    sys.modules["rq_jobs"] = sys.modules["__main__"]
    SimpleWorker([queue], connection=connection).work(logging_level="WARNING")


if __name__ == "__main__":
    main(fill=fill, one=one, work=work)

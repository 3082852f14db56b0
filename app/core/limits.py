"""The bounds of what is accepted and kept. Settings narrow some of them; nothing widens them."""

from datetime import timedelta

MAX_NAME = 100  # characters of a type, a queue or a tag
MAX_TAGS = 20
MAX_PRIORITY = 9
MAX_ATTEMPTS = 1_000
MAX_TIMEOUT = timedelta(days=1)
MAX_DELAY = timedelta(days=366)  # how far ahead run_at, delay and start_before may lie
FIRST_YEAR = 1970  # no moment lies in it or before it
LAST_YEAR = 2100  # nor in it or after it; the ids of MongoDB count seconds to 2106
MAX_CRON = 200  # characters
MIN_INTERVAL = timedelta(seconds=1)  # from slot to slot of a schedule
MAX_INTERVAL = timedelta(days=366)
MAX_BACKOFF = timedelta(days=7)
MAX_BACKOFF_FACTOR = 100.0
MAX_STORED_PAYLOAD = 7_000_000  # bytes of BSON, which can be eight times those of JSON; with a result below 16 MiB
MAX_URL = 2_048  # characters of a URL that is called
MAX_CALLBACK_RESULT = 262_144  # bytes of JSON; a callback leaves a larger result out
MAX_BULK = 1_000  # tasks in one POST /tasks/bulk
MAX_RUNNING = 1_000_000  # the highest max_running of a queue
MIN_RATE = 0.0001  # tasks a second that the slowest rate of a queue lets start: one in three hours
MAX_RATE = 100_000  # tasks a second, and in a burst
MAX_PAGE = 500  # tasks in one page
MAX_CHANGES = 10_000  # tasks that one POST /tasks/cancel or /tasks/retry goes through
MAX_WAIT_S = 60.0  # GET /tasks/{id}?wait

MAX_HISTORY = 20  # attempts kept in a document, the newest
MAX_LOG_LINES = 100  # lines of ctx.log kept, the newest
MAX_LOG_LINE = 1_000  # characters
MAX_PROGRESS_MESSAGE = 500  # characters
MAX_ERROR_MESSAGE = 1_000  # characters
MAX_TRACEBACK = 8_000  # characters, the end of it

MAX_KEY = 255  # characters of an idempotency key or a unique key
KEY_PATTERN = r"^[!-~]([ -~]*[!-~])?$"  # printable ASCII without a space at either end

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$"

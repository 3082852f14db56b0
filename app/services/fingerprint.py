"""Tells whether two submissions say the same."""

import json
from hashlib import blake2b

from app.models import Submission

_BYTES = 16


def fingerprint_of(submission: Submission) -> str:
    """128 bits as hexadecimal digits, the same for submissions that say the same.

    The order of keys, white space and the way to write a moment do not matter, nor does the idempotency key itself.
    What is left out is left out: a default that changes with a new version does not change a fingerprint.
    """
    said = submission.model_dump(mode="json", exclude_unset=True, exclude={"idempotency_key"})
    # Not orjson: it takes neither every integer nor every string that JSON does.
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=_BYTES).hexdigest()

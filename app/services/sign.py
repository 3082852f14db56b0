"""Signs callbacks as Standard Webhooks say."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from pydantic import SecretStr
from standardwebhooks import Webhook


class WebhookSigner:
    """Signs with every secret it has, so that a receiver may know any one of them while they are exchanged.

    Args:
        secrets: `whsec_` and base64 each, at least one.
    """

    def __init__(self, secrets: Sequence[SecretStr]) -> None:
        self._webhooks = [Webhook(secret.get_secret_value()) for secret in secrets]

    @classmethod
    def of(cls, secrets: Sequence[SecretStr]) -> Self | None:
        """None where there is no secret: what cannot be signed is not sent."""
        return cls(secrets) if secrets else None

    def headers(self, message_id: str, body: bytes, *, now: datetime) -> dict[str, str]:
        """The three headers of a message.

        Args:
            message_id: The same in every attempt.
            body: What is sent, to the byte.
            now: The moment of this attempt; aware, in UTC.
        """
        text = body.decode()
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(webhook.sign(message_id, now, text) for webhook in self._webhooks),
        }

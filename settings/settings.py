"""Every setting: name, unit, bound and meaning in one class. docs/settings.md is generated from it."""

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, StringConstraints, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from settings.api_keys import MAX_RATE, ApiKeyEntry, each_once, parse_entries, read_entries
from settings.urls import check_server_url

QueueName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$", max_length=100)]
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*$")]

OpenEndpoint = Literal["health", "metrics"]

_SECRET = frozenset({"MONGO_URL", "REDIS_URL", "API_KEYS", "API_KEYS_FILE", "CALLBACK_SECRETS"})


class SettingsError(Exception):
    """A setting is bad. `str(error)` is one line that names the variable."""


class Settings(BaseSettings):
    """Read from environment variables of the same names in upper case."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    mongo_url: SecretStr = Field(
        SecretStr("mongodb://localhost:27017"), description="MongoDB connection string; may carry a password."
    )
    mongo_database: str = Field("arqive", min_length=1, max_length=63, description="MongoDB database name.")
    redis_url: SecretStr = Field(
        SecretStr("redis://localhost:6379/0"), description="Redis connection string; may carry a password."
    )
    host: str = Field("0.0.0.0", min_length=1, description="Address that web and the worker's probes listen on.")  # noqa: S104
    port: int = Field(4000, ge=0, le=65535, description="Port of the REST API; 0 takes a free one.")
    health_port: int = Field(4001, ge=0, le=65535, description="Port of a worker's own probes and metrics; 0 is off.")
    queues: Annotated[tuple[QueueName, ...], NoDecode] = Field(
        ("default",), min_length=1, description="Queues that a worker serves, in order of preference."
    )
    concurrency: int = Field(100, ge=1, le=10_000, description="Tasks that one worker runs at the same time.")
    process_pool_size: int = Field(
        0, ge=0, le=1_024, description="Processes that a worker has for types with process=True; 0 is one a core."
    )
    process_max_tasks: int = Field(
        1_000, ge=0, le=1_000_000, description="Tasks after which such a process makes room for a new one; 0 is never."
    )
    task_modules: Annotated[tuple[ModuleName, ...], NoDecode] = Field(
        (), description="Python modules whose @task functions are loaded by web and worker."
    )
    lease_seconds: float = Field(
        10.0, ge=1, le=3600, description="Seconds after which a silent worker's tasks run elsewhere."
    )
    max_losses: int = Field(
        3, ge=1, le=100, description="Workers that a task may take down with it before it is failed as lost."
    )
    shutdown_grace_seconds: float = Field(
        25.0, ge=0, le=86_400, description="Seconds that running handlers get to finish after SIGTERM."
    )
    retention_days: float = Field(
        7.0, ge=0, le=36_500, description="Days that a finished task is kept; 0 keeps it for ever."
    )
    max_body_bytes: int = Field(
        1_048_576, ge=1_024, le=15_000_000, description="Bytes of the largest request body that is accepted."
    )
    max_event_streams: int = Field(
        1_000, ge=1, le=100_000, description="Event streams that one web process serves at the same time."
    )
    max_result_bytes: int = Field(
        1_048_576,
        ge=1_024,
        le=8_000_000,
        description="Bytes of the largest handler result that is kept, as JSON.",
    )
    http_allow_private: bool = Field(
        default=False, description="Whether http.request may call loopback and private addresses."
    )
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="Who may use the API: `name:scope:sha256:HEX` entries, comma between; see [security](security.md).",
    )
    api_keys_file: str = Field("", description="A file with more of them, one a line.")
    api_key_rate: float = Field(
        0.0,
        ge=0,
        le=MAX_RATE,
        description="Requests per second that a key may make on each web process; 0 is no limit.",
    )
    api_key_burst: int = Field(
        50, ge=1, le=1_000_000, description="Requests that a key may make at once before API_KEY_RATE applies."
    )
    open_endpoints: Annotated[tuple[OpenEndpoint, ...], NoDecode] = Field(
        ("health",), description="What needs no key although others do: `health`, `metrics`, both or `none`."
    )
    callback_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Secrets that callbacks are signed with, `whsec_` and 24 to 64 bytes in base64 each; "
        "without one no task may have a callback.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe level that is logged."
    )
    log_format: Literal["json", "console"] = Field("json", description="One JSON object a line, or lines for people.")
    otel_exporter_otlp_endpoint: str = Field(
        "",
        pattern="^(https?://.+)?$",
        description="Where spans go, OTLP over HTTP; needs the extra `tracing`.",
    )
    otel_exporter_otlp_traces_endpoint: str = Field(
        "", pattern="^(https?://.+)?$", description="The same with the whole path, for spans alone."
    )
    access_log: bool = Field(
        default=False, description="Whether web logs a line for each request; costs up to a tenth of its throughput."
    )

    @property
    def exports_spans(self) -> bool:
        """Whether spans have somewhere to go."""
        return bool(self.otel_exporter_otlp_endpoint or self.otel_exporter_otlp_traces_endpoint)

    @property
    def api_key_entries(self) -> tuple[ApiKeyEntry, ...]:
        """The keys of API_KEYS and of API_KEYS_FILE."""
        given = parse_entries(self.api_keys.get_secret_value())
        return each_once([*given, *read_entries(self.api_keys_file)]) if self.api_keys_file else given

    @field_validator("open_endpoints", mode="before")
    @classmethod
    def _none_at_all(cls, value: Any) -> Any:
        """An empty variable counts as unset, so nothing has a word of its own."""
        return () if value == "none" else cls._split(value)

    @field_validator("api_keys")
    @classmethod
    def _key_entries(cls, value: SecretStr) -> SecretStr:
        parse_entries(value.get_secret_value())
        return value

    @field_validator("api_keys_file")
    @classmethod
    def _key_file(cls, value: str, info: ValidationInfo) -> str:
        if value:
            given = info.data.get("api_keys")
            each_once([*(parse_entries(given.get_secret_value()) if given else ()), *read_entries(value)])
        return value

    @field_validator("queues", "task_modules", "callback_secrets", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Accept `a, b` from the environment; empty parts are dropped."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("queues")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a queue is named twice")
        return value

    @field_validator("callback_secrets")
    @classmethod
    def _webhook_secrets(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in value:
            prefix, _, encoded = secret.get_secret_value().partition("_")
            try:
                key = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                key = b""
            if prefix != "whsec" or not 24 <= len(key) <= 64:
                raise ValueError("each must be whsec_ and 24 to 64 bytes in base64")
        return value

    @field_validator("mongo_url")
    @classmethod
    def _sound_mongo_url(cls, value: SecretStr) -> SecretStr:
        check_server_url(value.get_secret_value(), schemes=("mongodb", "mongodb+srv"))
        return value

    @field_validator("redis_url")
    @classmethod
    def _sound_redis_url(cls, value: SecretStr) -> SecretStr:
        check_server_url(value.get_secret_value(), schemes=("redis", "rediss", "unix"))
        return value


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; `overrides` win over it.

    Raises:
        SettingsError: a value is bad; one line that names every bad variable and never shows a secret.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        parts = []
        for item in error.errors(include_url=False):
            name = str(item["loc"][0]).upper()
            shown = "" if name in _SECRET else f" (got {item['input']!r})"
            parts.append(f"{name}: {item['msg'].removeprefix('Value error, ')}{shown}")
        raise SettingsError("; ".join(parts)) from error

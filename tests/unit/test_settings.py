"""Every setting has bounds, and a bad value is one line that names the variable and shows no secret."""

import pytest

from settings import Settings, SettingsError, load_settings
from tests.callback_receiver import NEXT_SECRET, SECRET

BAD_VALUES = [
    ("MONGO_URL", "http://example.org"),
    ("MONGO_URL", "mongodb.example.org"),
    ("MONGO_DATABASE", "d" * 64),
    ("REDIS_URL", "http://example.org"),
    ("PORT", "-1"),
    ("PORT", "65536"),
    ("PORT", "http"),
    ("HEALTH_PORT", "-1"),
    ("HEALTH_PORT", "65536"),
    ("QUEUES", ","),
    ("QUEUES", "a b"),
    ("QUEUES", "-a"),
    ("QUEUES", "q" * 101),
    ("QUEUES", "a,b,a"),
    ("CONCURRENCY", "0"),
    ("CONCURRENCY", "10001"),
    ("CONCURRENCY", "1.5"),
    ("PROCESS_POOL_SIZE", "-1"),
    ("PROCESS_POOL_SIZE", "1025"),
    ("PROCESS_MAX_TASKS", "-1"),
    ("PROCESS_MAX_TASKS", "1000001"),
    ("TASK_MODULES", "shop/tasks.py"),
    ("TASK_MODULES", "1shop"),
    ("LEASE_SECONDS", "0.9"),
    ("LEASE_SECONDS", "3601"),
    ("LEASE_SECONDS", "nan"),
    ("MAX_LOSSES", "0"),
    ("MAX_LOSSES", "101"),
    ("SHUTDOWN_GRACE_SECONDS", "-1"),
    ("SHUTDOWN_GRACE_SECONDS", "86401"),
    ("RETENTION_DAYS", "-1"),
    ("RETENTION_DAYS", "36501"),
    ("MAX_BODY_BYTES", "1023"),
    ("MAX_BODY_BYTES", "15000001"),
    ("MAX_RESULT_BYTES", "1023"),
    ("MAX_RESULT_BYTES", "8000001"),
    ("MAX_EVENT_STREAMS", "0"),
    ("MAX_EVENT_STREAMS", "100001"),
    ("HTTP_ALLOW_PRIVATE", "perhaps"),
    ("API_KEYS", "ci:write:plain"),
    ("API_KEYS_FILE", "/no/such/file"),
    ("API_KEY_RATE", "-1"),
    ("API_KEY_RATE", "100001"),
    ("API_KEY_BURST", "0"),
    ("API_KEY_BURST", "1000001"),
    ("OPEN_ENDPOINTS", "tasks"),
    ("CALLBACK_SECRETS", "c2VjcmV0LW9mLTI0LWJ5dGVzLi4uLi4u"),
    ("CALLBACK_SECRETS", "whsec_dG9vIHNob3J0"),
    ("CALLBACK_SECRETS", "whsec_not base64"),
    ("LOG_LEVEL", "LOUD"),
    ("LOG_FORMAT", "xml"),
    ("ACCESS_LOG", "perhaps"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318"),
    ("MONGO_URL", "mongodb://user:hun/ter2@db"),
    ("MONGO_URL", "mongodb://user:hun@ter2@db"),
    ("MONGO_URL", "mongodb://user:hun:ter2@db"),
    ("MONGO_URL", "mongodb://user:hun%ter2@db"),
    ("MONGO_URL", "mongodb://db:hunter2"),
    ("MONGO_URL", "mongodb://a,b c"),
    ("REDIS_URL", "redis://:hun/ter2@db"),
    ("REDIS_URL", "redis://db:port"),
]

LIMITS = [
    ("PORT", "0", 0),
    ("PORT", "65535", 65_535),
    ("HEALTH_PORT", "0", 0),
    ("HEALTH_PORT", "65535", 65_535),
    ("CONCURRENCY", "1", 1),
    ("CONCURRENCY", "10000", 10_000),
    ("LEASE_SECONDS", "1", 1),
    ("LEASE_SECONDS", "3600", 3_600),
    ("MAX_LOSSES", "1", 1),
    ("MAX_LOSSES", "100", 100),
    ("SHUTDOWN_GRACE_SECONDS", "0", 0),
    ("SHUTDOWN_GRACE_SECONDS", "86400", 86_400),
    ("RETENTION_DAYS", "0", 0),
    ("RETENTION_DAYS", "36500", 36_500),
    ("MAX_BODY_BYTES", "1024", 1_024),
    ("MAX_BODY_BYTES", "15000000", 15_000_000),
    ("MAX_RESULT_BYTES", "1024", 1_024),
    ("MAX_RESULT_BYTES", "8000000", 8_000_000),
    ("API_KEY_RATE", "0", 0),
    ("API_KEY_RATE", "100000", 100_000),
    ("API_KEY_BURST", "1", 1),
    ("API_KEY_BURST", "1000000", 1_000_000),
    ("OPEN_ENDPOINTS", "none", ()),
    ("OPEN_ENDPOINTS", "health, metrics", ("health", "metrics")),
    ("MAX_EVENT_STREAMS", "1", 1),
    ("MAX_EVENT_STREAMS", "100000", 100_000),
    ("MONGO_DATABASE", "d" * 63, "d" * 63),
    ("HOST", "::1", "::1"),
    ("HTTP_ALLOW_PRIVATE", "true", True),
    ("LOG_LEVEL", "DEBUG", "DEBUG"),
    ("LOG_FORMAT", "console", "console"),
]


def test_the_defaults_are_those_of_the_documentation() -> None:
    settings = load_settings()
    assert settings.mongo_url.get_secret_value() == "mongodb://localhost:27017"
    assert settings.redis_url.get_secret_value() == "redis://localhost:6379/0"
    assert (settings.mongo_database, settings.host, settings.port, settings.health_port) == (
        "arqive",
        "0.0.0.0",
        4000,
        4001,
    )
    assert (settings.queues, settings.task_modules, settings.concurrency) == (("default",), (), 100)
    assert (settings.lease_seconds, settings.max_losses, settings.shutdown_grace_seconds) == (10, 3, 25)
    assert (settings.retention_days, settings.max_body_bytes) == (7, 1_048_576)
    assert (settings.http_allow_private, settings.log_level, settings.log_format) == (False, "INFO", "json")


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_setting_but_the_host_has_a_bad_value_here() -> None:
    assert {name.upper() for name in Settings.model_fields} - {name for name, _ in BAD_VALUES} == {"HOST"}


@pytest.mark.parametrize(("variable", "value"), BAD_VALUES)
def test_a_bad_value_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"{variable}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("variable", "value", "expected"), LIMITS)
def test_a_value_at_its_bound_is_taken(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: object
) -> None:
    monkeypatch.setenv(variable, value)
    assert getattr(load_settings(), variable.lower()) == expected


def test_every_bad_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "http")
    monkeypatch.setenv("CONCURRENCY", "0")
    with pytest.raises(SettingsError, match=r"PORT: .*\(got 'http'\); CONCURRENCY: .*\(got '0'\)"):
        load_settings()


@pytest.mark.parametrize(("variable", "value"), [each for each in BAD_VALUES if "ter2" in each[1]])
def test_nothing_of_a_password_in_a_broken_url_is_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hun" not in str(caught.value)
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize("variable", ["MONGO_URL", "REDIS_URL"])
def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "wrong://user:s3cret@example.org")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)

    good = "mongodb" if variable == "MONGO_URL" else "redis"
    monkeypatch.setenv(variable, f"{good}://user:s3cret@example.org")
    settings = load_settings()
    assert "s3cret" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert "s3cret" in getattr(settings, variable.lower()).get_secret_value()


def test_a_secret_that_signs_callbacks_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBACK_SECRETS", "whsec_s3cret")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("CALLBACK_SECRETS", f"{SECRET}, {NEXT_SECRET}")
    settings = load_settings()
    assert [secret.get_secret_value() for secret in settings.callback_secrets] == [SECRET, NEXT_SECRET]
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


def test_lists_are_split_at_commas_and_empty_parts_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUES", " high , default,, low:1 ")
    monkeypatch.setenv("TASK_MODULES", "shop.tasks,billing")
    settings = load_settings()
    assert settings.queues == ("high", "default", "low:1")
    assert settings.task_modules == ("shop.tasks", "billing")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "")
    settings = load_settings()
    assert settings == Settings()
    assert settings.model_fields_set == set()


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "5000")
    assert load_settings(port=6000).port == 6000


def test_settings_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]

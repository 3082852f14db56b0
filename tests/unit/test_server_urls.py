"""URLs of servers that their drivers cannot use: one line, in every role, before anything is started."""

import dns.resolver
import pytest
from pymongo.errors import ConfigurationError

from app import cli
from app.core.errors import BadServerUrl, QueueUnavailable, StoreUnavailable
from app.queue.connect import open_redis, queue_errors
from app.queue.redis_url import check_redis_url
from app.store.mongo import store_errors
from app.store.mongo_url import check_mongo_url

BAD_MONGO = [
    ("mongodb://", "at least one hostname"),
    ("mongodb://db:99999", "Port must be"),
    ("mongodb://db:0", "Port must be"),
    ("mongodb://db/?unknownThing=1", "Unknown option: unknownthing"),
    ("mongodb://db/?maxPoolSize=many", "maxpoolsize must be an integer"),
    ("mongodb://db/?retryWrites", "key=value"),
    ("mongodb://db/?authMechanism=magic", "authmechanism must be in"),
    ("mongodb://a,b/?directConnection=true", "multiple hosts"),
    ("mongodb://db/?tls=true&tlsCAFile=/no/such/file", "No such file or directory: '/no/such/file'"),
    ("mongodb+srv://db.example.org:27017", "must not include a port"),
    ("mongodb+srv://a.example.org,b.example.org", "only one, hostname"),
    ("mongodb+srv://db.example.org/?unknownThing=1", "Unknown option: unknownthing"),
    ("mongodb+srv://user:hunter2@db.example.org", "does not exist: _mongodb._tcp.db.example.org"),
]
BAD_REDIS = [
    ("redis://cache:99999", "Port out of range"),
    ("redis://cache?db=first", "Invalid value for 'db'"),
    ("redis://cache?colour=red", "Unknown option: colour"),
    ("rediss://cache?ssl_cert_reqs=perhaps", "Certificate Requirements"),
]


@pytest.fixture(autouse=True)
def _no_name_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(name: str, *_: object, **__: object) -> None:
        raise dns.resolver.NXDOMAIN(qnames=[dns.name.from_text(name)], responses={})  # type: ignore[no-untyped-call]

    monkeypatch.setattr(dns.resolver, "resolve", resolve)


@pytest.mark.parametrize(("url", "reason"), BAD_MONGO)
def test_a_bad_mongo_url_is_refused(url: str, reason: str) -> None:
    with pytest.raises(BadServerUrl) as caught:
        check_mongo_url(url)
    said = str(caught.value)
    assert said.startswith("MONGO_URL: ")
    assert reason in said
    assert "\n" not in said
    assert "hunter2" not in said


@pytest.mark.parametrize(("url", "reason"), BAD_REDIS)
def test_a_bad_redis_url_is_refused(url: str, reason: str) -> None:
    with pytest.raises(BadServerUrl) as caught:
        check_redis_url(url)
    assert str(caught.value).startswith("REDIS_URL: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://db",
        "mongodb://a:27017,b:27018/?replicaSet=rs0&retryWrites=true&w=majority&appName=shop",
        "mongodb://user:p%40ss@db/?ssl=true&retrywrites=false&maxIdleTimeMS=120000",
        "mongodb://db/?serverSelectionTimeoutMS=500&socketTimeoutMS=1000",
        "mongodb://[::1]:27017",
    ],
)
def test_a_good_mongo_url_needs_no_server(url: str) -> None:
    check_mongo_url(url)


@pytest.mark.parametrize(
    "url", ["redis://cache", "rediss://:p@cache:6380/3?ssl_cert_reqs=none", "unix:///run/redis.sock?db=1", "redis://"]
)
def test_a_good_redis_url_needs_no_server(url: str) -> None:
    check_redis_url(url)


def test_a_secret_in_the_options_is_not_shown() -> None:
    with pytest.raises(BadServerUrl) as caught:
        check_mongo_url(
            "mongodb://u:p@db/?authMechanism=MONGODB-AWS&authMechanismProperties=AWS_SESSION_TOKEN:a,hunter2"
        )
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("role", ["web", "worker", "web --processes 2", "worker --processes 2", "dev"])
@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("MONGO_URL", "mongodb+srv://db.example.org"),
        ("MONGO_URL", "mongodb://db:99999"),
        ("MONGO_URL", "mongodb://db/?unknownThing=1"),
        ("MONGO_URL", "mongodb://user:p@ss@db"),
        ("REDIS_URL", "redis://cache?colour=red"),
    ],
)
def test_each_role_ends_with_one_line(
    role: str, setting: str, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(setting, url)
    assert cli.main(role.split()) == cli.BAD_USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"arqive: {setting}: ")
    assert err.count("\n") == 1


def test_a_name_server_that_is_away_later_is_an_outage() -> None:
    with pytest.raises(StoreUnavailable, match="lifetime"), store_errors():
        raise ConfigurationError("The resolution lifetime expired")


async def test_redis_may_be_a_socket_of_this_machine() -> None:
    async with open_redis("unix:///no/such.sock") as redis:
        with pytest.raises(QueueUnavailable, match="such"), queue_errors():
            await redis.ping()

"""API keys without a server: how they are made, found and counted, and the command that makes them."""

import re

import pytest

from app import cli
from app.core.api_keys import Allowance, ApiKey, KeyRing, Scope, digest_of, entry_of, new_key
from settings import parse_entries


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_no_two_keys_are_alike_and_each_is_found_by_itself_alone() -> None:
    keys = [new_key() for _ in range(50)]
    assert len(set(keys)) == 50
    assert all(re.fullmatch(r"arqive_[A-Za-z0-9_-]{43}", key) for key in keys)
    ring = KeyRing(ApiKey(f"k{number}", Scope.READ, digest_of(key)) for number, key in enumerate(keys))
    assert len(ring) == 50
    for number, key in enumerate(keys):
        found = ring.find(key)
        assert found is not None
        assert found.name == f"k{number}"
    for wrong in (new_key(), "", keys[0][:-1], keys[0] + "A", digest_of(keys[0]).hex()):
        assert ring.find(wrong) is None


def test_an_entry_is_what_the_settings_take() -> None:
    [entry] = parse_entries(entry_of("ci", Scope.WRITE, "s3cret"))
    assert (entry.name, entry.scope, entry.digest, entry.rate) == ("ci", "write", digest_of("s3cret"), None)


def test_an_allowance_lets_a_burst_through_and_then_its_rate() -> None:
    clock = Clock()
    allowance = Allowance(2.0, 3, clock)
    assert [allowance.take() for _ in range(3)] == [0, 0, 0]
    assert allowance.take() == pytest.approx(0.5)
    clock.now += 0.25
    assert allowance.take() == pytest.approx(0.25)
    clock.now += 0.25
    assert allowance.take() == 0
    clock.now += 3600
    assert [allowance.take() > 0 for _ in range(4)] == [False, False, False, True]


def test_a_key_is_made_and_its_entry_lets_it_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", "new", "ci", "--scope", "write", "--rate", "2.5"]) == 0
    out, err = capsys.readouterr()
    [entry] = parse_entries(out)
    assert (entry.name, entry.scope, entry.rate) == ("ci", "write", 2.5)
    found = re.search(r"^arqive_\S+$", err, re.MULTILINE)
    assert found is not None
    assert digest_of(found[0]) == entry.digest
    assert found[0] not in out  # so that `>> FILE` does not keep it


def test_a_key_can_be_made_for_the_file_that_is_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS_FILE", "/not/there/yet")
    assert cli.main(["keys", "new", "ci", "--scope", "read"]) == 0


@pytest.mark.parametrize("arguments", [["a b"], ["x" * 65], [":"], ["ci", "--rate", "-1"], ["ci", "--rate", "0.0001"]])
def test_what_the_settings_would_refuse_is_not_made(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", "new", "--scope", "read", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "arqive_" not in err

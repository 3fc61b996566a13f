"""What ``--set`` takes and refuses."""

from __future__ import annotations

import pytest

from sayclip.errors import InputError
from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.overrides import Overrides


def test_values_come_back_in_the_kind_that_is_asked_for() -> None:
    given = Overrides.parse(["hubert.heads=12", "normalise = Yes", "layout=new"])
    assert given.integer("hubert.heads") == 12
    assert given.require_integer("hubert.heads", "why") == 12
    assert given.boolean("normalise") is True
    assert given.text("layout", choices=["old", "new"]) == "new"
    assert given.integer("text.heads", 8) == 8
    assert given.boolean("absent") is None
    given.finish()


@pytest.mark.parametrize("item", ["heads", "=3", "heads=", ""])
def test_what_is_no_pair_is_refused(item: str) -> None:
    with pytest.raises(InputError, match="KEY=VALUE"):
        Overrides.parse([item])


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        Overrides.parse(["a=1", "a=2"])


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "twelve", "²", "9" * 30])
def test_bad_numbers_are_refused(value: str) -> None:
    with pytest.raises(InputError, match="whole number"):
        Overrides.parse([f"heads={value}"]).integer("heads")


def test_other_bad_values_are_refused() -> None:
    given = Overrides.parse(["flag=maybe", "layout=middle"])
    with pytest.raises(InputError, match="true or false"):
        given.boolean("flag")
    with pytest.raises(InputError, match="wanted old or new"):
        given.text("layout", choices=["old", "new"])


def test_what_must_be_said_names_its_key() -> None:
    with pytest.raises(CheckpointError, match=r"--set hubert\.heads=NUMBER"):
        Overrides().require_integer("hubert.heads", "the width 100 does not tell the number of heads")


def test_keys_that_nobody_asked_for_are_refused() -> None:
    given = Overrides.parse(["hubert.haeds=12"])
    given.integer("hubert.heads", 12)
    with pytest.raises(InputError, match=r"hubert\.haeds .* hubert\.heads"):
        given.finish()

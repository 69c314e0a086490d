"""Images in the ledger: which builds were tried, who ran a server from what, and for how long it is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.model import BuildOutcome, BuildRecord, ImageUse

from .ledgers import LATER, NOW

pytest_plugins = ("tests.adapters.postgres",)

TAG = "ds01/image:0123456789abcdef-0123456789ab"
BUILD = BuildRecord(
    tag=TAG,
    base="aimehub/pytorch:latest",
    user="ada",
    summary="Pytorch 2.8.0, with transformers",
    started_at=NOW,
    ended_at=LATER,
    outcome=BuildOutcome.FAILED,
    steps=5,
    reused=3,
    why="There is no package nmupy.",
    log="20260301-120000-0123456789abcdef.log",
)


def test_a_build_is_told_as_it_was_recorded(ledger: Ledger) -> None:
    ledger.write_build(BUILD)
    assert ledger.builds() == (BUILD,)
    assert BUILD.duration == timedelta(minutes=5)


def test_the_newest_builds_come_first_and_no_more_than_asked_for(ledger: Ledger) -> None:
    second = replace(BUILD, user="bob", ended_at=LATER + timedelta(minutes=1), outcome=BuildOutcome.BUILT)
    third = replace(second, user="eve", ended_at=LATER + timedelta(minutes=2), outcome=BuildOutcome.GIVEN_UP)
    for record in (BUILD, second, third):
        ledger.write_build(record)
    assert ledger.builds(limit=2) == (third, second)
    assert ledger.builds(since=second.ended_at) == (third, second)


def test_builds_of_another_node_are_not_told(ledger: Ledger) -> None:
    ledger.write_build(replace(BUILD, node="other"))
    assert ledger.builds() == ()
    assert ledger.builds(node="other") != ()


def test_the_last_use_of_an_image_counts_for_each_user(ledger: Ledger) -> None:
    for user, at in (("ada", NOW), ("bob", NOW), ("ada", LATER)):
        ledger.note_use(ImageUse(tag=TAG, user=user, last_used_at=at))
    assert ledger.image_uses() == (
        ImageUse(tag=TAG, user="ada", last_used_at=LATER),
        ImageUse(tag=TAG, user="bob", last_used_at=NOW),
    )


def test_a_removed_image_has_no_users_and_keeps_its_builds(ledger: Ledger) -> None:
    ledger.write_build(BUILD)
    other = ImageUse(tag="ds01/image:other", user="ada", last_used_at=NOW)
    ledger.note_use(other)
    ledger.note_use(replace(other, tag=TAG))
    ledger.forget_image(TAG)
    assert ledger.image_uses() == (other,)
    assert ledger.builds() == (BUILD,)


def test_builds_and_uses_are_forgotten_with_the_history(ledger: Ledger) -> None:
    ledger.write_build(BUILD)
    ledger.write_build(replace(BUILD, ended_at=NOW))
    ledger.note_use(ImageUse(tag=TAG, user="ada", last_used_at=NOW))
    ledger.prune(LATER)
    assert ledger.builds() == (BUILD,)
    assert ledger.image_uses() == ()

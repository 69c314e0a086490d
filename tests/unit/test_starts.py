"""Which images the profiles of a site need, by the choices that they offer."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from ds01_spawner.model import ServerDefaults
from ds01_spawner.request import build_request, overrides_for, parse_profiles, starts_of


def profile_of(**options: Any) -> Any:
    (profile,) = parse_profiles([{"display_name": "Research", "profile_options": options}])
    return profile


def choices(trait: str, *values: object, default: int = 0) -> dict[str, Any]:
    """An option whose choices `c0`, `c1` … set a trait to these values; None sets nothing."""
    return {
        "choices": {
            f"c{place}": {
                "default": place == default,
                "spawner_override": {} if value is None else {trait: value},
            }
            for place, value in enumerate(values)
        }
    }


def chosen(profile: Any) -> list[dict[str, Any]]:
    return [dict(options.profile_options) for options in starts_of(profile)]


def test_profile_without_options_is_one_start() -> None:
    (options,) = starts_of(profile_of())
    assert (options.profile, options.profile_options) == ("research", {})


def test_each_combination_of_choices_is_a_start() -> None:
    profile = profile_of(
        framework=choices("framework", "Pytorch", "Tensorflow"), field=choices("use_case", "cv", "nlp")
    )
    assert chosen(profile) == [
        {"framework": first, "field": second} for first in ("c0", "c1") for second in ("c0", "c1")
    ]


def test_the_default_choices_come_first() -> None:
    profile = profile_of(framework=choices("framework", "Pytorch", "Tensorflow", default=1))
    assert chosen(profile) == [{"framework": "c1"}, {"framework": "c0"}]


@pytest.mark.parametrize("trait", ["gpu_profile", "mem_limit", "data_dir", "privileged"])
def test_choices_that_do_not_change_the_image_make_no_further_start(trait: str) -> None:
    profile = profile_of(gpu=choices(trait, "a", "b", "c"), field=choices("use_case", "cv", "nlp"))
    assert chosen(profile) == [{"gpu": "c0", "field": "c0"}, {"gpu": "c0", "field": "c1"}]


@pytest.mark.parametrize(
    ("trait", "values"),
    [
        ("framework", ("Pytorch", "Tensorflow", None)),
        ("framework_version", ("2.8", "2.7")),
        ("base_image", ("ubuntu:24.04", "ubuntu:22.04")),
        ("use_case", ("cv", "nlp")),
        ("packages", (["six"], ["six", "attrs"])),
        ("system_packages", (["ffmpeg"], [])),
    ],
)
def test_choices_that_change_the_image_are_starts_of_their_own(trait: str, values: tuple[Any, ...]) -> None:
    assert len(chosen(profile_of(one=choices(trait, *values)))) == len(values)


def test_choices_that_set_the_same_are_one_start() -> None:
    profile = profile_of(one=choices("packages", ["six"], ["six"], None, None))
    assert chosen(profile) == [{"one": "c0"}, {"one": "c2"}]


def test_what_a_student_types_is_left_out() -> None:
    typed = {"unlisted_choice": {"enabled": True, "spawner_override": {"framework": "{value}"}}}
    assert chosen(profile_of(one=typed)) == [{}]
    assert chosen(profile_of(one=choices("framework", "Pytorch") | typed)) == [{"one": "c0"}]


def test_many_choices_are_made_up_only_as_far_as_they_are_asked_for() -> None:
    profile = profile_of(**{f"o{place}": choices("packages", [], ["six"]) for place in range(60)})
    assert len(list(islice(starts_of(profile), 65))) == 65


def test_a_start_becomes_the_request_that_a_student_would_make() -> None:
    profile = profile_of(framework=choices("framework", "Pytorch", "Tensorflow"))
    made = [
        build_request(options, profile, ServerDefaults(**overrides_for(profile, options)))  # type: ignore[arg-type]
        for options in starts_of(profile)
    ]
    assert [(one.profile, one.framework) for one in made] == [
        ("research", "Pytorch"),
        ("research", "Tensorflow"),
    ]

"""What the profiles of a site start, as its settings say without a Hub."""

from __future__ import annotations

from typing import Any

import pytest
from traitlets.config import Config

from ds01_spawner import DS01Spawner
from ds01_spawner.core.stock import Starts
from ds01_spawner.errors import ConfigBroken, RequestRefused
from ds01_spawner.site import DS01
from ds01_spawner.spawner.starts import MOST_STARTS, find_start, find_starts

PROFILES = [
    {"display_name": "CPU", "slug": "cpu"},
    {
        "display_name": "Course",
        "slug": "course",
        "groups": ["students"],
        "spawner_override": {"use_case": "cv", "packages": ["six"], "mem_limit": "2G"},
        "profile_options": {
            "framework": {
                "choices": {
                    "torch": {"spawner_override": {"framework": "Pytorch"}},
                    "tf": {"default": True, "spawner_override": {"framework": "Tensorflow"}},
                },
                "unlisted_choice": {
                    "enabled": True,
                    "spawner_override": {"framework": "{value}"},
                },
            },
        },
    },
]


class LabSpawner(DS01Spawner):
    """What an admin derives to change something for her lab."""


class FragileSpawner(DS01Spawner):
    """One that cannot be made without a user."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.volumes = {self.user.name: "/data"}


def site(**sections: dict[str, Any]) -> DS01:
    return DS01(config=Config({name: Config(values) for name, values in sections.items()}))


def images(found: Starts) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [
        (one.profile, one.request.framework, one.request.use_case, one.request.packages)
        for one in found.starts
    ]


def test_every_profile_is_known_with_each_of_its_choices_be_it_for_some_only() -> None:
    found = find_starts(site(DS01Spawner={"profile_list": PROFILES, "framework": "Jax"}))
    assert images(found) == [
        ("cpu", "Jax", "none", ()),
        ("course", "Tensorflow", "cv", ("six",)),
        ("course", "Pytorch", "cv", ("six",)),
    ]
    assert found.problems == ()


def test_without_profiles_it_is_what_a_start_without_options_gets() -> None:
    found = find_starts(site(DS01Spawner={"packages": ["six"], "use_case": "nlp"}))
    assert images(found) == [("", "Pytorch", "nlp", ("six",))]


@pytest.mark.parametrize(
    "sections",
    [
        {"Spawner": {"cmd": "x"}, "DockerSpawner": {"framework": "Jax"}},
        {"LabSpawner": {"framework": "Jax"}, "JupyterHub": {"spawner_class": LabSpawner}},
        {"DS01Spawner": {"framework": "Jax"}, "JupyterHub": {"spawner_class": LabSpawner}},
        {"DS01Spawner": {"framework": "Jax"}, "JupyterHub": {"spawner_class": "ds01"}},
        {"DS01Spawner": {"framework": "Jax"}, "JupyterHub": {"spawner_class": "ds01_spawner.DS01Spawner"}},
    ],
)
def test_settings_count_wherever_the_hub_would_read_them(sections: dict[str, Any]) -> None:
    assert [one.request.framework for one in find_starts(site(**sections)).starts] == ["Jax"]


def test_use_cases_of_the_site_count() -> None:
    found = find_starts(site(DS01={"use_cases": {"robots": ["six"]}}, DS01Spawner={"use_case": "robots"}))
    assert [one.request.use_case for one in found.starts] == ["robots"]


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"DS01Spawner": {"profile_list": lambda spawner: []}}, "`profile_list` is a function"),
        ({"DS01Spawner": {"profile_list": [{"slug": "x"}]}}, "profile_list.0.display_name is wrong"),
        ({"JupyterHub": {"spawner_class": "simple"}}, "with SimpleLocalProcessSpawner, which is not"),
        ({"JupyterHub": {"spawner_class": "nowhere.Spawner"}}, "could not be imported"),
        ({"JupyterHub": {"spawner_class": FragileSpawner}}, "without the Hub (AttributeError"),
        ({"DS01Spawner": {"gpu_count": "many"}}, "without the Hub (TraitError"),
    ],
)
def test_what_only_the_hub_knows_is_said_and_nothing_is_guessed(
    sections: dict[str, Any], problem: str
) -> None:
    found = find_starts(site(**sections))
    assert found.starts == ()
    (said,) = found.problems
    assert problem in said


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ({"nonsense": 1}, "Profile broken: spawner_override sets 'nonsense'"),
        ({"framework": 7}, "Profile broken: spawner_override sets 'framework'"),
        ({"use_case": "cooking"}, "Profile broken: use_case: There is no use case"),
        ({"packages": ["a b c"]}, "Profile broken: packages:"),
    ],
)
def test_profile_that_cannot_be_started_is_told_and_the_others_are_known(
    override: dict[str, Any], problem: str
) -> None:
    broken = {"display_name": "Broken", "spawner_override": override}
    found = find_starts(site(DS01Spawner={"profile_list": [broken, *PROFILES]}))
    assert len(found.starts) == 3
    (said,) = found.problems
    assert said.startswith(problem)


def test_too_many_choices_are_told_and_the_first_ones_are_known() -> None:
    options = {
        f"o{place}": {
            "choices": {name: {"spawner_override": {setting: [name]}} for name in ("six", "attrs", "wheel")}
        }
        for place, setting in enumerate(("packages", "system_packages", "packages", "packages"))
    }
    profile = {"display_name": "Wide", "profile_options": options}
    found = find_starts(site(DS01Spawner={"profile_list": [profile]}))
    assert len(found.starts) == MOST_STARTS
    assert found.problems == ("Profile wide: its choices ask for more than 64 different images.",)


@pytest.mark.parametrize(
    ("overrides", "problems"),
    [
        ({"a": {"groups": ["x"], "spawner_override": {"mem_limit": "1G"}}}, ()),
        (
            {"a": {"groups": ["x"], "spawner_override": {"use_case": "cv", "framework": "Jax"}}},
            ("`group_overrides` changes framework, use_case in a, so more images may be needed.",),
        ),
        (
            lambda spawner: {},
            ("`group_overrides` is a function, so what it changes is known to the Hub alone.",),
        ),
    ],
)
def test_what_groups_change_in_the_image_is_told(overrides: Any, problems: tuple[str, ...]) -> None:
    found = find_starts(site(Spawner={"group_overrides": overrides}))
    assert (len(found.starts), found.problems) == (1, problems)


# one start


@pytest.mark.parametrize(
    ("choices", "framework"),
    [({}, "Tensorflow"), ({"framework": "torch"}, "Pytorch"), ({"framework": "Jax"}, "Jax")],
)
def test_one_start_is_made_of_choices_or_of_a_free_text(choices: dict[str, str], framework: str) -> None:
    found = find_start(site(DS01Spawner={"profile_list": PROFILES}), "course", choices)
    assert (found.profile, found.request.framework, found.request.use_case) == ("course", framework, "cv")


@pytest.mark.parametrize(
    ("slug", "choices", "said"),
    [
        ("coarse", {}, "There is no profile 'coarse' for you. You may use: `cpu`, `course`."),
        ("cpu", {"framework": "torch"}, "This profile has no option 'framework'"),
        ("course", {"frame": "torch"}, "This profile has no option 'frame'"),
    ],
)
def test_start_that_is_not_offered_is_refused(slug: str, choices: dict[str, str], said: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        find_start(site(DS01Spawner={"profile_list": PROFILES}), slug, choices)
    assert str(caught.value).startswith(said)


def test_start_of_profiles_that_only_the_hub_knows_is_refused() -> None:
    with pytest.raises(ConfigBroken, match="is a function"):
        find_start(site(DS01Spawner={"profile_list": lambda spawner: PROFILES}), "course", {})

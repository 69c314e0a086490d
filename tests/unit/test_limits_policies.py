"""What the limits file says of idleness, warnings, ends and extensions."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from ds01_spawner.errors import LimitsBroken
from ds01_spawner.limits import limits_for, load_limits
from ds01_spawner.limits.policies import POLICY_KEYS
from ds01_spawner.model import Policy

EXAMPLE = Path(__file__).parents[2] / "hub_config" / "resource-limits.yaml"
MINUTE = timedelta(minutes=1)

SHIPPED_BY_DS01 = """
defaults: {idle_timeout_h: 0.5, max_runtime_h: 24}
groups:
  student:
    policies:
      gpu_idle_threshold: 5
      cpu_idle_threshold: 2.0
      network_idle_threshold: 1048576
      idle_detection_window: 3
  researcher:
    members: [ada]
    policies:
      gpu_idle_threshold: 7
      cpu_idle_threshold: 3.0
      idle_detection_window: 4
  lab:
    members: [grace]
    gpu_idle_threshold: 10
policies:
  high_demand_threshold: 0.9
  high_demand_idle_reduction: 0.25
  gpu_idle_threshold: 6
  grace_period_m: 20
  keepalive_max_duration_h: 12
  sigterm_grace_s: 90
  created_container_timeout_m: 30
"""


def get(text: str, user: str = "someone") -> Policy:
    return limits_for(load_limits(text), user).policy


def test_where_nothing_is_said_the_policies_of_ds01_hold() -> None:
    assert get("{}") == Policy()
    policy = Policy()
    assert (policy.gpu_idle_percent, policy.cpu_idle_percent, policy.network_idle_bytes) == (5, 2, 1048576)
    assert (policy.idle_window, policy.grace, policy.keep_alive) == (3, 30 * MINUTE, 24 * 60 * MINUTE)
    assert (policy.high_demand_share, policy.high_demand_factor) == (0.8, 0.5)
    assert policy.stop_grace == MINUTE


def test_policies_of_the_file_are_everybodys() -> None:
    assert get(SHIPPED_BY_DS01) == Policy(
        high_demand_share=0.9,
        high_demand_factor=0.25,
        grace=20 * MINUTE,
        keep_alive=12 * 60 * MINUTE,
        stop_grace=1.5 * MINUTE,
    )


def test_policies_of_a_group_come_before_those_of_the_file() -> None:
    policy = get(SHIPPED_BY_DS01, "ada")
    assert (policy.gpu_idle_percent, policy.cpu_idle_percent, policy.idle_window) == (7, 3, 4)
    assert policy.grace == 20 * MINUTE


def test_policy_may_stand_in_the_section_itself() -> None:
    assert get(SHIPPED_BY_DS01, "grace").gpu_idle_percent == 10
    assert get("defaults: {idle_detection_window: 5}").idle_window == 5


def test_override_of_a_person_brings_her_own_policies() -> None:
    text = f"{SHIPPED_BY_DS01}user_overrides: {{ada: {{policies: {{gpu_idle_threshold: 1}}}}}}"
    policy = get(text, "ada")
    assert (policy.gpu_idle_percent, policy.cpu_idle_percent, policy.grace) == (1, 2, 20 * MINUTE)


@pytest.mark.parametrize(
    ("keys", "field", "value"),
    [
        ("grace_period: 45m", "grace", 45 * MINUTE),
        ("grace_period_m: 45", "grace", 45 * MINUTE),
        ("keepalive_max_duration: 2d", "keep_alive", 48 * 60 * MINUTE),
        ("keepalive_max_duration_h: 0.5", "keep_alive", 30 * MINUTE),
        ("sigterm_grace_s: 30", "stop_grace", MINUTE / 2),
        ("sigterm_grace_seconds: 30", "stop_grace", MINUTE / 2),
        ("warning_lead_m: 0.1", "warning_lead", timedelta(seconds=6)),
        ("max_extension_h: 12", "max_extension", 720 * MINUTE),
        ("max_extensions: 0", "max_extensions", 0),
    ],
)
def test_every_spelling_is_read_in_its_unit(keys: str, field: str, value: object) -> None:
    assert getattr(get(f"policies: {{{keys}}}"), field) == value


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("high_demand_threshold", "high_demand_share"),
        ("keepalive_max_duration_h", "keep_alive"),
        ("max_extension_h", "max_extension"),
        ("max_extensions", "max_extensions"),
    ],
)
def test_null_is_never_or_without_a_limit(key: str, field: str) -> None:
    assert getattr(get(f"policies: {{{key}: null}}"), field) is None


def test_what_ds01_knows_of_policies_and_has_no_effect_here_is_listed() -> None:
    text = SHIPPED_BY_DS01.replace(
        "cpu_idle_threshold: 3.0", "cpu_idle_threshold: 3.0\n      checkpoint_warning: 1h"
    )
    assert set(load_limits(text).unused) == {
        "policies.created_container_timeout_m",
        "groups.researcher.policies.checkpoint_warning",
    }


@pytest.mark.parametrize(
    ("text", "key", "where", "nearest"),
    [
        ("policies: {grace_perod_m: 3}", "grace_perod_m", "policies", "grace_period_m"),
        ("groups: {lab: {policies: {idle_window: 3}}}", "idle_window", "groups.lab.policies", "idle_"),
        ("defaults: {policies: {max_runtime_h: 3}}", "max_runtime_h", "defaults.policies", ""),
    ],
)
def test_unknown_policy_is_an_error_that_names_the_nearest(
    text: str, key: str, where: str, nearest: str
) -> None:
    with pytest.raises(LimitsBroken) as broken:
        load_limits(text)
    assert f"`{key}` in {where}; the nearest one is `{nearest}" in str(broken.value)


@pytest.mark.parametrize(
    "keys",
    [
        "grace_period: 30m, policies: {grace_period_m: 30}",
        "gpu_idle_threshold: 5, policies: {gpu_idle_threshold: 5}",
        "policies: {sigterm_grace_s: 5, sigterm_grace_seconds: 5}",
    ],
)
def test_two_places_of_one_policy_in_one_section_contradict(keys: str) -> None:
    with pytest.raises(LimitsBroken, match="two names of one limit"):
        load_limits(f"groups: {{lab: {{{keys}}}}}")


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("gpu_idle_threshold: null", "a number of percent such as 5"),
        ("gpu_idle_threshold: -1", "a number of percent such as 5"),
        ("cpu_idle_threshold: low", "a number of percent such as 5"),
        ("network_idle_threshold: 0.5", "a number of bytes such as 1048576"),
        ("idle_detection_window: 0", "a number of checks such as 3"),
        ("idle_detection_window: null", "a number of checks such as 3"),
        ("grace_period: null", "a time such as 30m"),
        ("grace_period_m: 30m", "a number of minutes such as 10"),
        ("grace_period_m: 1e300", "a number of minutes such as 10"),
        ("high_demand_threshold: 80", "a number from 0 to 1 such as 0.8"),
        ("high_demand_idle_reduction: null", "a number from 0 to 1 such as 0.8"),
        ("sigterm_grace_s: soon", "a number of seconds such as 60"),
        ("max_extension_h: 1e9", "a shorter time, or null for unlimited"),
        ("max_extensions: 1.5", "a whole number such as 2, or null for unlimited"),
    ],
)
def test_policy_that_means_nothing_is_an_error_that_says_what_it_should_be(value: str, meant: str) -> None:
    key, _, written = value.partition(": ")
    with pytest.raises(LimitsBroken) as broken:
        load_limits(f"policies: {{{value}}}")
    shown = {"null": "None"}.get(written, written)
    assert f"`{key}: {shown}` in policies is not {meant}" in str(broken.value)


@pytest.mark.parametrize("text", ["policies: 3", "defaults: {policies: [a]}", "groups: {lab: {policies: x}}"])
def test_policies_of_the_wrong_shape_are_broken(text: str) -> None:
    with pytest.raises(LimitsBroken, match=r"policies is not a section"):
        load_limits(text)


def test_empty_policies_say_nothing() -> None:
    assert get("policies:\ndefaults:\n  policies:\n") == Policy()


def test_times_of_the_shipped_file_are_those_that_its_comments_tell() -> None:
    file = load_limits(EXAMPLE.read_text())
    assert file.unused == ()
    assert limits_for(file, "someone").policy == Policy()


def test_page_about_time_tells_each_key_with_the_value_that_holds_if_nothing_is_said() -> None:
    page = (EXAMPLE.parents[1] / "docs" / "lifecycle.md").read_text()
    table = page.partition("| key in `policies` |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+)", table, re.MULTILINE)
    assert {POLICY_KEYS[key][0] for key, _ in rows} == {name for name, _ in POLICY_KEYS.values()}
    for key, written in rows:
        name, read = POLICY_KEYS[key]
        assert read(written) == getattr(Policy(), name), key

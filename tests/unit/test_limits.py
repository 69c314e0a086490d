"""What a user may have, as DS01's limits file says in both generations of its keys."""

from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from ds01_spawner.errors import LimitExceeded, LimitsBroken, NotAllowed, RequestRefused
from ds01_spawner.limits import (
    check,
    create_limits,
    docker_args,
    limits_for,
    load_limits,
    load_texts,
    lower,
    parse_members,
)
from ds01_spawner.model import NO_RESOURCES, Holdings, Limits, LimitsTexts, Resources

GIB = 1024**3
EXAMPLE = Path(__file__).parent.parent.parent / "hub_config" / "resource-limits.yaml"

OLD = """
defaults:
  max_mig_instances: 2
  gpu_memory: null
  max_cpus: 16
  memory: 32g
  memory_swap: 32g
  shm_size: 16g
  pids_limit: 4096
  storage_workspace: 100G
  storage_tmp: 50G
  max_containers_per_user: 3
  idle_timeout: 48h
  max_runtime: null
  priority: 1
default_group: student
groups:
  student:
    members: []
    max_runtime: 168h
    gpu_hold_after_stop: 0.25h
  researcher:
    members: [ada]
    max_mig_instances: 8
    max_mig_per_container: 2
    allow_full_gpu: true
    max_cpus: 32
    memory: 64g
    memory_swap: 64g
    container_hold_after_stop: null
  lab:
    members: [ada, grace]
    cpus: 2.5
    memory: 1024m
user_overrides:
  kim:
    memory: 48g
    reason: thesis
gpu_allocation:
  strategy: least_allocated
  enable_mig: true
wizard:
  anything: {goes: here}
"""

NEW = """
defaults:
  max_gpu_equivalents: 1.0
  max_gpu_slots_per_container: 1
  allow_full_gpu: true
  max_cpus: 32
  memory: 32g
  max_runtime_h: 24
  idle_timeout_h: 0.5
  gpu_hold_after_stop_h: 0.25
  container_hold_after_stop_h: 0.5
groups:
  student:
    max_gpu_slots: 3
    max_gpu_equivalents: 0.571
    aggregate: {gpu_limit: 2.0}
  admin:
    max_gpu_equivalents: null
    max_runtime_h: null
policies: {high_demand_threshold: 0.8}
"""

BOUNDED = Limits(
    group="student",
    cpus=4.0,
    memory=8 * GIB,
    memory_swap=10 * GIB,
    shm_size=2 * GIB,
    pids_limit=100,
    slots=2,
    gpu_share=Fraction(1),
    slots_per_container=1,
    allow_full_gpu=False,
    containers=3,
)
UNBOUNDED = Limits(group="admin")


def get(text: str, user: str = "someone", *hub_groups: str) -> Limits:
    return limits_for(load_limits(text), user, hub_groups)


def test_first_generation_of_keys_is_read() -> None:
    assert get(OLD, "ada") == Limits(
        group="researcher",
        cpus=32.0,
        memory=64 * GIB,
        memory_swap=64 * GIB,
        shm_size=16 * GIB,
        pids_limit=4096,
        storage_tmp=50 * GIB,
        slots=8,
        slots_per_container=2,
        allow_full_gpu=True,
        containers=3,
        priority=1,
        idle_timeout=timedelta(hours=48),
        container_hold_after_stop=None,
    )


def test_second_generation_of_keys_is_read() -> None:
    assert get(NEW) == Limits(
        group="student",
        cpus=32.0,
        memory=32 * GIB,
        memory_swap=32 * GIB,
        shm_size=16 * GIB,
        pids_limit=4096,
        slots=3,
        gpu_share=Fraction(4, 7),
        slots_per_container=1,
        allow_full_gpu=True,
        containers=3,
        priority=10,
        idle_timeout=timedelta(minutes=30),
        max_runtime=timedelta(hours=24),
        gpu_hold_after_stop=timedelta(minutes=15),
        container_hold_after_stop=timedelta(minutes=30),
    )


@pytest.mark.parametrize("key", ["max_mig_instances", "max_gpus_per_user", "max_gpu_slots"])
def test_every_spelling_of_the_slots_is_read(key: str) -> None:
    assert get(f"defaults: {{{key}: 5}}").slots == 5


@pytest.mark.parametrize(
    "key", ["max_mig_per_container", "max_gpus_per_container", "max_gpu_slots_per_container"]
)
def test_every_spelling_of_the_slots_per_container_is_read(key: str) -> None:
    assert get(f"defaults: {{{key}: 5}}").slots_per_container == 5


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("idle_timeout", "idle_timeout"),
        ("max_runtime", "max_runtime"),
        ("gpu_hold_after_stop", "gpu_hold_after_stop"),
        ("container_hold_after_stop", "container_hold_after_stop"),
    ],
)
def test_time_is_read_with_its_unit_in_the_value_or_in_the_key(key: str, name: str) -> None:
    assert getattr(get(f"defaults: {{{key}: 90m}}"), name) == timedelta(minutes=90)
    assert getattr(get(f"defaults: {{{key}: 2}}"), name) == timedelta(hours=2)
    assert getattr(get(f"defaults: {{{key}_h: 1.5}}"), name) == timedelta(minutes=90)
    assert getattr(get(f"defaults: {{{key}_h: null}}"), name) is None


def test_null_is_unlimited() -> None:
    keys = ("max_cpus", "memory", "shm_size", "pids_limit", "max_mig_instances", "max_containers_per_user")
    limits = get("defaults:\n" + "".join(f"  {key}: null\n" for key in keys))
    values = (limits.cpus, limits.memory, limits.memory_swap, limits.shm_size, limits.pids_limit)
    assert values == (None,) * 5
    assert (limits.slots, limits.containers) == (None, None)


def test_null_in_a_group_lifts_the_limit_of_the_defaults() -> None:
    limits = get(NEW.replace("groups:", "default_group: admin\ngroups:"))
    assert (limits.group, limits.gpu_share, limits.max_runtime) == ("admin", None, None)


def test_share_alone_leaves_the_number_of_slots_open() -> None:
    limits = get("defaults: {max_gpu_equivalents: 2}")
    assert (limits.slots, limits.gpu_share) == (None, Fraction(2))


def test_share_may_be_written_as_a_fraction() -> None:
    assert get("defaults: {max_gpu_equivalents: 2/7}").gpu_share == Fraction(2, 7)


def test_where_nothing_is_said_the_defaults_of_ds01_hold() -> None:
    limits = get("{}")
    assert (limits.cpus, limits.memory, limits.shm_size) == (16.0, 32 * GIB, 16 * GIB)
    assert (limits.memory_swap, limits.pids_limit, limits.containers) == (32 * GIB, 4096, 3)
    assert (limits.slots, limits.allow_full_gpu, limits.group) == (1, False, "student")


def test_empty_sections_do_no_harm() -> None:
    text = "defaults:\ngroups:\n  student:\n  lab:\n    members:\nuser_overrides:\ndefault_group:\n"
    file = load_limits(text + "gpu_allocation:\n", overrides_text="# nobody\n")
    assert limits_for(file, "ada") == get("{}", "ada")
    assert file.unused == ()
    assert file.strategy is None


def test_file_without_anything_in_it_is_broken() -> None:
    with pytest.raises(LimitsBroken, match="empty"):
        load_limits("# all of it was lost\n")


def test_user_override_comes_before_every_group_and_stands_on_the_defaults() -> None:
    file = load_limits(OLD, members={"researcher": ["kim"]})
    limits = limits_for(file, "kim", ["lab"])
    assert (limits.group, limits.memory, limits.cpus, limits.slots) == ("override", 48 * GIB, 16.0, 2)


def test_overrides_file_replaces_the_override_of_the_same_user() -> None:
    file = load_limits(OLD, overrides_text="kim: {pids_limit: 7}\nlou@lab.example: {memory: 1g}\n")
    assert (limits_for(file, "kim").pids_limit, limits_for(file, "kim").memory) == (7, 32 * GIB)
    assert limits_for(file, "lou@lab.example").memory == GIB


def test_group_file_comes_before_a_group_of_the_hub() -> None:
    file = load_limits(OLD, members={"lab": ["sam"]})
    assert limits_for(file, "sam", ["researcher"]).group == "lab"


def test_members_file_adds_to_the_members_in_the_limits_file() -> None:
    file = load_limits(OLD, members={"researcher": ("sam",), "archived": ("ada",)})
    assert [limits_for(file, user).group for user in ("ada", "sam", "eve")] == [
        "researcher",
        "researcher",
        "student",
    ]


def test_first_group_in_the_file_wins() -> None:
    assert get(OLD, "ada").group == "researcher"
    assert get(OLD, "sam", "lab", "researcher").group == "researcher"


def test_group_of_the_hub_comes_before_the_default_group() -> None:
    assert get(OLD, "sam", "lab", "unheard-of").group == "lab"
    assert get(OLD, "sam", "unheard-of").group == "student"


def test_default_group_may_be_missing_in_the_groups() -> None:
    assert get("default_group: guest\ndefaults: {memory: 1g}").group == "guest"


def test_nearer_section_wins_in_whatever_spelling() -> None:
    assert get(OLD, "grace").cpus == 2.5


def test_members_are_one_a_line_with_comments() -> None:
    assert parse_members("\ufeffada  # since 2024\n\n# gone:\n#kim\r\n m.may@lab.example\n") == (
        "ada",
        "m.may@lab.example",
    )


def test_known_but_unused_keys_are_listed_and_ignored() -> None:
    assert set(load_limits(OLD).unused) == {
        "wizard",
        "defaults.gpu_memory",
        "defaults.storage_workspace",
        "gpu_allocation.enable_mig",
    }
    assert load_limits(NEW).unused == ()


def test_names_that_yaml_reads_as_numbers_are_nobodys_and_listed() -> None:
    file = load_limits("groups: {lab: {members: [2041, '2042']}}\nuser_overrides: {17: {memory: 1g}}")
    assert [limits_for(file, user).group for user in ("2041", "2042", "17")] == ["student", "lab", "student"]
    assert file.unused == ("groups.lab.members.2041", "user_overrides.17")


@pytest.mark.parametrize(
    ("text", "key", "where", "nearest"),
    [
        ("defaults: {max_cpu: 4}", "max_cpu", "defaults", "max_cpus"),
        ("groups: {lab: {memmory: 4g}}", "memmory", "groups.lab", "memory"),
        ("groups: {lab: {member: [ada]}}", "member", "groups.lab", "members"),
        ("user_overrides: {kim: {gpu_equivalents: 1}}", "gpu_equivalents", "kim", "max_gpu_equivalents"),
        ("default: {memory: 4g}", "default", "the top level", "defaults"),
        ("gpu_allocation: {stategy: pack}", "stategy", "gpu_allocation", "strategy"),
        ("defaults: {members: [ada]}", "members", "defaults", ""),
    ],
)
def test_unknown_key_is_an_error_that_names_the_nearest(
    text: str, key: str, where: str, nearest: str
) -> None:
    with pytest.raises(LimitsBroken) as broken:
        load_limits(text)
    assert f"`{key}` in {where}" in str(broken.value).replace("user_overrides.", "")
    assert f"nearest one is `{nearest}" in str(broken.value)


def test_unknown_key_in_the_overrides_file_names_that_file() -> None:
    with pytest.raises(LimitsBroken, match=r"`memry` in user-overrides\.yaml\.kim"):
        load_limits("{}", overrides_text="kim: {memry: 4g}")


@pytest.mark.parametrize(
    "keys",
    [
        "max_cpus: 4, cpus: 4",
        "max_mig_instances: 1, max_gpu_slots: 1",
        "idle_timeout: 1h, idle_timeout_h: null",
        "max_mig_per_container: 1, max_gpu_slots_per_container: 1",
    ],
)
def test_two_spellings_of_one_limit_in_one_section_contradict(keys: str) -> None:
    with pytest.raises(LimitsBroken, match="two names of one limit"):
        load_limits(f"groups: {{lab: {{{keys}}}}}")


def test_broken_yaml_names_the_line() -> None:
    with pytest.raises(LimitsBroken, match=r"line 3 of resource-limits\.yaml"):
        load_limits("defaults:\n  memory: 32g\n cpus: 4\n")
    with pytest.raises(LimitsBroken, match=r"line 2 of user-overrides\.yaml"):
        load_limits("{}", overrides_text="kim:\n\tmemory: 1g\n")


def test_yaml_that_names_no_line_is_broken_too() -> None:
    with pytest.raises(LimitsBroken, match="is not YAML"):
        load_limits("defaults: {memory: 2025-02-31}")
    with pytest.raises(LimitsBroken, match="is not YAML"):
        load_limits("defaults: \x00")


@pytest.mark.parametrize(
    "text",
    [
        "[defaults]",
        "just words",
        "defaults: 32g",
        "groups: [student]",
        "groups: {lab: {members: ada}}",
        "groups: {lab: {members: [null]}}",
        "groups: {'a b': {}}",
        "groups: {'../x': {}}",
        "groups: {7: {}}",
        "default_group: 'x; y'",
        "gpu_allocation: {strategy: fullest}",
        "user_overrides: {kim: 3}",
    ],
)
def test_section_of_the_wrong_shape_is_broken(text: str) -> None:
    with pytest.raises(LimitsBroken, match="Ask your admin to mend it"):
        load_limits(text)


@pytest.mark.parametrize(
    "value",
    [
        "max_cpus: 0",
        "max_cpus: many",
        "max_cpus: true",
        "max_cpus: .inf",
        "max_cpus: 1" + "0" * 400,
        "memory: 32 gold",
        "memory: 1m",
        "memory: 1.5",
        "memory: [32g]",
        "memory: '" + "9" * 400 + "'",
        "memory_swap: -2",
        "pids_limit: 0",
        "pids_limit: -1",
        "pids_limit: 1.5",
        "max_mig_instances: -1",
        "max_mig_instances: all",
        "max_gpu_equivalents: .nan",
        "max_gpu_equivalents: 1/0",
        "allow_full_gpu: 1",
        "allow_full_gpu: null",
        "priority: high",
        "idle_timeout: soon",
        "idle_timeout_h: 30m",
        "max_runtime: -1h",
        "max_runtime_h: 1e300",
    ],
)
def test_value_that_means_nothing_is_an_error_that_names_the_key(value: str) -> None:
    with pytest.raises(LimitsBroken, match=rf"`{value.partition(':')[0]}: .* in defaults is not "):
        load_limits(f"defaults: {{{value}}}")


@pytest.mark.parametrize("strategy", ["pack", "least_allocated", "round_robin", "priority_aware"])
def test_strategy_is_read(strategy: str) -> None:
    assert load_limits(f"gpu_allocation: {{strategy: {strategy}}}").strategy == strategy


def measure(
    limits: Limits,
    holdings: Holdings,
    *,
    slots: int = 0,
    gpu_share: Fraction = Fraction(0),
    full_gpu: bool = False,
    takes: Resources = NO_RESOURCES,
) -> None:
    check(limits, holdings, slots=slots, gpu_share=gpu_share, full_gpu=full_gpu, takes=takes)


def test_request_within_the_limits_passes() -> None:
    held = Holdings(containers=2, slots=1, gpu_share=Fraction(1, 2))
    measure(BOUNDED, held, slots=1, gpu_share=Fraction(1, 2))
    measure(UNBOUNDED, replace(held, slots=99), slots=9, gpu_share=Fraction(9), full_gpu=True)


def test_full_gpu_needs_a_group_that_may() -> None:
    with pytest.raises(NotAllowed, match=r"\(student\) may use MIG slices, but not a full GPU"):
        measure(BOUNDED, Holdings(), slots=1, gpu_share=Fraction(1), full_gpu=True)


def test_one_server_too_many_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="You have 3 servers and ask for 1 more; your limit is 3"):
        measure(BOUNDED, Holdings(containers=3))


def test_too_many_slots_in_one_server_are_refused() -> None:
    with pytest.raises(LimitExceeded, match="ask for 2 GPU slots in one server; your limit is 1"):
        measure(BOUNDED, Holdings(), slots=2, gpu_share=Fraction(2, 7))


def test_too_many_slots_over_all_servers_are_refused() -> None:
    with pytest.raises(LimitExceeded, match="hold 2 GPU slots and ask for 1 more; your limit is 2"):
        measure(BOUNDED, Holdings(slots=2), slots=1, gpu_share=Fraction(1, 7))


def test_too_large_a_share_is_refused_though_the_slots_would_fit() -> None:
    held = Holdings(slots=1, gpu_share=Fraction(4, 7))
    with pytest.raises(LimitExceeded, match=r"shares of 0\.571 and ask for 0\.571 more; your limit is 1 "):
        measure(BOUNDED, held, slots=1, gpu_share=Fraction(4, 7))


def test_rounded_share_in_the_file_allows_the_slice_that_was_meant() -> None:
    measure(get(NEW), Holdings(), slots=1, gpu_share=Fraction(4, 7))


def test_server_without_a_gpu_starts_though_too_many_slots_are_held() -> None:
    measure(BOUNDED, Holdings(slots=9, gpu_share=Fraction(9)))


def test_limit_of_nothing_allows_nothing() -> None:
    with pytest.raises(LimitExceeded):
        measure(replace(BOUNDED, slots=0), Holdings(), slots=1, gpu_share=Fraction(1, 7))


def test_own_limits_are_lowered_and_the_rest_stays() -> None:
    lowered = lower(BOUNDED, cpus=0.5, memory=4 * GIB, shm_size=GIB, pids_limit=50)
    assert lowered == replace(
        BOUNDED, cpus=0.5, memory=4 * GIB, memory_swap=6 * GIB, shm_size=GIB, pids_limit=50
    )
    assert lower(BOUNDED) == BOUNDED


def test_asking_for_exactly_the_limit_changes_nothing() -> None:
    assert lower(BOUNDED, cpus=4, memory=8 * GIB, shm_size=2 * GIB, pids_limit=100) == BOUNDED


def test_unlimited_can_be_lowered_to_anything() -> None:
    lowered = lower(UNBOUNDED, cpus=64, memory=GIB)
    assert (lowered.cpus, lowered.memory, lowered.memory_swap) == (64, GIB, None)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"cpus": 4.5}, "ask for 4.5 CPUs; your limit is 4."),
        ({"memory": 9 * GIB}, "ask for 9g of memory; your limit is 8g."),
        ({"shm_size": 3 * GIB}, "ask for 3g of shared memory; your limit is 2g."),
        ({"pids_limit": 101}, "ask for 101 processes; your limit is 100."),
    ],
)
def test_raising_ones_own_limits_is_refused_with_the_limit(asked: dict[str, int], sentence: str) -> None:
    with pytest.raises(LimitExceeded) as refused:
        lower(BOUNDED, **asked)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("name", ["cpus", "memory", "shm_size", "pids_limit"])
@pytest.mark.parametrize("value", [0, -1])
def test_nothing_is_lowered_to_zero_which_docker_reads_as_unlimited(name: str, value: int) -> None:
    with pytest.raises(RequestRefused, match="more than 0"):
        lower(UNBOUNDED, **{name: value})


@pytest.mark.parametrize("cpus", [float("nan"), float("inf")])
def test_cpus_that_are_no_number_are_refused(cpus: float) -> None:
    with pytest.raises(RequestRefused):
        lower(UNBOUNDED, cpus=cpus)


@pytest.mark.parametrize(
    ("user", "line"),
    [
        (
            "ada",
            "--cpus=32 --memory=64g --memory-swap=64g --shm-size=16g --pids-limit=4096 --tmpfs=/tmp:size=50G "
            "--cgroup-parent=ds01-researcher.slice",
        ),
        (
            "grace",
            "--cpus=2.5 --memory=1024m --memory-swap=32g --shm-size=16g --pids-limit=4096 "
            "--tmpfs=/tmp:size=50G --cgroup-parent=ds01-lab.slice",
        ),
        (
            "kim",
            "--cpus=16 --memory=48g --memory-swap=32g --shm-size=16g --pids-limit=4096 "
            "--tmpfs=/tmp:size=50G --cgroup-parent=ds01-override.slice",
        ),
        (
            "eve",
            "--cpus=16 --memory=32g --memory-swap=32g --shm-size=16g --pids-limit=4096 "
            "--tmpfs=/tmp:size=50G --cgroup-parent=ds01-student.slice",
        ),
    ],
)
def test_docker_args_are_those_that_ds01_prints(user: str, line: str) -> None:
    old = OLD.replace("    cpus: 2.5", "    max_cpus: 2.5")
    assert " ".join(docker_args(get(old, user))) == line


def test_docker_args_of_a_file_that_says_nothing_are_those_that_ds01_prints() -> None:
    assert " ".join(docker_args(get("defaults: {}"))) == (
        "--cpus=16 --memory=32g --memory-swap=32g --shm-size=16g --pids-limit=4096 "
        "--cgroup-parent=ds01-student.slice"
    )


def test_docker_args_leave_out_what_is_unlimited() -> None:
    assert docker_args(UNBOUNDED) == ["--cgroup-parent=ds01-admin.slice"]
    assert "--memory-swap=-1" in docker_args(get("defaults: {memory_swap: null}"))


def test_docker_args_of_lowered_limits_have_the_lowered_values() -> None:
    args = docker_args(lower(get(OLD, "ada"), cpus=1.5, memory=1536 * 1024**2))
    assert args[:3] == ["--cpus=1.5", "--memory=1536m", "--memory-swap=1536m"]


def test_slice_of_each_user_is_a_pattern() -> None:
    pattern = "ds01-{group}-{user}.slice"
    parents = [
        docker_args(BOUNDED, slice_pattern=pattern, user=user)[-1]
        for user in ("ada", "m.may@lab.example", "a-b--c", "../..")
    ]
    assert parents == [
        "--cgroup-parent=ds01-student-ada.slice",
        "--cgroup-parent=ds01-student-m_may.slice",
        "--cgroup-parent=ds01-student-a_b_c.slice",
        "--cgroup-parent=ds01-student-_.slice",
    ]


@pytest.mark.parametrize("group", ["a b", "../up", "a/b", "", "x\n", "-a", "a--b"])
def test_group_that_cannot_name_a_cgroup_is_refused(group: str) -> None:
    with pytest.raises(LimitsBroken, match="cannot name a cgroup"):
        create_limits(replace(BOUNDED, group=group))


def test_create_limits_apply_everything_at_creation() -> None:
    assert create_limits(BOUNDED) == {
        "nano_cpus": 4_000_000_000,
        "mem_limit": 8 * GIB,
        "memswap_limit": 10 * GIB,
        "shm_size": 2 * GIB,
        "pids_limit": 100,
        "cgroup_parent": "ds01-student.slice",
        "tmpfs": {"/tmp": f"exec,mode=1777,size={4 * GIB}"},
    }


def test_create_limits_of_somebody_unlimited_set_no_limit() -> None:
    assert create_limits(UNBOUNDED, "") == {"tmpfs": {"/tmp": "exec,mode=1777"}}


def test_tmp_is_what_the_file_says_but_at_most_half_of_the_memory() -> None:
    small = create_limits(replace(BOUNDED, storage_tmp=GIB))
    large = create_limits(replace(BOUNDED, storage_tmp=50 * GIB))
    assert small["tmpfs"] == {"/tmp": f"exec,mode=1777,size={GIB}"}
    assert large["tmpfs"] == {"/tmp": f"exec,mode=1777,size={4 * GIB}"}


def test_swap_below_the_memory_is_raised_to_it() -> None:
    assert create_limits(get(OLD, "kim"))["memswap_limit"] == 48 * GIB


def test_unlimited_swap_is_minus_one_for_docker() -> None:
    assert create_limits(replace(BOUNDED, memory_swap=None))["memswap_limit"] == -1
    assert get("defaults: {memory_swap: -1}").memory_swap is None


def test_unlimited_shared_memory_is_as_large_as_the_memory() -> None:
    assert create_limits(replace(BOUNDED, shm_size=None))["shm_size"] == 8 * GIB


def test_no_container_asks_for_more_cpus_than_the_machine_has() -> None:
    assert create_limits(BOUNDED, host_cpus=2)["nano_cpus"] == 2_000_000_000
    assert create_limits(BOUNDED, host_cpus=64)["nano_cpus"] == 4_000_000_000


def test_example_for_production_is_a_limits_file_without_unused_keys() -> None:
    file = load_limits(EXAMPLE.read_text())
    assert (file.unused, file.strategy) == ((), "pack")
    assert [limits_for(file, "ada", [group]).slots for group in ("student", "researcher", "admin")] == [
        1,
        4,
        None,
    ]


def test_default_group_that_is_no_group_names_the_nearest() -> None:
    text = "groups:\n  student: {}\n  researcher: {}\ndefault_group: studnet\n"
    with pytest.raises(LimitsBroken, match="'studnet', which is no group: did you mean 'student'"):
        load_limits(text)


def test_what_is_wrong_in_an_admins_files_names_the_file() -> None:
    with pytest.raises(LimitsBroken) as broken:
        load_texts(LimitsTexts(path="/etc/ds01/resource-limits.yaml", text="defaults:\n  max_cpu: 1\n"))
    assert "in /etc/ds01/resource-limits.yaml or beside it" in broken.value.detail

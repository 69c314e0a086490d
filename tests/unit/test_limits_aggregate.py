"""What all servers of a person may take together, and what is said where that would be too much."""

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from ds01_spawner.errors import LimitExceeded, LimitsBroken
from ds01_spawner.limits import (
    bound,
    check,
    create_limits,
    docker_args,
    limits_for,
    list_unenforced,
    load_limits,
    lower,
)
from ds01_spawner.model import NO_RESOURCES, UNLIMITED, Holdings, Limits, Resources

GIB = 1024**3
EXAMPLE = Path(__file__).parent.parent.parent / "hub_config" / "resource-limits.yaml"

# As in DS01's own file: only groups have the section, and admins have none.
FILE = """
defaults:
  max_gpu_equivalents: 1.0
  max_cpus: 32
  memory: 32g
  pids_limit: 4096
  storage_data: 200G
  storage_workspace: 100G
  max_tasks: 32768
groups:
  student:
    aggregate:
      cpu_quota: "9600%"
      memory_max: "96G"
      memory_high: "86G"
      tasks_max: 12288
      gpu_limit: 2.0
  researcher:
    members: [ada, kim, lou]
    max_gpu_equivalents: 4.0
    storage_data: 1T
    max_tasks: null
    aggregate: {cpu_quota: 24000%, memory_max: 320G, memory_high: 288G, gpu_limit: 3.0}
  admin:
    max_gpu_equivalents: null
user_overrides:
  kim: {max_cpus: 8}
  lou: {aggregate: {tasks_max: 100}}
  eve: {aggregate: null}
"""
STUDENT = Resources(cpus=96, memory=96 * GIB, pids=12288)
RESEARCHER = Resources(cpus=240, memory=320 * GIB)

LIMITS = Limits(
    group="student",
    cpus=8,
    memory=32 * GIB,
    pids_limit=4096,
    aggregate=Resources(cpus=16, memory=80 * GIB, pids=12288),
)
HELD = Holdings(containers=2, takes=Resources(cpus=12, memory=40 * GIB, pids=8192))


def get(text: str, user: str = "someone", *hub_groups: str) -> Limits:
    return limits_for(load_limits(text), user, hub_groups)


def measure(held: Holdings = HELD, *, limits: Limits = LIMITS, **takes: float | None) -> None:
    asked = replace(NO_RESOURCES, **takes)
    check(limits, held, slots=0, gpu_share=Fraction(0), full_gpu=False, takes=asked)


def refuse(held: Holdings = HELD, *, limits: Limits = LIMITS, **takes: float | None) -> str:
    with pytest.raises(LimitExceeded) as refused:
        measure(held, limits=limits, **takes)
    return str(refused.value)


# The file


@pytest.mark.parametrize(
    ("user", "groups", "aggregate"),
    [
        ("sam", [], STUDENT),
        ("ada", [], RESEARCHER),
        ("sam", ["researcher"], RESEARCHER),
        ("sam", ["admin"], UNLIMITED),
        # As DS01 does it, an override without the section leaves that of her group.
        ("kim", [], RESEARCHER),
        # A section counts as a whole: nothing of her group's is left.
        ("lou", [], Resources(pids=100)),
        ("eve", [], UNLIMITED),
    ],
)
def test_the_nearest_section_counts_as_a_whole(user: str, groups: list[str], aggregate: Resources) -> None:
    assert get(FILE, user, *groups).aggregate == aggregate


def test_the_defaults_hold_for_whom_no_nearer_section_says_anything_else() -> None:
    text = (
        "defaults: {aggregate: {tasks_max: 9}}\ngroups: {lab: {}, free: {aggregate: }, few: {aggregate: {}}}"
    )
    assert [get(text, "sam", group).aggregate.pids for group in ("lab", "free", "few")] == [9, None, None]


@pytest.mark.parametrize(
    ("user", "groups", "share"),
    [("sam", [], 1), ("ada", [], 3), ("sam", ["admin"], None), ("kim", [], 1), ("lou", [], 1)],
)
def test_of_the_two_limits_of_the_gpu_share_the_lower_one_holds(
    user: str, groups: list[str], share: int | None
) -> None:
    assert get(FILE, user, *groups).gpu_share == share


def test_a_share_of_the_aggregate_bounds_an_unlimited_one() -> None:
    text = "defaults: {max_gpu_equivalents: null, aggregate: {gpu_limit: 2/7}}"
    assert get(text).gpu_share == Fraction(2, 7)
    assert get(text.replace("2/7", "unlimited")).gpu_share is None


@pytest.mark.parametrize(
    ("line", "aggregate"),
    [
        ("cpu_quota: 150%", Resources(cpus=1.5)),
        ("cpu_quota: '12.5 %'", Resources(cpus=0.125)),
        ("cpu_quota: null", UNLIMITED),
        ("memory_max: 512M", Resources(memory=512 * 1024**2)),
        ("memory_max: 1T", Resources(memory=1024 * GIB)),
        ("memory_max: infinity", UNLIMITED),
        ("tasks_max: '4096'", Resources(pids=4096)),
        ("tasks_max: infinity", UNLIMITED),
    ],
)
def test_values_are_those_of_systemd(line: str, aggregate: Resources) -> None:
    assert get(f"defaults: {{aggregate: {{{line}}}}}").aggregate == aggregate


def test_the_example_that_is_commented_out_can_be_used() -> None:
    commented = EXAMPLE.read_text()
    example = re.sub(r"^  # (aggregate:|  [a-z_]+: )", r"  \1", commented, flags=re.MULTILINE)
    limits = get(example, "sam")
    assert limits.aggregate == Resources(cpus=16, memory=64 * GIB, pids=8192)
    assert limits.aggregate != get(commented, "sam").aggregate


@pytest.mark.parametrize(
    "line",
    [
        "cpu_quota: 800",
        "cpu_quota: 0%",
        "cpu_quota: -100%",
        "cpu_quota: many%",
        "cpu_quota: infinity",
        "memory_max: 50%",
        "memory_max: 1k",
        "memory_max: 9000p",
        "tasks_max: 0",
        "tasks_max: 40%",
        "tasks_max: 9223372036854775808",
        "gpu_limit: all",
        "gpu_limit: -1",
    ],
)
def test_value_that_means_nothing_is_an_error_that_names_the_key(line: str) -> None:
    with pytest.raises(LimitsBroken, match=rf"`{line.partition(':')[0]}: .* in groups.lab.aggregate is not "):
        load_limits(f"groups: {{lab: {{aggregate: {{{line}}}}}}}")


def test_unknown_key_names_the_nearest() -> None:
    with pytest.raises(
        LimitsBroken, match=r"`max_memory` in defaults\.aggregate; the nearest one is `memory_"
    ):
        load_limits("defaults: {aggregate: {max_memory: 4g}}")
    with pytest.raises(LimitsBroken, match=r"defaults\.aggregate is not a section"):
        load_limits("defaults: {aggregate: 4g}")


@pytest.mark.parametrize(
    ("user", "groups", "unenforced"),
    [
        (
            "sam",
            [],
            {
                "storage_data": "200G",
                "storage_workspace": "100G",
                "max_tasks": "32768",
                "aggregate.memory_high": "86G",
            },
        ),
        ("ada", [], {"storage_data": "1T", "storage_workspace": "100G", "aggregate.memory_high": "288G"}),
        (
            "kim",
            [],
            {
                "storage_data": "200G",
                "storage_workspace": "100G",
                "max_tasks": "32768",
                "aggregate.memory_high": "288G",
            },
        ),
        ("sam", ["admin"], {"storage_data": "200G", "storage_workspace": "100G", "max_tasks": "32768"}),
    ],
)
def test_what_only_the_system_can_enforce_is_listed_for_each_person(
    user: str, groups: list[str], unenforced: dict[str, str]
) -> None:
    assert list_unenforced(load_limits(FILE), user, groups) == unenforced


def test_what_only_the_system_can_enforce_is_unused_in_the_file() -> None:
    assert set(load_limits(FILE).unused) == {
        "defaults.storage_data",
        "defaults.storage_workspace",
        "defaults.max_tasks",
        "groups.student.aggregate.memory_high",
        "groups.researcher.aggregate.memory_high",
        "groups.researcher.storage_data",
        "groups.researcher.max_tasks",
    }


# One server


@pytest.mark.parametrize(
    ("together", "bounded"),
    [
        (UNLIMITED, Resources(cpus=8, memory=32 * GIB, pids=4096)),
        (Resources(cpus=16, memory=80 * GIB, pids=12288), Resources(cpus=8, memory=32 * GIB, pids=4096)),
        (Resources(cpus=0.5, memory=GIB, pids=1), Resources(cpus=0.5, memory=GIB, pids=1)),
    ],
)
def test_no_server_may_take_more_than_all_together(together: Resources, bounded: Resources) -> None:
    limits = replace(LIMITS, aggregate=together)
    assert bound(limits).per_container == bounded
    assert bound(limits).aggregate == together


def test_a_server_without_limits_of_its_own_gets_those_of_all_together_from_docker() -> None:
    text = "defaults: {max_cpus: null, memory: null, pids_limit: null, shm_size: 1g, aggregate: AGGREGATE}"
    limits = get(text.replace("AGGREGATE", "{cpu_quota: 400%, memory_max: 8G, tasks_max: 100}"))
    assert create_limits(bound(limits), "") == {
        "nano_cpus": 4_000_000_000,
        "mem_limit": 8 * GIB,
        "memswap_limit": -1,
        "shm_size": GIB,
        "pids_limit": 100,
        "tmpfs": {"/tmp": f"exec,mode=1777,size={4 * GIB}"},
    }


def test_less_memory_for_one_server_means_no_more_swap_than_before() -> None:
    limits = bound(replace(LIMITS, memory_swap=34 * GIB, aggregate=Resources(memory=8 * GIB)))
    assert (limits.memory, limits.memory_swap) == (8 * GIB, 10 * GIB)


def test_asking_for_more_than_all_together_is_refused_with_that_limit() -> None:
    with pytest.raises(LimitExceeded, match="ask for 20 CPUs; your limit is 16"):
        lower(bound(replace(LIMITS, cpus=None)), cpus=20)


def test_docker_args_know_nothing_of_it_as_in_ds01() -> None:
    without = load_limits(FILE.replace('cpu_quota: "9600%"', 'cpu_quota: "100%"'))
    assert docker_args(limits_for(without, "sam")) == docker_args(get("defaults: {max_cpus: 32}"))


# The sum


def test_parts_add_up_without_a_rest_and_without_a_limit_to_none() -> None:
    tenth = Resources(cpus=0.1, memory=1, pids=2)
    assert sum([tenth] * 3, start=NO_RESOURCES) == Resources(cpus=0.3, memory=3, pids=6)
    assert tenth + Resources(memory=1) == Resources(memory=2)


@pytest.mark.parametrize(
    "takes",
    [
        {},
        {"cpus": 4},
        {"memory": 40 * GIB},
        {"pids": 4096},
        {"cpus": 4, "memory": 40 * GIB, "pids": 4096},
    ],
)
def test_what_fits_exactly_is_started(takes: dict[str, float]) -> None:
    measure(**takes)


@pytest.mark.parametrize(
    ("takes", "sentence"),
    [
        (
            {"cpus": 8},
            "You hold 12 CPUs in 2 servers and ask for 8 more; together your limit is 16. "
            "Lower this server's CPUs to 4, or stop a server that you do not need.",
        ),
        (
            {"memory": 41 * GIB},
            "You hold 40g of memory in 2 servers and ask for 41g more; together your limit is 80g. "
            "Lower this server's memory to 40g, or stop a server that you do not need.",
        ),
        (
            {"pids": 4097},
            "You hold 8192 processes in 2 servers and ask for 4097 more; together your limit is 12288. "
            "Lower this server's processes to 4096, or stop a server that you do not need.",
        ),
        (
            {"cpus": 4.5, "memory": 64 * GIB, "pids": 4096},
            "You hold 12 CPUs in 2 servers and ask for 4.5 more; together your limit is 16. "
            "You hold 40g of memory in 2 servers and ask for 64g more; together your limit is 80g. "
            "Lower this server's CPUs to 4 and memory to 40g, or stop a server that you do not need.",
        ),
    ],
)
def test_what_is_too_much_is_refused_with_the_sum_and_what_would_fit(
    takes: dict[str, float], sentence: str
) -> None:
    assert refuse(**takes) == sentence


def test_what_was_refused_fits_once_it_is_lowered_as_the_sentence_says() -> None:
    with pytest.raises(LimitExceeded):
        check(LIMITS, HELD, slots=0, gpu_share=Fraction(0), full_gpu=False, takes=LIMITS.per_container)
    lowered = lower(LIMITS, cpus=4)
    check(LIMITS, HELD, slots=0, gpu_share=Fraction(0), full_gpu=False, takes=lowered.per_container)


@pytest.mark.parametrize(
    "held",
    [
        Resources(cpus=16, memory=0, pids=0),
        # Too little is left for any server of Docker's.
        Resources(cpus=15.995, memory=0, pids=0),
        # The limit was lowered since.
        Resources(cpus=24, memory=0, pids=0),
    ],
)
def test_where_nothing_is_left_only_a_stop_helps(held: Resources) -> None:
    said = refuse(Holdings(containers=1, takes=held), cpus=1)
    assert said.endswith("together your limit is 16. Stop a server that you do not need, then try again.")


def test_what_nobody_knows_a_limit_of_counts_as_all_of_it() -> None:
    held = Holdings(containers=1, takes=Resources(cpus=None, memory=GIB, pids=1))
    assert refuse(held, cpus=1) == (
        "Nobody knows a limit of CPUs for one of your servers, so it counts as all of the 16 that you may "
        "have together. Stop a server that you do not need, then try again."
    )
    measure(held, memory=GIB)


def test_a_server_without_a_limit_fits_only_where_nothing_else_is_held() -> None:
    measure(Holdings(), cpus=None)
    assert "You hold 12 CPUs in 2 servers and ask for 16 more" in refuse(cpus=None)


def test_without_an_aggregate_nothing_is_added_up() -> None:
    free = replace(LIMITS, aggregate=UNLIMITED)
    measure(replace(HELD, takes=UNLIMITED), limits=free, cpus=None, memory=None, pids=None)
    measure(limits=replace(LIMITS, aggregate=Resources(pids=12288)), cpus=1000)


def test_slots_without_a_server_take_nothing_however_much_is_held() -> None:
    measure(Holdings(containers=1, takes=UNLIMITED))
    measure(Holdings(containers=1, takes=Resources(cpus=99, memory=999 * GIB, pids=99999)))

"""The AIME contract on plain values: names, labels, create arguments, and what others' tools gave."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01_spawner.errors import RequestRefused
from ds01_spawner.mlc import (
    ContainerPlan,
    container_name,
    create_kwargs,
    device_requests,
    fingerprint,
    from_inspect,
    image_name,
    labels,
    look_labels,
    pinned_devices,
    project_name,
)
from ds01_spawner.model import Account, Container, Mount

ADA = Account(name="ada", uid=3001, gid=3100, home=PurePosixPath("/home/ada"))
SLICES = ("MIG-5a1e", "MIG-5a1f")
PLAN = ContainerPlan(
    name="vision._.3001",
    project="vision",
    account=ADA,
    image="vision-ada-image:3001",
    framework="Pytorch-2.8.0-aime",
    architecture="CUDA_ADA",
    custom_image="",
    nonce="0f0f",
    command=("python", "-m", "server"),
    port=8888,
    network="ds01",
    device_mode="cdi",
    devices=SLICES,
    mounts=(
        Mount(source="/home/ada/work", target="/workspace", device=1, inode=2),
        Mount(source="/srv/datasets", target="/data", device=1, inode=3, read_only=True),
    ),
    environment={"JUPYTERHUB_USER": "ada", "NVIDIA_VISIBLE_DEVICES": "all"},
    limits={"nano_cpus": 8_000_000_000, "cgroup_parent": "ds01-student.slice"},
    ulimits={"memlock": -1},
    group_ids=(44,),
)

# Short names of few letters, so that two of them are often near each other.
names = st.text(alphabet="aB1-_. é", max_size=5) | st.text(max_size=40)
servers = names.filter(lambda name: name != "jupyter")
uids = st.integers(1000, 1002)


def test_default_server_is_named_jupyter() -> None:
    assert project_name("") == "jupyter"
    assert container_name("", 3001) == "jupyter._.3001"


def test_name_of_the_default_server_is_reserved() -> None:
    with pytest.raises(RequestRefused, match="'jupyter' is reserved"):
        project_name("jupyter")


@pytest.mark.parametrize("slug", ["a", "vision", "my-thesis-2", "x" * 30])
def test_slug_stands_for_itself(slug: str) -> None:
    assert project_name(slug) == slug


@pytest.mark.parametrize(
    ("server", "readable"),
    [
        ("Vision", "vision_"),
        ("Jupyter", "jupyter_"),
        ("my thesis/2", "my-thesis-2_"),
        ("ends-", "ends_"),
        ("2fast", "2fast_"),
        ("../../etc", "etc_"),
        ("日本", "server_"),
        ("x" * 29 + " y", "x" * 29 + "_"),
    ],
)
def test_odd_name_keeps_its_readable_part(server: str, readable: str) -> None:
    assert re.fullmatch(re.escape(readable) + "[0-9a-f]{8}", project_name(server))


@given(servers, servers)
def test_two_servers_never_meet_in_one_name(one: str, other: str) -> None:
    assert (project_name(one) == project_name(other)) == (one == other)


@given(servers)
def test_every_name_is_one_that_docker_and_aime_take(server: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_-]*", project_name(server))


@given(servers, servers, names, names, uids, uids)
def test_two_containers_never_meet_in_one_image_name(
    one: str, other: str, ada: str, bob: str, adas: int, bobs: int
) -> None:
    hers, his = container_name(one, adas), container_name(other, bobs)
    if hers != his:
        # Two people have two UIDs; whoever has one UID has one name.
        assert image_name(hers, ada) != image_name(his, ada if adas == bobs else bob)


@given(servers, names, uids)
def test_every_image_name_is_one_that_docker_takes(server: str, user: str, uid: int) -> None:
    image = image_name(container_name(server, uid), user)
    assert re.fullmatch(r"[a-z0-9]+(?:(?:_|-+)[a-z0-9]+)*:[0-9]+", image)


def test_image_name_is_project_user_and_uid() -> None:
    assert image_name("vision._.3001", "Ada.L@lab") == "vision-ada-l-lab-image:3001"
    assert image_name("jupyter._.3001", "日本") == "jupyter-user-image:3001"


def test_labels_are_those_of_aime() -> None:
    assert labels(PLAN) == {
        "aime.mlc": "ada",
        "aime.mlc.NAME": "vision",
        "aime.mlc.USER": "ada",
        "aime.mlc.ARCH": "CUDA_ADA",
        "aime.mlc.MLC_VERSION": "4",
        "aime.mlc.VERSION": "4",
        "aime.mlc.WORK_MOUNT": "/home/ada/work",
        "aime.mlc.DATA_MOUNT": "/srv/datasets",
        "aime.mlc.MODELS_MOUNT": "-",
        "aime.mlc.FRAMEWORK": "Pytorch-2.8.0-aime",
        "aime.mlc.GPUS": "MIG-5a1e;MIG-5a1f",
        "aime.mlc.CUSTOM_IMAGE": "",
        "aime.mlc.DS01_MANAGED": "true",
        "aime.mlc.DS01_LEASE": "0f0f",
    }


def test_server_without_gpu_architecture_and_mounts_says_so_with_a_dash() -> None:
    found = labels(replace(PLAN, devices=(), architecture="", mounts=()))
    assert [found[f"aime.mlc.{key}"] for key in ("GPUS", "ARCH", "WORK_MOUNT")] == ["-", "-", "-"]


def test_name_that_an_image_brings_gives_way_to_her_own() -> None:
    image_labels = {"aime.mlc": "bob", "aime.mlc.USER": "bob", "aime.mlc.DS01_LEASE": "stolen"}
    assert labels(replace(PLAN, image_labels=image_labels)) == labels(PLAN)


def test_label_of_the_image_is_left_alone_unless_it_is_aimes_or_has_a_comma() -> None:
    image_labels = {"vendor": "NVIDIA", "authors": "one, two", "aime.mlc.MAINTAINER": "lab"}
    found = labels(replace(PLAN, image_labels=image_labels))
    inherited = {name: value for name, value in found.items() if name not in labels(PLAN)}
    assert inherited == {"authors": "one; two", "aime.mlc.MAINTAINER": "lab"}


@pytest.mark.parametrize("name", ["one,two", "a=b", "x=1,aime.mlc.USER"])
def test_image_with_a_label_whose_name_would_break_the_list_is_refused(name: str) -> None:
    with pytest.raises(RequestRefused, match="comma or an equals sign"):
        labels(replace(PLAN, image_labels={"vendor": "NVIDIA", name: "value"}))


def test_container_that_looks_into_an_image_is_nobodys() -> None:
    image_labels = {"aime.mlc": "bob", "aime.mlc.USER": "bob", "authors": "one, two", "aime.mlcs": "kept"}
    assert look_labels(image_labels, "hub") == {
        "aime.mlc": "-",
        "aime.mlc.USER": "-",
        "authors": "one; two",
        "aime.mlcs": "kept",
        "aime.mlc.DS01_LOOK": "hub",
    }
    with pytest.raises(RequestRefused, match="comma or an equals sign"):
        look_labels({"one,two": "value"}, "hub")


label_names = st.text(st.characters(exclude_characters=",="), max_size=10)


@given(
    st.dictionaries(label_names, st.text(alphabet="a,;", max_size=5)),
    st.lists(st.text(alphabet="a,", max_size=5)),
    st.text(alphabet="a,/", max_size=5),
)
def test_no_label_has_a_comma(image_labels: dict[str, str], devices: list[str], odd: str) -> None:
    plan = replace(
        PLAN,
        account=replace(ADA, name=odd),
        framework=odd,
        custom_image=odd,
        devices=tuple(devices),
        mounts=(Mount(source=odd, target="/models", device=1, inode=2),),
        image_labels=image_labels,
    )
    inherited = image_labels | labels(plan)
    assert not [value for value in inherited.values() if "," in value]


def test_create_arguments_are_the_contract() -> None:
    assert create_kwargs(PLAN) == {
        "image": "vision-ada-image:3001",
        "name": "vision._.3001",
        "command": ["python", "-m", "server"],
        "entrypoint": [],
        "environment": {"JUPYTERHUB_USER": "ada", "NVIDIA_VISIBLE_DEVICES": "void"},
        "labels": labels(PLAN),
        "user": "3001:3100",
        "working_dir": "/workspace",
        "ports": {"8888/tcp": None},
        "tty": False,
        "stdin_open": False,
        "host_config": {
            "init": True,
            "auto_remove": False,
            "log_config": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
            "network_mode": "ds01",
            "mounts": [
                {"Type": "bind", "Source": "/home/ada/work", "Target": "/workspace", "ReadOnly": False},
                {"Type": "bind", "Source": "/srv/datasets", "Target": "/data", "ReadOnly": True},
            ],
            "device_requests": [
                {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=MIG-5a1e", "nvidia.com/gpu=MIG-5a1f"]}
            ],
            "ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}],
            "group_add": ["44"],
            "privileged": False,
            "nano_cpus": 8_000_000_000,
            "cgroup_parent": "ds01-student.slice",
            "security_opt": ["no-new-privileges"],
            "cap_drop": ["ALL"],
        },
    }


def host_config(plan: ContainerPlan) -> dict[str, object]:
    config = create_kwargs(plan)["host_config"]
    assert isinstance(config, dict)
    return config


@pytest.mark.parametrize("plan", [replace(PLAN, allow_sudo=True), replace(PLAN, privileged=True)])
def test_sudo_and_privileged_need_the_capabilities(plan: ContainerPlan) -> None:
    assert not {"security_opt", "cap_drop"} & host_config(plan).keys()


def test_sudo_alone_is_not_privileged() -> None:
    assert host_config(replace(PLAN, allow_sudo=True))["privileged"] is False


def test_ipc_of_the_host_is_given_only_where_the_plan_says_so() -> None:
    assert "ipc_mode" not in host_config(PLAN)
    assert host_config(replace(PLAN, host_ipc=True))["ipc_mode"] == "host"


def test_mount_that_would_ask_for_gpus_is_refused() -> None:
    sneaky = Mount(source="/home/ada", target="/var/run/nvidia-container-devices/all", device=1, inode=2)
    with pytest.raises(RequestRefused, match="Choose another place"):
        create_kwargs(replace(PLAN, mounts=(sneaky,)))


def test_cdi_names_each_device() -> None:
    assert device_requests("cdi", SLICES) == [
        {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=MIG-5a1e", "nvidia.com/gpu=MIG-5a1f"]}
    ]


def test_legacy_hook_gets_one_request_for_all_devices() -> None:
    assert device_requests("nvidia", SLICES) == [
        {"Driver": "nvidia", "DeviceIDs": ["MIG-5a1e", "MIG-5a1f"], "Capabilities": [["gpu"]]}
    ]


def test_simulated_devices_are_not_handed_over() -> None:
    assert device_requests("none", SLICES) == []


@pytest.mark.parametrize("mode", ["cdi", "nvidia", "none"])
def test_server_without_a_slot_asks_for_no_device(mode: str) -> None:
    assert device_requests(mode, ()) == []


def test_fresh_token_and_nonce_leave_the_fingerprint_as_it_is() -> None:
    again = replace(PLAN, nonce="e1e1", environment={"JUPYTERHUB_API_TOKEN": "new"})
    assert fingerprint(again, "sha256:aa") == fingerprint(PLAN, "sha256:aa")


def test_order_of_a_mapping_does_not_change_the_fingerprint() -> None:
    turned = replace(PLAN, limits=dict(reversed(list(PLAN.limits.items()))))
    assert fingerprint(turned, "sha256:aa") == fingerprint(PLAN, "sha256:aa")


def test_other_image_devices_limits_or_directories_change_the_fingerprint() -> None:
    swapped = (replace(PLAN.mounts[0], inode=99), PLAN.mounts[1])
    plans = [
        PLAN,
        replace(PLAN, devices=SLICES[:1]),
        replace(PLAN, limits={"nano_cpus": 1}),
        replace(PLAN, mounts=PLAN.mounts[:1]),
        replace(PLAN, mounts=swapped),
        replace(PLAN, allow_sudo=True),
    ]
    found = {fingerprint(PLAN, "sha256:bb"), *(fingerprint(plan, "sha256:aa") for plan in plans)}
    assert len(found) == 7


def request(**request: object) -> dict[str, object]:
    """What `docker inspect` shows of a container with one device request."""
    return {"HostConfig": {"DeviceRequests": [request]}}


def runtime(*env: str, name: str = "nvidia") -> dict[str, object]:
    """What `docker inspect` shows of a container that was given GPUs by its environment."""
    return {"HostConfig": {"Runtime": name, "DeviceRequests": None}, "Config": {"Env": list(env)}}


@pytest.mark.parametrize(
    ("inspected", "devices"),
    [
        pytest.param(request(Driver="", Count=-1, Capabilities=[["gpu"]]), ("all",), id="--gpus all"),
        pytest.param(request(Driver="", Count=2, Capabilities=[["gpu"]]), ("0", "1"), id="--gpus 2"),
        pytest.param(request(Driver="", Count=0, DeviceIDs=["0:1"]), ("0:1",), id="--gpus device=0:1"),
        pytest.param(
            request(Driver="", Count=0, DeviceIDs=["MIG-a", "GPU-b"]), ("MIG-a", "GPU-b"), id="UUIDs"
        ),
        pytest.param(request(Driver="nvidia", Count=-1, DeviceIDs=None), ("all",), id="driver nvidia, all"),
        pytest.param(request(Driver="nvidia", DeviceIDs=["3"]), ("3",), id="driver nvidia, index"),
        pytest.param(request(Driver="cdi", DeviceIDs=["nvidia.com/gpu=0:1"]), ("0:1",), id="CDI, index"),
        pytest.param(request(Driver="cdi", DeviceIDs=["nvidia.com/gpu=all"]), ("all",), id="CDI, all"),
        pytest.param(request(Driver="amd", Count=-1), (), id="another vendor's driver"),
        pytest.param(runtime("NVIDIA_VISIBLE_DEVICES=MIG-a,MIG-b"), ("MIG-a", "MIG-b"), id="DS01, several"),
        pytest.param(runtime("A=1", "NVIDIA_VISIBLE_DEVICES=all"), ("all",), id="the image's own all"),
        pytest.param(runtime("NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=1"), ("1",), id="runtime, CDI name"),
        pytest.param(runtime("NVIDIA_VISIBLE_DEVICES=0, 1,"), ("0", "1"), id="runtime, spaces"),
        pytest.param(
            runtime("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=void"), (), id="last entry holds"
        ),
        pytest.param(runtime("NVIDIA_VISIBLE_DEVICES=void"), (), id="void"),
        pytest.param(runtime("NVIDIA_VISIBLE_DEVICES=none"), (), id="none"),
        pytest.param(runtime("NVIDIA_VISIBLE_DEVICES="), (), id="empty"),
        pytest.param(runtime("PATH=/bin"), (), id="runtime without the variable"),
        pytest.param(
            runtime("NVIDIA_VISIBLE_DEVICES=all", name="runc"), (), id="another runtime reads no variable"
        ),
        pytest.param(
            {"HostConfig": {"Devices": [{"PathOnHost": "/dev/nvidia1"}, {"PathOnHost": "/dev/nvidiactl"}]}},
            ("1",),
            id="--device",
        ),
        pytest.param(
            {"HostConfig": {"DeviceRequests": None, "Devices": None}, "Config": {}}, (), id="nothing"
        ),
        pytest.param({}, (), id="an empty answer"),
    ],
)
def test_devices_are_read_in_every_form_in_which_others_give_them(
    inspected: dict[str, object], devices: tuple[str, ...]
) -> None:
    assert pinned_devices(inspected) == devices


def test_device_that_was_given_twice_is_read_once() -> None:
    inspected = {
        "HostConfig": {
            "Runtime": "nvidia",
            "DeviceRequests": [{"Driver": "nvidia", "DeviceIDs": ["0"]}],
            "Devices": [{"PathOnHost": "/dev/nvidia0"}],
        },
        "Config": {"Env": ["NVIDIA_VISIBLE_DEVICES=0"]},
    }
    assert pinned_devices(inspected) == ("0",)


def test_our_own_devices_are_read_back_as_they_were_asked_for() -> None:
    for mode in ("cdi", "nvidia"):
        inspected = {"HostConfig": {"DeviceRequests": device_requests(mode, SLICES)}}
        assert pinned_devices(inspected) == SLICES


def test_inspected_container_is_read_whole() -> None:
    inspected = {
        "Id": "abc",
        "Name": "/vision._.3001",
        "Image": "sha256:aa",
        "State": {"Status": "exited", "ExitCode": 137},
        "Config": {"Image": "vision-ada-image:3001", "Labels": {"aime.mlc.DS01_LEASE": "0f0f"}},
        "HostConfig": {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=MIG-a"]}]},
    }
    assert from_inspect(inspected) == Container(
        id="abc",
        name="vision._.3001",
        image="vision-ada-image:3001",
        state="exited",
        labels={"aime.mlc.DS01_LEASE": "0f0f"},
        nonce="0f0f",
        devices=("MIG-a",),
        exit_code=137,
    )


def test_foreign_container_without_labels_has_no_nonce() -> None:
    found = from_inspect(
        {"Id": "abc", "Name": "/db", "Config": {"Labels": None}, "State": {"Status": "created"}}
    )
    assert (found.name, found.nonce, found.labels, found.devices) == ("db", "", {}, ())


@pytest.mark.parametrize(
    ("name", "looker"), [("/ds01-look-0f0f", "hub"), ("/mine", ""), ("/my-ds01-look-0f0f", "")]
)
def test_container_that_looks_into_an_image_has_the_name_and_the_label_of_one(name: str, looker: str) -> None:
    labels = {"aime.mlc.DS01_LOOK": "hub"}
    found = from_inspect(
        {"Id": "c", "Name": name, "Config": {"Labels": labels}, "State": {"Status": "created"}}
    )
    assert found.looker == looker

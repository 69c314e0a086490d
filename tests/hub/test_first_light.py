"""The thread from the login page to a kernel in a leased container, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from .hub import Hub
from .lab import FRAMEWORK, VERSION, Person
from .student import Student

# What she finds there, printed as JSON; cgroups of both versions.
LOOK_AROUND = """
import glob, grp, json, os, pathlib, pwd, subprocess, sys

def first_word(*paths):
    found = [pathlib.Path(path) for path in paths if pathlib.Path(path).exists()]
    return found[0].read_text().split()[0]

def say(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
me = pwd.getpwuid(os.getuid())
pathlib.Path("/workspace/from-inside").write_text("written in the container")
program = pathlib.Path("/tmp/program")
program.write_text("#!/bin/sh\\necho it runs")
program.chmod(0o755)
shm, tmp = os.statvfs("/dev/shm"), os.statvfs("/tmp")
version_2 = pathlib.Path("/sys/fs/cgroup/cpu.max")
cpu = version_2.read_text().split() if version_2.exists() else [
    first_word("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), first_word("/sys/fs/cgroup/cpu/cpu.cfs_period_us")]
nodes = glob.glob("/dev/nvidia*") + glob.glob("/dev/nvidia-caps/*")
print(json.dumps({
    "ids": [os.getuid(), os.getgid(), os.getgroups()],
    "names": [me.pw_name, grp.getgrgid(os.getgid()).gr_name, say("whoami"), os.environ["USER"]],
    "homes": [me.pw_dir, os.environ["HOME"]],
    "directory": os.getcwd(),
    "from the host": pathlib.Path("/workspace/from-host").read_text(),
    "device nodes": sorted(node for node in nodes if not os.path.isdir(node)),
    "visible devices": os.environ["NVIDIA_VISIBLE_DEVICES"],
    "memory": int(first_word("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max")),
    "processes": int(first_word("/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max")),
    "CPUs": int(cpu[0]) / int(cpu[1]),
    "shared memory": shm.f_blocks * shm.f_frsize,
    "/tmp": [tmp.f_blocks * tmp.f_frsize, say("/tmp/program")],
    "NoNewPrivs": int(status["NoNewPrivs"]),
    "capabilities": [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")],
    "python": [sys.executable, sys.prefix],
}))
"""


def leave_a_file(person: Person) -> None:
    person.workspace.mkdir()
    file = person.workspace / "from-host"
    file.write_text("written on the host")
    for path in (person.workspace, file):
        os.chown(path, person.uid, person.uid)


def check_inside(found: dict[str, Any], person: Person, device_nodes: list[str]) -> None:
    python, prefix = found.pop("python")
    assert not python.startswith("/opt/ds01/hub")
    assert not prefix.startswith("/opt/ds01/hub")
    home = f"/home/{person.name}"
    assert found == {
        "ids": [person.uid, person.uid, [person.uid]],
        "names": [person.name] * 4,
        "homes": [home, home],
        "directory": "/workspace",
        "from the host": "written on the host",
        "device nodes": device_nodes,
        "visible devices": "void",
        "memory": 1024**3,
        "processes": 300,
        "CPUs": 1.5,
        "shared memory": 192 * 1024**2,
        "/tmp": [96 * 1024**2, "it runs"],
        "NoNewPrivs": 1,
        "capabilities": [0, 0, 0],
    }


def check_outside(inspected: dict[str, Any], hub: Hub, person: Person, slot: str, nonce: str) -> None:
    assert inspected["Name"] == f"/jupyter._.{person.uid}"
    host = inspected["HostConfig"]
    assert host["Init"] is True
    assert host["AutoRemove"] is False
    assert host["Privileged"] is False
    assert host["NetworkMode"] == hub.lab.name
    assert host["CgroupParent"] == "ds01-student.slice"
    assert [request["DeviceIDs"] for request in host["DeviceRequests"]] == [[f"nvidia.com/gpu={slot}"]]
    labels = inspected["Config"]["Labels"]
    assert not [name for name, value in labels.items() if "," in value]
    assert labels == {
        "aime.mlc": person.name,
        "aime.mlc.NAME": "jupyter",
        "aime.mlc.USER": person.name,
        "aime.mlc.ARCH": "CUDA_ADA",
        "aime.mlc.MLC_VERSION": "4",
        "aime.mlc.VERSION": "4",
        "aime.mlc.WORK_MOUNT": str(person.workspace),
        "aime.mlc.DATA_MOUNT": "-",
        "aime.mlc.MODELS_MOUNT": "-",
        "aime.mlc.FRAMEWORK": f"{FRAMEWORK}-{VERSION}",
        "aime.mlc.GPUS": slot,
        "aime.mlc.CUSTOM_IMAGE": "",
        "aime.mlc.BASE_IMAGE": hub.lab.base.image,
        "aime.mlc.MAINTAINER": "DS01",
        "aime.mlc.MAINTAINER_ID": "0",
        "aime.mlc.DS01_MANAGED": "true",
        "aime.mlc.DS01_LEASE": nonce,
    }


def test_a_student_signs_in_posts_the_form_works_on_her_slice_and_stops(hub: Hub, student: Student) -> None:
    person = student.person
    leave_a_file(person)
    assert "1g.10gb" in student.form().text
    assert student.post_form({"profile": "small"}).status_code == 200
    student.wait_ready()
    assert student.page(f"/user/{student.name}/lab").status_code == 200

    (lease,) = hub.leases(person)
    assert (lease.state.value, lease.server, len(lease.slots)) == ("active", "", 1)
    inspected = hub.container(person)
    assert lease.container_id == inspected["Id"]
    check_outside(inspected, hub, person, lease.slots[0], lease.nonce)
    device_nodes = hub.lab.device_nodes(lease.slots)
    assert len(device_nodes) == 3
    check_inside(json.loads(student.run(LOOK_AROUND)), person, device_nodes)
    written = person.workspace / "from-inside"
    assert written.read_text() == "written in the container"
    assert (written.stat().st_uid, written.stat().st_gid) == (person.uid, person.uid)
    assert hub.tags(person) == [f"jupyter-{person.name}-image:{person.uid}"]

    student.stop()
    assert hub.traces(person) == {}
    with hub.ledger() as ledger:
        assert lease.slots[0] not in ledger.view(person.name).taken


def test_a_server_without_a_gpu_sees_none_and_has_a_lease(hub: Hub, student: Student) -> None:
    student.start({"profile": "cpu"})
    assert not hub.container(student.person)["HostConfig"]["DeviceRequests"]
    assert json.loads(student.run("import glob, json; print(json.dumps(glob.glob('/dev/nvidia*')))")) == []
    assert [lease.slots for lease in hub.leases(student.person)] == [()]


def test_a_home_stays_when_its_container_goes(hub: Hub, student: Student) -> None:
    student.start()
    student.run("import pathlib; (pathlib.Path.home() / 'notes').write_text('kept')")
    student.stop()
    assert hub.traces(student.person) == {}
    student.start()
    assert student.run("import pathlib; print((pathlib.Path.home() / 'notes').read_text())") == "kept\n"


def test_a_named_server_runs_beside_the_default_one(hub: Hub, student: Student) -> None:
    student.start()
    student.start({"profile": "small"}, server="second")
    uid = student.person.uid
    names = sorted(inspected["Name"] for inspected in hub.containers(student.person))
    assert names == [f"/jupyter._.{uid}", f"/second._.{uid}"]
    assert student.run("print('here')", server="second") == "here\n"
    student.stop("second")
    assert [lease.server for lease in hub.leases(student.person)] == [""]


def test_containers_of_two_students_do_not_reach_each_other(
    hub: Hub, newcomer: Callable[[], Student]
) -> None:
    ada, bob = newcomer(), newcomer()
    ada.start()
    bob.start()
    address = hub.container(bob.person)["NetworkSettings"]["Networks"][hub.lab.name]["IPAddress"]
    code = f"""
import socket
for host, port in (({address!r}, 8888), ({hub.gateway!r}, {hub.hub_port})):
    try:
        socket.create_connection((host, port), timeout=3).close()
        print("reached")
    except OSError:
        print("not reached")
"""
    assert ada.run(code).splitlines() == ["not reached", "reached"]

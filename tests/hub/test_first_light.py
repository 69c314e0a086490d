"""The thread from the login page to a kernel in a leased container, and back."""

from __future__ import annotations

import json
from typing import Any

import docker.errors
import pytest

from .hub import Hub
from .student import Student

INSIDE = """
import glob, grp, json, os, pathlib, pwd, subprocess, sys

def read(*paths):
    found = [pathlib.Path(path) for path in paths if pathlib.Path(path).exists()]
    return found[0].read_text().split()[0] if found else None

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
me = pwd.getpwuid(os.getuid())
pathlib.Path("/workspace/from-inside").write_text("written in the container")
program = pathlib.Path("/tmp/program")
program.write_text("#!/bin/sh\\necho ran")
program.chmod(0o755)
shm = os.statvfs("/dev/shm")
tmp = os.statvfs("/tmp")
period = read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
    "user": me.pw_name, "home": me.pw_dir, "group": grp.getgrgid(os.getgid()).gr_name,
    "whoami": subprocess.run(["whoami"], capture_output=True, text=True).stdout.strip(),
    "HOME": os.environ["HOME"], "cwd": os.getcwd(),
    "hello": pathlib.Path("/workspace/hello").read_text(),
    "devices": sorted(p for p in glob.glob("/dev/nvidia*") + glob.glob("/dev/nvidia-caps/*") if not os.path.isdir(p)),
    "memory": read("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"),
    "pids": read("/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max"),
    "cpu": pathlib.Path("/sys/fs/cgroup/cpu.max").read_text().split() if period is None
        else [read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), period],
    "shm": shm.f_blocks * shm.f_frsize, "tmp": tmp.f_blocks * tmp.f_frsize,
    "no_new_privileges": status["NoNewPrivs"].strip(), "capabilities": int(status["CapEff"], 16),
    "bounding": int(status["CapBnd"], 16),
    "tmp_runs": subprocess.run(["/tmp/program"], capture_output=True, text=True).stdout.strip(),
    "python": sys.executable, "visible": os.environ["NVIDIA_VISIBLE_DEVICES"],
}))
"""


def look_inside(student: Student) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(student.run(INSIDE))
    return found


def test_a_student_signs_in_posts_the_form_works_on_her_slice_and_stops(hub: Hub, student: Student) -> None:
    person = student.person
    person.workspace.mkdir()
    (person.workspace / "hello").write_text("from the host")
    for path in (person.workspace, person.workspace / "hello"):
        import os

        os.chown(path, person.uid, person.uid)
    form = student.form()
    assert form.status_code == 200
    assert "1g.10gb" in form.text
    posted = student.post_form({"profile": "small"})
    assert posted.status_code == 200
    student.wait_ready()
    assert student.page(f"/user/{student.name}/lab").status_code == 200
    print(json.dumps(look_inside(student), indent=1))
    print(json.dumps(hub.container(person), indent=1))
    print(hub.leases())
    student.stop()
    assert hub.traces(person) == {}

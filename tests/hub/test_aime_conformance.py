"""The calls of AIME's tools, in their order and read as they read them, on containers of each origin.

Written from what is known of the tools, not with them: versions 1 and 2 ask Docker's own client, as the
person, and decide by what it prints. docs/ssh.md shows the tools themselves.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO

import pexpect
import pytest

from ds01_spawner import mlc
from ds01_spawner.model import LeaseState

from ..conftest import heed_interrupt
from .accounts import AtShell
from .conftest import OpenHub
from .hub import Hub
from .lab import FRAMEWORK, VERSION
from .student import Student
from .waiting import wait_for

NAME = "thesis"
PROFILES = [
    {
        "display_name": "Any",
        "slug": "any",
        "default": True,
        "spawner_override": {"allow_custom_base_image": True},
    }
]
OURS = ["browser", "ds01"]
DOCKER = "/usr/bin/docker"
PROMPT = "here> "
SECONDS = 60

# What somebody may have written on an image; the second half is AIME's own, with another person's name.
ODD_LABELS = {
    "authors": "one, two,three",
    "quoted": "say \"a, b\" and 'c'",
    "lines": "first\nsecond, third",
    "equals": "a=b,c=d,",
    "empty": "",
    "only a comma": ",",
    "aime.mlc": "somebody",
    "aime.mlc.USER": "somebody",
    "aime.mlc.NAME": "theirs",
    "aime.mlc.FRAMEWORK": "Theirs-1, 2",
    "aime.mlc.WORK_MOUNT": "/a,b",
    "aime.mlc.GPUS": "GPU-a,GPU-b",
    "aime.mlc.MODELS": "x,y",
    "aime.mlc.DS01_LEASE": "stolen",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """AIME's tools as one person has them: what they ask Docker's client, and how they read its answers."""

    shell: AtShell

    @property
    def environment(self) -> dict[str, str]:
        return self.shell.environment | {"DOCKER_HOST": self.shell.hub.engine.docker_host, "TERM": "dumb"}

    def tag(self, name: str) -> str:
        return f"{name}._.{self.shell.person.uid}"

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Docker's client as her."""
        command = self.shell.command(DOCKER, *words)
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=SECONDS, cwd="/"
        )

    def read(self, *words: str) -> str:
        """Run Docker's client, which has to go well; returns what it prints."""
        done = self.ask(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    # which containers there are

    def finds(self, name: str) -> bool:
        """Version 1: one container has exactly the name, and the label."""
        tag = self.tag(name)
        return self._named(tag, "--all") == tag

    def is_running(self, name: str) -> bool:
        """Both versions: the same among those that run."""
        tag = self.tag(name)
        return self._named(tag) == tag

    def _named(self, tag: str, *more: str) -> str:
        filters = (f"--filter=name=^/{tag}$", f"--filter=label={mlc.LABEL}")
        return self.read("container", "ps", *more, *filters, "--format", "{{.Names}}")

    def own(self) -> list[str]:
        """Version 2: the names of all that carry her login, without the end that has the UID."""
        of_hers = f"label={mlc.LABEL}.USER={self.shell.name}"
        tags = self.read("container", "ps", "-a", "--filter", of_hers, "--format", "{{.Names}}")
        return [tag.partition("._.")[0] for tag in tags.splitlines()]

    # list

    def list_1(self, *, everybodys: bool = False) -> list[str]:
        """Version 1 gives Docker a table to fill: NAME, framework or person, state."""
        label = mlc.LABEL if everybodys else f"{mlc.LABEL}={self.shell.name}"
        column = f"{mlc.LABEL}.{'USER' if everybodys else 'FRAMEWORK'}"
        table = f'table [{{{{index (split .Names "._.") 0}}}}]\t{{{{.Label "{column}"}}}}\t{{{{.Status}}}}'
        printed = self.read("container", "ls", "-a", f"--filter=label={label}", "--format", table)
        return printed.splitlines()[1:]

    def list_2(self, *, everybodys: bool = False) -> list[dict[str, str]]:
        """Version 2 takes the labels apart: at every comma, then at the first `=`."""
        label = mlc.LABEL if everybodys else f"{mlc.LABEL}={self.shell.name}"
        printed = self.read("container", "ls", "-a", "--filter", f"label={label}", "--format", "{{json .}}")
        found = []
        for line in printed.splitlines():
            row = json.loads(line)
            labels = {}
            for pair in row.pop("Labels").split(","):
                key, value = pair.split("=", 1)
                labels[key] = value
            found.append(labels | row)
        return found

    # stats

    def stats(self) -> list[str]:
        """Both versions: the NAMEs of all that run and have figures."""
        printed = self.read("stats", "--no-stream", "--format", "{{json .}}")
        rows = [json.loads(line) for line in printed.splitlines()]
        assert all(row["CPUPerc"] and row["MemUsage"] and row["MemPerc"] and row["PIDs"] for row in rows)
        return [row["Name"] for row in rows]

    # open, start, stop, remove

    def open(self, name: str, version: int) -> str:
        """Open a shell, look around, and leave it; returns what was seen. Stops it if it seems idle then."""
        assert self.finds(name) if version == 1 else name in self.own()
        if not self.is_running(name):
            self.read("container", "start", self.tag(name))
        ids = f"{self.shell.person.uid}:{self.shell.person.uid}"
        words = ["exec", "-it", "-e", "DISPLAY=:0", "--user", ids, self.tag(name), "bash"]
        program, *arguments = self.shell.command(DOCKER, *words)
        terminal = pexpect.spawn(
            program,
            arguments,
            env=self.environment,
            encoding="utf-8",
            timeout=SECONDS,
            preexec_fn=heed_interrupt,
            cwd="/",
        )
        terminal.sendline(f"PS1='{PROMPT[:2]}''{PROMPT[2:]}'")
        terminal.expect(re.escape(PROMPT))
        terminal.sendline("whoami; id -u; pwd; tty")
        terminal.expect(re.escape(PROMPT))
        seen = str(terminal.before)
        terminal.sendline("exit")
        terminal.expect(pexpect.EOF)
        terminal.close()
        if not self.is_active(name, version):
            self.read("container", "stop", self.tag(name))
        return seen

    def is_active(self, name: str, version: int) -> bool:
        """On leaving a shell: a heading and one process are nothing that has to go on, and for version 1, as
        its branches for each architecture have it, two are nothing either."""
        done = self.ask("top", self.tag(name), "-o", "pid")
        return done.returncode == 0 and len(done.stdout.strip().splitlines()) > (3 if version == 1 else 2)

    def start(self, name: str) -> None:
        assert self.finds(name)
        assert not self.is_running(name)
        assert self.read("start", self.tag(name)) == self.tag(name)

    def stop(self, name: str) -> None:
        assert self.is_running(name)
        self.read("container", "stop", self.tag(name))

    def remove(self, name: str) -> None:
        """Version 2: the image names come from a filter without anchors, and go through a shell."""
        assert not self.is_running(name)
        filters = ("--filter", f"name={self.tag(name)}", "--filter", f"label={mlc.LABEL}")
        images = self.read("container", "ps", "-a", *filters, "--format", "{{.Image}}")
        self.read("container", "rm", self.tag(name))
        command = self.shell.command("/bin/sh", "-c", f"{DOCKER} image rm {images}")
        subprocess.run(command, env=self.environment, capture_output=True, timeout=SECONDS, cwd="/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A container `thesis` that somebody made, and whose it is."""

    maker: str
    hub: Hub
    student: Student
    tools: Tools

    @property
    def is_ours(self) -> bool:
        return self.maker in OURS

    def images(self) -> list[str]:
        """Return the names of images that are this container's alone."""
        uid = self.tools.shell.person.uid
        tags = [tag for image in self.hub.docker.images() for tag in image["RepoTags"] or []]
        return [tag for tag in tags if tag.endswith(f":{uid}") or tag.endswith(f"._.{uid}")]


@pytest.fixture(scope="module")
def hub(open_hub: OpenHub) -> Hub:
    """A Hub whose people are those of this machine."""
    return open_hub(settings={"DS01": {"accounts": "host"}, "DS01Spawner": {"profile_list": PROFILES}})


@contextlib.contextmanager
def labelled(hub: Hub, labels: Mapping[str, str]) -> Iterator[str]:
    """Yield the name of a base image that carries `labels`."""
    name = f"ds01-test/labels:{secrets.token_hex(4)}"
    dockerfile = BytesIO(f"FROM {hub.lab.base.image}\n".encode())
    for _ in hub.docker.build(fileobj=dockerfile, tag=name, labels=dict(labels), rm=True):
        pass
    assert hub.docker.inspect_image(name)["Config"]["Labels"] == labels
    try:
        yield name
    finally:
        hub.docker.remove_image(name, force=True)


@pytest.fixture(scope="module")
def odd_base(hub: Hub) -> Iterator[str]:
    with labelled(hub, ODD_LABELS) as name:
        yield name


@contextlib.contextmanager
def somebody(hub: Hub, *, hold: str = "1h") -> Iterator[tuple[Tools, Student]]:
    """Yield a person who may use Docker, at her shell and at her browser."""
    with hub.lab.enrol_on_host("docker") as person:
        hub.lab.set_limits(person, gpu_hold_after_stop=hold)
        student = hub.sign_in(person)
        try:
            yield Tools(shell=AtShell(hub=hub, person=person)), student
        finally:
            for server in student.model()["servers"]:
                if student.server(server):
                    student.stop(server)
            student.close()
            hub.clean(person)


@contextlib.contextmanager
def made_by(maker: str, hub: Hub, base: str, *, hold: str = "1h") -> Iterator[Made]:
    """Yield a running container `thesis` of a maker."""
    with somebody(hub, hold=hold) as (tools, student), contextlib.ExitStack() as stack:
        if maker == "browser":
            student.start({"gpu_profile": "1g.10gb", "base_image": base}, NAME)
        elif maker == "ds01":
            tools.shell.do("container", "create", NAME, "--gpu", "1g.10gb", "--image", base)
        else:
            stack.enter_context(made_by_aime(hub, tools))
        yield Made(maker=maker, hub=hub, student=student, tools=tools)


@contextlib.contextmanager
def made_by_aime(hub: Hub, tools: Tools) -> Iterator[None]:
    """Make a container as version 2 makes them: bash on a terminal, on an image of its own."""
    person, label, tag = tools.shell.person, mlc.LABEL, tools.tag(NAME)
    person.workspace.mkdir(exist_ok=True)
    hub.docker.tag(hub.lab.base.image, "ds01-test/aime", tag)
    labels = {
        label: person.name,
        f"{label}.NAME": NAME,
        f"{label}.USER": person.name,
        f"{label}.ARCH": "CUDA_ADA",
        f"{label}.MLC_VERSION": "4",
        f"{label}.WORK_MOUNT": str(person.workspace),
        f"{label}.DATA_MOUNT": "-",
        f"{label}.MODELS_MOUNT": "-",
        f"{label}.FRAMEWORK": f"{FRAMEWORK}-{VERSION}",
        f"{label}.GPUS": "all",
    }
    given = [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
    mount = f"{person.workspace}:/workspace"
    ids = f"{person.uid}:{person.uid}"
    shape = ["-it", "-v", mount, "-w", "/workspace", "--name", tag, "--user", ids, "--tmpfs", "/tmp"]
    isolation = ["--privileged", "--network", "host", "--ipc", "host"]
    try:
        tools.read("create", *shape, *isolation, *given, f"ds01-test/aime:{tag}", "bash")
        tools.read("container", "start", tag)
        yield
    finally:
        tools.ask("container", "rm", "--force", tag)
        tools.ask("image", "rm", f"ds01-test/aime:{tag}")


@pytest.fixture(params=[*OURS, "aime"])
def made(request: pytest.FixtureRequest, hub: Hub, odd_base: str) -> Iterator[Made]:
    with made_by(request.param, hub, odd_base) as found:
        yield found


@pytest.fixture(params=OURS)
def ours(request: pytest.FixtureRequest, hub: Hub, odd_base: str) -> Iterator[Made]:
    with made_by(request.param, hub, odd_base) as found:
        yield found


def test_each_list_shows_it_as_hers_and_stats_has_its_figures(made: Made) -> None:
    tools, person = made.tools, made.tools.shell.person
    (found,) = tools.list_2()
    framework = found[f"{mlc.LABEL}.FRAMEWORK"]
    assert [row.split()[:3] for row in tools.list_1()] == [[f"[{NAME}]", framework, "Up"]]
    everybodys = [row.split()[:3] for row in tools.list_1(everybodys=True)]
    assert [f"[{NAME}]", person.name, "Up"] in everybodys
    assert found["ID"] in [one["ID"] for one in tools.list_2(everybodys=True)]
    assert framework.startswith("custom-" if made.is_ours else f"{FRAMEWORK}-{VERSION}")
    shown = {key.removeprefix(f"{mlc.LABEL}."): value for key, value in found.items()}
    assert (shown["NAME"], shown["USER"], found[mlc.LABEL]) == (NAME, person.name, person.name)
    assert shown["ARCH"] == "CUDA_ADA"
    mounts = [shown[key] for key in ("WORK_MOUNT", "DATA_MOUNT", "MODELS_MOUNT")]
    assert mounts == [str(person.workspace), "-", "-"]
    assert tools.tag(NAME) in tools.stats()


@pytest.mark.parametrize("version", [1, 2])
def test_a_shell_of_ours_is_hers_and_its_end_stops_nothing(ours: Made, version: int) -> None:
    before = ours.hub.container(ours.tools.shell.person, NAME)
    seen = ours.tools.open(NAME, version).split()
    person = ours.tools.shell.person
    assert {person.name, str(person.uid), "/workspace"} <= set(seen), seen
    assert any(word.startswith("/dev/pts/") for word in seen), seen
    after = ours.hub.container(person, NAME)
    assert (after["Id"], after["State"]) == (before["Id"], before["State"])
    assert ours.student.run("print('serves')", NAME) == "serves\n"


def test_one_of_aimes_with_nothing_in_it_is_stopped_as_ever(hub: Hub, odd_base: str) -> None:
    with made_by("aime", hub, odd_base) as made:
        assert str(made.tools.shell.person.uid) in made.tools.open(NAME, 1)
        assert not made.tools.is_running(NAME)
        made.tools.open(NAME, 2)
        assert not made.tools.is_running(NAME)


def test_it_is_stopped_started_opened_and_removed(made: Made) -> None:
    hub, tools, person = made.hub, made.tools, made.tools.shell.person
    shared = hub.built_images()
    (own_image,) = made.images()
    before = hub.leases(person)
    tools.stop(NAME)
    if made.is_ours:
        made.student.wait_gone(NAME)
        (lease,) = hub.leases(person)
        assert (lease.state, lease.slots) == (LeaseState.HELD, before[0].slots)
    assert tools.own() == [NAME]
    tools.start(NAME)
    if made.is_ours:
        wait_for(lambda: made.student.server(NAME).get("ready"), "the Hub has taken it up again")
        assert hub.leases(person) == before
    tools.open(NAME, 2)
    assert tools.is_running(NAME) == made.is_ours
    if made.is_ours:
        tools.stop(NAME)
        made.student.wait_gone(NAME)
        tools.open(NAME, 1)
        wait_for(lambda: made.student.server(NAME).get("ready"), "opening it started it")
        assert hub.leases(person) == before
        tools.stop(NAME)
        made.student.wait_gone(NAME)
    assert made.images() == [own_image]
    tools.remove(NAME)
    assert (tools.own(), made.images()) == ([], [])
    wait_for(lambda: not hub.leases(person), "the lease is released")
    assert hub.built_images() == shared
    with hub.ledger() as ledger:
        assert not ledger.view(person.name).taken & {slot for lease in before for slot in lease.slots}


def test_a_restart_leaves_her_server_and_its_lease_as_they_were(ours: Made) -> None:
    hub, tools, student, person = ours.hub, ours.tools, ours.student, ours.tools.shell.person
    before, lease = hub.container(person, NAME), hub.leases(person)
    tools.read("container", "restart", tools.tag(NAME))
    wait_for(lambda: student.page(f"/user/{person.name}/{NAME}/api").status_code == 200, "it answers again")
    assert student.run("print('serves')", NAME) == "serves\n"
    after = hub.container(person, NAME)
    assert after["Id"] == before["Id"]
    assert after["State"]["StartedAt"] != before["State"]["StartedAt"]
    assert hub.leases(person) == lease


@pytest.mark.parametrize("maker", OURS)
def test_where_nothing_is_held_a_stop_gives_all_back(hub: Hub, odd_base: str, maker: str) -> None:
    with made_by(maker, hub, odd_base, hold="0h") as made:
        made.tools.stop(NAME)
        made.student.wait_gone(NAME)
        wait_for(lambda: not hub.traces(made.tools.shell.person), "container, lease and tag have gone")
        assert made.tools.own() == []


def test_a_removal_that_takes_the_image_name_of_a_neighbour_harms_no_server(hub: Hub, odd_base: str) -> None:
    with made_by("browser", hub, odd_base) as made:
        tools, student = made.tools, made.student
        shared = hub.built_images()
        neighbour = f"my-{NAME}"
        student.start({"base_image": odd_base}, neighbour)
        tools.stop(NAME)
        student.wait_gone(NAME)
        tools.remove(NAME)
        assert hub.built_images() == shared
        assert tools.own() == [neighbour]
        assert student.run("print('serves')", neighbour) == "serves\n"
        tools.open(neighbour, 1)
        assert tools.is_running(neighbour)
        student.stop(neighbour)
        wait_for(lambda: not hub.traces(tools.shell.person), "nothing is left")
        student.start({"gpu_profile": "1g.10gb", "base_image": odd_base}, NAME)


# An image hands its labels down, and nobody can take one away: a value can be set anew, a name cannot.
@pytest.mark.parametrize("label", ["one,two", "x=1,aime.mlc.USER", "aime.mlc.USER=somebody"])
def test_a_base_image_with_a_label_that_would_break_the_list_is_refused(hub: Hub, label: str) -> None:
    with labelled(hub, {label: "value"}) as base, somebody(hub) as (tools, student):
        before = hub.built_images()
        sentence = student.read_refusal(student.ask_start({"base_image": base}, NAME), NAME)
        assert "a label whose name has a comma or an equals sign" in sentence
        student.wait_gone(NAME)
        assert hub.traces(tools.shell.person) == {}
        assert hub.built_images() == before

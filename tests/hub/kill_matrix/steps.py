"""The steps of a start and of a stop, each held still until something was killed there.

Nothing of the Hub is replaced: a call to Docker does not come through, or its answer does not come back;
another writer has the ledger; a file, a build or a Jupyter takes as long as the test wants.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..conftest import signed_in
from ..docker_link import DockerLink
from ..hub import Hub
from ..obstacles import (
    base_that_builds_slowly,
    gate_at,
    hanging_file,
    jupyter_configured,
    jupyter_that_starts_slowly,
    locked_ledger,
)
from ..student import Student
from ..waiting import wait_for

SMALL: Mapping[str, object] = {"profile": "small"}
# The lab has one slot of this kind.
LARGE: Mapping[str, object] = {"profile": "large"}

START, STOP = "start", "stop"
ABSENT, CREATED, RUNNING, EXITED = "absent", "created", "running", "exited"


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """What a step waits for.

    `reach` brings her server to the step, `go_on` lets it go on and may be called twice. `blocks_all`:
    nothing that is killed could come back while it is in the way.
    """

    reach: Callable[[], None]
    go_on: Callable[[], None]
    blocks_all: bool = False


Meet = Callable[[Hub, DockerLink, Student], contextlib.AbstractContextManager[Obstacle]]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: `slug` in the names of tests, `name` in the table; `container` is what Docker has of it.

    `phase` is `start` or `stop`. `is_first` is for a step that only the first start of a Hub has.
    """

    slug: str
    name: str
    phase: str
    container: str
    meet: Meet
    is_first: bool = False

    @property
    def begins_served(self) -> bool:
        """Whether her server is there before the step is reached."""
        return self.phase == STOP


def ask_start(student: Student, options: Mapping[str, object] = SMALL) -> None:
    assert student.ask_start(dict(options)).status_code in (201, 202)


def ask_stop(student: Student) -> None:
    assert student.ask_stop().status_code in (202, 204)


def container_id(hub: Hub, student: Student) -> str:
    return str(hub.container(student.person)["Id"])


# what a start waits for ----------------------------------------------------------------------------


def start_call(pattern: str, *, answer: bool = False) -> Meet:
    """A call to Docker that does not come through, or whose answer does not come back."""

    @contextlib.contextmanager
    def meet(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
        filled = pattern.format(base=hub.lab.base.image, uid=student.person.uid)
        with link.hold(filled, answer=answer) as hold:

            def reach() -> None:
                ask_start(student)
                hold.wait_until_reached()

            yield Obstacle(reach=reach, go_on=hold.release)

    return meet


@contextlib.contextmanager
def slow_catalog(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
    with hanging_file(hub.lab.catalog) as file:

        def reach() -> None:
            ask_start(student)
            file.wait_until_reached()

        yield Obstacle(reach=reach, go_on=file.let_go)


@contextlib.contextmanager
def slow_build(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
    with gate_at(hub.gateway) as gate, base_that_builds_slowly(hub.docker, hub.lab.base.image, gate) as base:

        def reach() -> None:
            ask_start(student, {"profile": "base", "base_image": base, **GPU_OF_HER_OWN})
            gate.wait_until_reached()

        # It fails then: a whole build takes minutes, and is about the network.
        yield Obstacle(reach=reach, go_on=lambda: gate.decide(open=False))


GPU_OF_HER_OWN: Mapping[str, object] = {"gpu_profile": "1g.10gb", "gpu_count": 1}


@contextlib.contextmanager
def full_house(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
    """The only large slot is somebody else's, until she stops."""
    with signed_in(hub) as holder:
        holder.start(dict(LARGE))

        def reach() -> None:
            ask_start(student, LARGE)
            wait_for(lambda: waits(hub, student), "she waits in the queue")

        def go_on() -> None:
            if holder.server():
                holder.stop()

        yield Obstacle(reach=reach, go_on=go_on)


def waits(hub: Hub, student: Student) -> bool:
    """Whether she waits for a slot."""
    with hub.ledger() as ledger:
        return any(entry.wish.user == student.name for entry in ledger.queue())


@contextlib.contextmanager
def locked_at_reserving(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
    with contextlib.ExitStack() as stack:
        let_go = stack.enter_context(locked_ledger(hub.ledger_file))

        def reach() -> None:
            ask_start(student)
            student.wait_for_step("Reserving")

        yield Obstacle(reach=reach, go_on=let_go, blocks_all=True)


def locked_after(pattern: str, ask: Callable[[Student], None]) -> Meet:
    """Another writer has the ledger when Docker has answered a call, whose outcome is to be recorded."""

    @contextlib.contextmanager
    def meet(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
        filled = pattern.format(uid=student.person.uid)
        with contextlib.ExitStack() as stack, link.hold(filled, answer=True) as hold:

            def reach() -> None:
                ask(student)
                hold.wait_until_reached()
                stack.enter_context(locked_ledger(hub.ledger_file))
                hold.release()

            yield Obstacle(reach=reach, go_on=stack.close, blocks_all=True)

    return meet


@contextlib.contextmanager
def slow_jupyter(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
    with gate_at(hub.gateway) as gate, jupyter_that_starts_slowly(student.person, gate):

        def reach() -> None:
            ask_start(student)
            gate.wait_until_reached()

        yield Obstacle(reach=reach, go_on=lambda: gate.decide(open=True))


# At one of its connections, counted from 1, Jupyter waits at the gate, and with it all that come later.
_ANSWERS_SLOWLY = """
import tornado.httpserver
handle, connections = tornado.httpserver.HTTPServer.handle_stream, []
def wait_at(self, stream, address):
    connections.append(address)
    if len(connections) == {number}:
        {gate}
    handle(self, stream, address)
tornado.httpserver.HTTPServer.handle_stream = wait_at
"""


def slow_answer(number: int) -> Meet:
    """Jupyter's answer to one who comes: the first is the spawner, the second the Hub itself."""

    @contextlib.contextmanager
    def meet(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
        with contextlib.ExitStack() as stack:
            gate = stack.enter_context(gate_at(hub.gateway))
            code = _ANSWERS_SLOWLY.format(number=number, gate=gate.code)
            stack.enter_context(jupyter_configured(student.person, code))

            def reach() -> None:
                ask_start(student)
                gate.wait_until_reached()

            yield Obstacle(reach=reach, go_on=lambda: gate.decide(open=True))

    return meet


@contextlib.contextmanager
def locked_at_activating(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
    with (
        contextlib.ExitStack() as stack,
        gate_at(hub.gateway) as gate,
        jupyter_that_starts_slowly(student.person, gate),
    ):

        def reach() -> None:
            ask_start(student)
            gate.wait_until_reached()
            stack.enter_context(locked_ledger(hub.ledger_file))
            gate.decide(open=True)
            wait_for(lambda: listens(hub, student), "Jupyter listens")

        yield Obstacle(reach=reach, go_on=stack.close, blocks_all=True)


def listens(hub: Hub, student: Student) -> bool:
    """Whether her Jupyter has said in its log that it runs."""
    log = bytes(hub.docker.logs(container_id(hub, student)))
    return b"is running at" in log


@contextlib.contextmanager
def serving(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
    yield Obstacle(reach=lambda: student.start(dict(SMALL)), go_on=lambda: None)


# what a stop waits for -----------------------------------------------------------------------------


def stop_call(pattern: str, *, answer: bool = False) -> Meet:
    """A call to Docker that does not come through, or whose answer does not come back."""

    @contextlib.contextmanager
    def meet(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
        filled = pattern.format(container=container_id(hub, student), uid=student.person.uid)
        with link.hold(filled, answer=answer) as hold:

            def reach() -> None:
                ask_stop(student)
                hold.wait_until_reached()

            yield Obstacle(reach=reach, go_on=hold.release)

    return meet


@contextlib.contextmanager
def locked_at_ending(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
    with locked_ledger(hub.ledger_file) as let_go:

        def reach() -> None:
            ask_stop(student)
            assert student.server()["pending"] == "stop"

        yield Obstacle(reach=reach, go_on=let_go, blocks_all=True)


_CREATE = r"POST \S+/containers/create\?\S*{uid}"
_CREATE_NAMELESS = r"POST \S+/containers/create\?name=ds01-look-"
_UNTAG = r"DELETE \S+/images/\S+-image:{uid}"


def start_step(slug: str, name: str, meet: Meet, container: str = ABSENT, *, is_first: bool = False) -> Step:
    return Step(slug=slug, name=name, phase=START, container=container, meet=meet, is_first=is_first)


def stop_step(slug: str, name: str, meet: Meet, container: str) -> Step:
    return Step(slug=slug, name=name, phase=STOP, container=container, meet=meet)


STEPS = (
    start_step("checking", "checking the options", slow_catalog),
    start_step("resolving", "resolving the image", start_call(r"GET \S+/images/{base}/json")),
    start_step("building", "building the image", slow_build),
    start_step(
        "probing",
        "looking into the image, done and unheard",
        start_call(_CREATE_NAMELESS, answer=True),
        is_first=True,
    ),
    start_step("queueing", "waiting in the queue", full_house),
    start_step("leasing", "leasing", locked_at_reserving),
    start_step("naming", "naming the image", start_call(r"POST \S+/images/\S+/tag")),
    start_step("creating", "creating, not begun", start_call(_CREATE)),
    start_step("created", "creating, done and unheard", start_call(_CREATE, answer=True), CREATED),
    start_step("recording", "recording the container", locked_after(_CREATE, ask_start), CREATED),
    start_step("identity", "giving her identity", start_call(r"PUT \S+/containers/\S+/archive"), CREATED),
    start_step("starting", "starting, not begun", start_call(r"POST \S+/containers/\w+/start"), CREATED),
    start_step(
        "started",
        "starting, done and unheard",
        start_call(r"POST \S+/containers/\w+/start", answer=True),
        RUNNING,
    ),
    start_step("waiting", "waiting for Jupyter to listen", slow_jupyter, RUNNING),
    start_step("answering", "waiting for Jupyter's answer", slow_answer(1), RUNNING),
    start_step("activating", "making the lease active", locked_at_activating, RUNNING),
    start_step("seeing", "active, and waiting for the Hub to see it", slow_answer(2), RUNNING),
    start_step("serving", "serving", serving, RUNNING),
    stop_step("ending", "recording that it is to end", locked_at_ending, RUNNING),
    stop_step("stopping", "stopping, not begun", stop_call(r"POST \S+/containers/{container}/stop"), RUNNING),
    stop_step(
        "stopped",
        "stopping, done and unheard",
        stop_call(r"POST \S+/containers/{container}/stop", answer=True),
        EXITED,
    ),
    stop_step("removing", "removing, not begun", stop_call(r"DELETE \S+/containers/{container}"), EXITED),
    stop_step(
        "removed",
        "removing, done and unheard",
        stop_call(r"DELETE \S+/containers/{container}", answer=True),
        ABSENT,
    ),
    stop_step("untagging", "taking the name from the image", stop_call(_UNTAG), ABSENT),
    stop_step("releasing", "releasing the lease", locked_after(_UNTAG, ask_stop), ABSENT),
)

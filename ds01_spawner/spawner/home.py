"""What the Hub's home page shows of one person's servers; a mixin of a Spawner.

The page is whole without scripts, and while the ledger or the limits file is away: the Hub itself knows
which servers there are, and a sentence says what is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from .. import lifecycle, mlc
from ..core.servers import ServerView
from ..errors import DS01Error, RequestRefused
from ..model import Container, LeaseState, Profile
from .options import StudentOptions
from .pages import NewsLink

STARTING, RUNNING, STOPPING, HELD, STOPPED = "starting", "running", "stopping", "held", "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Countdown:
    """When something ends: the moment for scripts, and in words: "2 h 40 min left, until 21:00"."""

    until: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeServer:
    """One server of the Hub, as the home page shows it.

    `server` is the Hub's name ("" for the default one), `title` what is written above it, `name` the NAME
    of its container ("" where no container can have it). `state` is one of the five words of this module;
    `has_failed` says that its last start did. `profile` is what was chosen, `slots` its slices
    ("1g.10gb 0:1"). `run_time`, `idle` and `held` are None where nothing ends by them.
    """

    server: str
    title: str
    name: str
    state: str
    has_failed: bool = False
    profile: str = ""
    slots: str = ""
    run_time: Countdown | None = None
    idle: Countdown | None = None
    held: Countdown | None = None
    warnings: tuple[str, ...] = ()
    may_extend: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherContainer:
    """A container of hers that AIME's tools made: its NAME, framework or image, and whether it runs."""

    name: str
    contents: str
    is_running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeView:
    """All servers of a person, the default one first, and what else she has on this machine.

    `problem` says what is not known of them.
    """

    servers: tuple[HomeServer, ...]
    others: tuple[OtherContainer, ...]
    news: NewsLink
    problem: str = ""


class HomePage(StudentOptions):
    """The part of the spawner that the home page asks; it does so of the default server's."""

    async def home(self) -> HomeView:
        """Return what to show of all servers of this spawner's user."""
        views, problem = dict[str, ServerView](), ""
        try:
            core = await self._core()
            found = await self._call(core.servers.list, self._login)
            views = {view.lease.server: view for view in found}
        except DS01Error as exc:
            self.log.error("the home page of %s is not complete: %s", self.user.name, exc.detail or exc)
            problem = str(exc)
        names = await self._name_profiles()
        now = datetime.now(timezone.utc)
        servers = (
            describe_server(known, views.get(known.name), names, now) for known in self.user.all_spawners()
        )
        return HomeView(
            servers=tuple(servers),
            others=await self._list_others(),
            news=self.news_link(self.user),
            problem=problem,
        )

    async def _list_others(self) -> tuple[OtherContainer, ...]:
        """Return what AIME's tools made; nothing where nobody can say it: it is none of the Hub's."""
        try:
            core = await self._core()
            account = await self._call(core.offers.account, self._login)
            found = await self._call(core.adoptions.list_others, account)
        except DS01Error as exc:
            self.log.warning("AIME's containers of %s are not shown: %s", self.user.name, exc.detail or exc)
            return ()
        return tuple(describe_other(one) for one in found)

    async def _name_profiles(self) -> Mapping[str, str]:
        try:
            return name_profiles(await self.profiles())
        except DS01Error as exc:
            self.log.error("profiles have no names on the home page: %s", exc.detail or exc)
            return {}


def name_profiles(profiles: Iterable[Profile]) -> Mapping[str, str]:
    """Return what people call each profile, by its slug."""
    return {profile.slug: profile.display_name for profile in profiles}


def describe_other(container: Container) -> OtherContainer:
    """Return what to show of a container that AIME's tools made."""
    framework, image = mlc.describe_labels(container)
    name = container.name.partition("._.")[0]
    return OtherContainer(name=name, contents=image or framework, is_running=container.is_running)


def describe_server(
    known: Any, view: ServerView | None, profiles: Mapping[str, str], now: datetime
) -> HomeServer:
    """Return what to show of a server, from what the Hub knows and from its lease, if it has one.

    `known` is a Spawner, or the Hub's row of one that does not run.
    """
    options = known.user_options
    slug = options.get("profile", "") if isinstance(options, dict) else ""
    state = judge_state(getattr(known, "pending", None), bool(getattr(known, "ready", False)), view)
    shown = HomeServer(
        server=known.name,
        title=known.display_name or known.name or "My server",
        name=_name_container(known.name),
        state=state,
        has_failed=state == STOPPED and _has_failed(known),
        profile=profiles.get(slug, str(slug)) if state != STOPPED else "",
    )
    return shown if view is None else _add_lease(shown, view, now)


def judge_state(pending: str | None, is_ready: bool, view: ServerView | None) -> str:
    """Return the state in a word: what the Hub says of it, and of one that does not run, its lease."""
    if pending == "stop":
        return STOPPING
    if pending:
        return STARTING
    if is_ready:
        return RUNNING
    is_held = view is not None and view.lease.state is LeaseState.HELD
    return HELD if is_held else STOPPED


def count_down(until: datetime | None, now: datetime) -> Countdown | None:
    """Return how long it is until then, and when that is, in the machine's local time."""
    if until is None:
        return None
    left = lifecycle.show_span(max(until, now) - now)
    moment = until.astimezone(timezone.utc).isoformat(timespec="seconds")
    return Countdown(until=moment, words=f"{left} left, until {lifecycle.show_time(until, now)}")


def _add_lease(shown: HomeServer, view: ServerView, now: datetime) -> HomeServer:
    left, is_running = view.time_left, shown.state == RUNNING
    return replace(
        shown,
        name=view.name,
        slots=", ".join(f"{slot.profile} {slot.index}" for slot in view.slots),
        run_time=count_down(left.run_until, now) if is_running else None,
        idle=count_down(left.idle_until, now) if is_running else None,
        held=count_down(view.lease.deadline, now) if shown.state == HELD else None,
        warnings=view.warnings if is_running else (),
        may_extend=is_running and view.may_extend,
    )


def _name_container(server: str) -> str:
    try:
        return mlc.project_name(server)
    except RequestRefused:
        return ""


def _has_failed(known: Any) -> bool:
    """Whether the last start of a server went wrong, and was not given up."""
    start = getattr(known, "_spawn_future", None)
    return start is not None and start.done() and not start.cancelled() and start.exception() is not None

"""From the options form, a REST call or a respawn to an accepted request: one path for all three."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, ClassVar

from traitlets import default

from .. import form, mlc, request
from ..errors import DS01Error, PackageRefused, RequestRefused
from ..model import Profile
from . import assembly
from .pages import PageNews
from .pools import PooledCalls
from .progress import Progress
from .refusal import OnlyAForm, SpawnRefused
from .settings import ServerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """What was refused: the server it was meant for, the options, and why."""

    spawner: StudentOptions
    options: Any
    problem: DS01Error

    @property
    def refusals(self) -> dict[str, str]:
        """What the form says beside a field, by its name."""
        return {self.problem.field: str(self.problem)} if self.problem.field else {}


class StudentOptions(ServerSettings, PooledCalls, PageNews):
    """The part of the spawner that shows the form and judges what comes back; a mixin of a Spawner."""

    user: Any
    name: str
    display_name: str
    handler: Any
    orm_spawner: Any
    user_options: Any
    active: bool
    apply_group_overrides: Any
    _spawn_future: asyncio.Future[Any] | None
    _tasks: ClassVar[set[asyncio.Task[None]]] = set()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._prepared: assembly.Prepared | None = None
        self._requested_at = datetime.now(timezone.utc)
        self._accepted_options: dict[str, Any] | None = None
        self._typed: Typed | None = None
        self._was_shown = False
        self._progress: Progress | None = None
        self._own_settings: dict[str, Any] = {}

    @default("options_form")
    def _default_options_form(self) -> Callable[..., Any]:
        return lambda spawner: spawner.render_options_form()

    @default("options_from_form")
    def _default_options_from_form(self) -> Callable[..., Any]:
        return lambda form_data, spawner: spawner.read_form(form_data)

    def options_from_query(self, query_data: Mapping[str, Any]) -> dict[str, Any]:
        """Never start a server from a link: the Hub then opens the form, which fills itself from it."""
        raise OnlyAForm("A link fills the form; only its button starts a server.")

    @default("apply_user_options")
    def _default_apply_user_options(self) -> Callable[..., Any]:
        return lambda spawner, options: spawner.accept(options)

    @property
    def _login(self) -> str:
        return self.site.log_in_as(self.user.name)

    @property
    def group_names(self) -> tuple[str, ...]:
        """The Hub's groups of the user."""
        return tuple(group.name for group in self.user.groups)

    async def profiles(self) -> tuple[Profile, ...]:
        """All profiles of the site, also those that this user may not see."""
        profile_list = self.profile_list
        if callable(profile_list):
            profile_list = profile_list(self)
            if inspect.isawaitable(profile_list):
                profile_list = await profile_list
        return request.parse_profiles(profile_list)

    async def render_options_form(self) -> str:
        """Return the form, filled from a link, from what was just refused, or from last time."""
        self._was_shown = True
        typed, self._typed = self._typed, None
        shown = typed.spawner if typed else self
        values = typed.options if typed else self.user_options
        query = {} if typed else self._read_query()
        try:
            # A name that no container can have is said before anything is typed.
            mlc.project_name(shown.name)
            core = await self._core()
            all_profiles = await self.profiles()
            profiles = request.visible_profiles(all_profiles, self.group_names)
            await self._call(core.offers.account, self._login)
            # As the service keeps it: to ask Docker about each container would take long in a big lab.
            offer = await self._call(core.offers.offer, self._login, self.group_names)
            wishes = {form.wish_of(profile, self._defaults()) for profile in profiles}
            prospects = await self._call(core.prospects.judge, self._login, shown.name, wishes, offer=offer)
        except DS01Error as exc:
            self.log.error("the form cannot be shown: %s", exc.detail or exc)
            return form.render_problem(str(exc))
        news = self.news_link(self.handler.current_user if self.handler else None)
        notices = (self._judge_link(query, all_profiles) if query else "", *offer.notices)
        view = form.FormView(
            server=shown.display_name or shown.name,
            server_name=shown.name,
            news_url=news.url,
            news_token=news.token,
            notice=" ".join(notice for notice in notices if notice),
            profiles=profiles,
            availability=offer.availability,
            limits=offer.limits,
            holdings=offer.holdings,
            frameworks=offer.frameworks,
            use_cases=core.images.use_cases,
            values=query or (values if isinstance(values, dict) else {}),
            refusals=typed.refusals if typed else {},
            simulated=offer.simulated,
            gpu_problem=offer.gpu_problem,
            prospects=prospects,
            queues=self.site.queue_limit > 0,
            architecture=offer.architecture,
            defaults=self._defaults(),
        )
        return await self._call(form.render, view)

    def _read_query(self) -> dict[str, object]:
        """Return the options that a link asks for."""
        arguments = self.handler.request.query_arguments if self.handler else {}
        return form.from_query(
            {
                name.removeprefix("opt-"): [value.decode(errors="replace") for value in values]
                for name, values in arguments.items()
                if name.startswith("opt-")
            }
        )

    def _judge_link(self, query: dict[str, object], profiles: tuple[Profile, ...]) -> str:
        """Return why a link cannot be followed as it is, "" if it can."""
        try:
            asked = request.parse_options(query)
            request.find_profile(profiles, asked.profile, self.group_names)
        except RequestRefused as exc:
            return f"The link asks for something that cannot be: {exc}"
        return ""

    def _defaults(self) -> request.ServerDefaults:
        return self.defaults(self.site.core.images.use_cases)

    async def read_form(self, form_data: Mapping[str, Any]) -> dict[str, object]:
        """Return the options of a posted form, once it is known that its packages can be had.

        Looked up here, not where all options are judged: what is refused later than a second after that
        began, the Hub shows on the pending page, far from the field.

        Raises:
            SpawnRefused: a package does not exist, or conflicts with another.
        """
        options = form.parse(form_data)
        try:
            await self.apply_group_overrides()
            prepared = await self._prepare(options)
            images = self.site.core.images
            await asyncio.wrap_future(images.submit_check(prepared.base, prepared.request))
        except PackageRefused as exc:
            self._keep_typed(options, exc)
            raise SpawnRefused(exc) from None
        except DS01Error as exc:
            # It is refused, or tried again, where REST calls are judged as well.
            self.log.info("the packages of a form are not looked up: %s", exc)
        finally:
            self._take_back_overrides()
        return options

    async def accept(self, options: Any) -> None:
        """Check the options of a form, a REST call or a respawn, alike, and keep what they mean.

        Raises:
            SpawnRefused: with the sentence; the refused options are not kept for the next time.
        """
        self._progress = Progress()
        self._requested_at = datetime.now(timezone.utc)
        try:
            self._prepared = await self._prepare(options)
        except DS01Error as exc:
            self._keep_typed(options, exc)
            self._forget_refused()
            # The Hub logs a traceback of what comes out of here; the cause is in the message.
            raise SpawnRefused(exc) from None
        self._accepted_options = options

    async def _prepare(self, options: Any) -> assembly.Prepared:
        """Return what the options mean, held against all that may stand against them; profile applied."""
        parsed = request.parse_options(options)
        core = await self._core()
        profile = request.find_profile(await self.profiles(), parsed.profile, self.group_names)
        self._override(request.overrides_for(profile, parsed))
        asked = request.build_request(parsed, profile, self._defaults())
        await self._call(core.upkeep.reconcile)
        return await self._call(
            assembly.decide,
            core.offers,
            asked,
            login=self._login,
            groups=self.group_names,
            server=self.name,
            home_dir=self.home_dir,
        )

    def _override(self, values: Mapping[str, object]) -> None:
        """Set what the profile overrides, until the state is cleared."""
        self._take_back_overrides()
        self._own_settings = {name: getattr(self, name) for name in values if self.has_trait(name)}
        self.set_all(values)

    def clear_state(self) -> None:
        """Take back what a profile overrode: the Hub clears the state before it applies group overrides."""
        super().clear_state()  # type: ignore[misc]
        self._take_back_overrides()

    def _take_back_overrides(self) -> None:
        for name, value in self._own_settings.items():
            setattr(self, name, value)
        self._own_settings = {}

    def _keep_typed(self, options: Any, problem: DS01Error) -> None:
        """Let what was typed fill the form once more, which the Hub renders from the default server."""
        self.user.spawner._typed = Typed(spawner=self, options=options, problem=problem)

    def _forget_refused(self) -> None:
        """Take back what the Hub stored before anybody looked at it: the options, and the name of a server
        that nobody saw on a page before.
        """
        self.orm_spawner.user_options = self._accepted_options
        self.user.db.commit()
        if self.name and self.orm_spawner.state is None and not self._was_shown:
            self._keep(asyncio.ensure_future(self._forget_server()))

    async def _forget_server(self) -> None:
        """Delete the row of a server that never was, once the Hub is through with its failed start."""
        if self._spawn_future is not None:
            await asyncio.wait([self._spawn_future])
        db = self.user.db
        if not self.active and self.orm_spawner in db:
            self.user.spawners.pop(self.name, None)
            db.delete(self.orm_spawner)
            db.commit()

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Hold a task until it is done: the event loop itself only knows it weakly."""
        tasks = type(self)._tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)

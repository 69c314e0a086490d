"""What a person asks for her containers at the socket: each call blocks, and names people as the Hub does.

Whatever changes one goes through the Hub, so that limits, leases, images and the browser's pages are the
same; what AIME's tools made is shown and left to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ... import mlc
from ...adapters.engine.activity import ContainerUse
from ...adapters.hub import HubClient, HubServer
from ...core.servers import ServerView
from ...errors import DS01Error, HubUnavailable, NoContainer, NotAllowed, RequestRefused
from ...model import DEFAULT_SERVER, Account, Container, LeaseState
from ...site import DS01
from .access import Caller

_STATES = {LeaseState.PENDING: "starting", LeaseState.ACTIVE: "running", LeaseState.HELD: "held"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    """One container of a person, or a server of hers that has none now.

    `state` is `starting`, `running`, `held` (stopped, with its GPUs kept), `stopping` or `stopped`.
    `server` is the Hub's name, None for what AIME's tools made; `view` is there while it has a lease.
    """

    name: str
    container: str
    state: str
    server: str | None
    framework: str = ""
    image: str = ""
    view: ServerView | None = None


class Containers:
    """The containers of people on this machine; `hub` is None where there is no Hub to ask."""

    def __init__(self, site: DS01, hub: HubClient | None) -> None:
        self._site = site
        self._hub = hub

    def list(self, user: str) -> tuple[tuple[ContainerView, ...], tuple[str, ...]]:
        """Return all of a user's containers by name, and what could not be asked, in sentences."""
        login, problems = self._site.log_in_as(user), list[str]()
        account = self._site.find_account(login)
        views = {one.lease.server: one for one in self._site.core.servers.list(login)}
        servers: dict[str, HubServer | None] = dict.fromkeys(views)
        made: dict[str, Container] = {}
        try:
            servers |= self._list_servers(user)
        except HubUnavailable as exc:
            problems.append(f"{exc} Servers that are stopped are not shown.")
        try:
            made = {one.name: one for one in self._site.core.adoptions.list(account)}
        except DS01Error as exc:
            problems.append(f"{exc} What Docker knows is not shown.")
        found = [
            self._describe(server, views.get(server), known, made, account.uid)
            for server, known in servers.items()
        ]
        ours = {one.container for one in found}
        for name, container in made.items():
            if name not in ours:
                found.append(_describe_foreign(container))
        return tuple(sorted(found, key=lambda one: one.name)), tuple(problems)

    def _list_servers(self, user: str) -> dict[str, HubServer | None]:
        found = self._require_hub().user(user)
        return {one.server: one for one in found.servers} if found else {}

    def _describe(
        self,
        server: str,
        view: ServerView | None,
        known: HubServer | None,
        made: Mapping[str, Container],
        uid: int,
    ) -> ContainerView:
        container = view.lease.container_name if view else f"{project_of(server)}._.{uid}"
        there = made.get(container)
        framework, image = mlc.describe_labels(there) if there else ("", "")
        state = _STATES[view.lease.state] if view else "stopped"
        if known is not None and known.pending:
            state = "stopping" if known.pending == "stop" else "starting"
        return ContainerView(
            name=container.partition("._.")[0],
            container=container,
            state=state,
            server=server,
            framework=framework,
            image=image,
            view=view,
        )

    def find(self, user: str, name: str) -> ContainerView:
        """Return a user's container by its NAME.

        Raises:
            NoContainer: there is none.
        """
        found, problems = self.list(user)
        for one in found:
            if one.name == name:
                return one
        if problems:
            raise HubUnavailable(f"It is not known whether there is a container {name!r}: {problems[0]}")
        raise NoContainer(f"There is no container {name[:60]!r}. `ds01 container list --all` shows yours.")

    def find_own(self, user: str, name: str) -> ContainerView:
        """Return a container that the Hub looks after.

        Raises:
            NoContainer: there is none.
            RequestRefused: AIME's tools made it.
        """
        found = self.find(user, name)
        if found.server is None:
            raise RequestRefused(
                f"{name} was made with AIME's tools, so use those (mlc-open, mlc-stop, mlc-remove), or bring "
                f"it here: ds01 container adopt {name}"
            )
        return found

    def find_running(self, user: str, name: str) -> str:
        """Return the id of the container of a server that runs.

        Raises:
            NoContainer: there is none.
            RequestRefused: it does not run.
        """
        view = self.find_own(user, name).view
        if view is None or view.lease.state is not LeaseState.ACTIVE or view.lease.container_id is None:
            raise RequestRefused(f"{name} does not run. Start it: ds01 container run {name}")
        return view.lease.container_id

    def start(self, user: str, name: str, options: Mapping[str, object] | None) -> bool:
        """Have the Hub start a server; False if it runs already.

        `options` are those of a new one; without any, it is started as it was the last time.

        Raises:
            NameTaken, RequestRefused: it cannot be, or the Hub refuses it, in its words.
            NoContainer: there is nothing to start anew.
        """
        hub = self._require_hub()
        if hub.user(user) is None:
            raise RequestRefused(
                "The Hub does not know you yet. Sign in there once with your browser, then try again."
            )
        if options is None:
            return hub.start(user, self._server(user, name))
        self._refuse_taken(user, name)
        server = "" if name == DEFAULT_SERVER else name
        if server and not mlc.is_project_name(server):
            raise RequestRefused(
                f"{name[:60]!r} cannot be the name of a container: take up to 30 small letters, digits and "
                "hyphens, with a letter first, such as my-thesis."
            )
        return hub.start(user, server, options)

    def _refuse_taken(self, user: str, name: str) -> None:
        try:
            found = self.find(user, name)
        except NoContainer:
            return
        if found.server is None:
            raise mlc.refuse_name(found.container, detail=f"{found.container} is {found.state}")
        if found.server == "" and found.view is None:
            # The default server is always in the Hub's list.
            return
        raise RequestRefused(
            f"You have a container {name} already; it is {found.state}. Open it with `ds01 container run "
            f"{name}`, or remove it first: ds01 container remove {name}"
        )

    def adopt(self, user: str, name: str, by: Caller) -> str:
        """Take one of AIME's containers over, and return the image that its server is to be made from.

        Raises:
            NotAllowed: who asks could not have made it.
            DS01Error: as `Adoptions.begin` says.
        """
        account = self._require_maker(user, name, by)
        return self._site.core.adoptions.begin(account, name)

    def give_back(self, user: str, name: str, by: Caller) -> None:
        """Undo `adopt`, where no server came of it."""
        self._site.core.adoptions.give_back(self._require_maker(user, name, by), name)

    def _require_maker(self, user: str, name: str, by: Caller) -> Account:
        account = self._site.find_account(self._site.log_in_as(user))
        # A container's name and labels are whatever the docker group wrote: it was made by one of them, and
        # may hold what is not hers to see.
        if not by.may_manage() and not self._site.may_use_docker(account.name):
            raise NotAllowed(
                "AIME's containers are made by members of the docker group, and you are none. Ask your admin "
                f"to take it over for you: ds01 container adopt {name} --user {user}"
            )
        return account

    def list_images(self, user: str) -> dict[str, str]:
        """Return the images that a user made with `ds01 image create` by their NAME, the newest first."""
        account = self._site.find_account(self._site.log_in_as(user))
        ending = f"{mlc.own_image_name('', account.name)}:latest"
        made_by = (account.name, str(account.uid))
        return {
            one.name.removesuffix(ending): one.name.removesuffix(":latest")
            for one in self._site.engine.images_named(f"*{ending}")
            if (one.labels.get(mlc.MAINTAINER_LABEL), one.labels.get(mlc.MAINTAINER_ID_LABEL)) == made_by
        }

    def stop(self, user: str, name: str) -> bool:
        """Have the Hub stop a server, or give back what is held for it; False if there is nothing to stop."""
        found = self.find_own(user, name)
        if found.view is not None and found.view.lease.state is LeaseState.HELD:
            # The Hub has stopped it already, as far as it knows.
            self._site.core.leases.settle(found.view.lease.id, ended="its user gave it back")
            return True
        return self._require_hub().stop(user, found.server or "")

    def remove(self, user: str, name: str) -> bool:
        """Have the Hub stop and forget a server; the default one is only stopped."""
        return self._require_hub().stop(user, self._server(user, name), forgets=True)

    def _server(self, user: str, name: str) -> str:
        return self.find_own(user, name).server or ""

    def read_log(self, user: str, name: str, lines: int) -> str:
        """Return the last lines that a server printed, while its container is there.

        Raises:
            RequestRefused: it has none.
        """
        view = self.find_own(user, name).view
        if view is None or view.lease.container_id is None:
            raise RequestRefused(f"{name} has no container now, so there is no log. Start it first.")
        return self._site.engine.log_tail(view.lease.container_id, lines=lines)

    def measure(self, user: str, name: str) -> ContainerUse:
        """Return what a running server takes.

        Raises:
            RequestRefused: it does not run.
        """
        use = self._site.engine.use(self.find_running(user, name))
        if use is None:
            raise RequestRefused(f"{name} does not run. Start it: ds01 container run {name}")
        return use

    def locate_progress(self, user: str, name: str) -> tuple[str, dict[str, str]]:
        """Return address and headers of the Hub's stream about a start."""
        server = "" if name == DEFAULT_SERVER else self._server(user, name)
        return self._require_hub().locate_progress(user, server)

    def _require_hub(self) -> HubClient:
        if self._hub is None:
            raise HubUnavailable(
                "Servers are started and stopped by the Hub, which cannot be asked here. Tell your admin.",
                detail="the Hub's settings have no service ds01 with a token",
            )
        return self._hub


def project_of(server: str) -> str:
    """Return the NAME of a server's container; that of one with a reserved name is what the Hub shows."""
    try:
        return mlc.project_name(server)
    except RequestRefused:
        return server


def _describe_foreign(container: Container) -> ContainerView:
    framework, image = mlc.describe_labels(container)
    return ContainerView(
        name=container.name.partition("._.")[0],
        container=container.name,
        state="running" if container.is_running else "stopped",
        server=None,
        framework=framework,
        image=image or container.image,
    )

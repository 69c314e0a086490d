"""One of AIME's containers becomes a server of the Hub's: its files go on in an image, it is set aside.

Nothing of it is lost: it is stopped and renamed, never removed, and gets its name back where the server does
not come up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import mlc
from ..errors import NameTaken, NoContainer, RequestRefused
from ..model import Account, Container

if TYPE_CHECKING:
    from ..adapters.engine import DockerEngine
    from ..adapters.ledger import Ledger

ASIDE = "-aime"


class Adoptions:
    """Takes over what AIME's tools made."""

    def __init__(self, *, engine: DockerEngine, ledger: Ledger) -> None:
        self._engine = engine
        self._ledger = ledger

    def list(self, account: Account) -> tuple[Container, ...]:
        """Return all containers that AIME's tools show to a person, those of her servers among them.

        Raises:
            EngineUnavailable: Docker cannot be asked now.
        """
        found = self._engine.containers(label=f"{mlc.LABEL}.USER={account.name}")
        return tuple(one for one in found if mlc.is_shown_by_aime(one, account.name, account.uid))

    def list_others(self, account: Account) -> tuple[Container, ...]:
        """Return those of them that are no server of the Hub's, by name.

        Raises:
            EngineUnavailable, LedgerUnavailable: nobody can say.
        """
        found = self.list(account)
        nonces = [one.nonce for one in found if one.nonce]
        leased = self._ledger.leases_of([one.id for one in found], nonces) if found else ()
        ours = {lease.container_id for lease in leased} | {lease.nonce for lease in leased}
        others = (one for one in found if one.id not in ours and one.nonce not in ours)
        return tuple(sorted(others, key=lambda one: one.name))

    def find(self, account: Account, name: str) -> Container:
        """Return a person's container that can be taken over.

        Raises:
            NoContainer: AIME's tools made none of this name for her.
            RequestRefused: it cannot be, and why not.
        """
        found = self._engine.container(f"{name}._.{account.uid}") if mlc.is_name(name) else None
        if found is None or not mlc.is_shown_by_aime(found, account.name, account.uid):
            raise NoContainer(
                f"There is no container {name[:60]!r} of yours that AIME's tools made. `mlc list` has those."
            )
        if self._ledger.leases_of([found.id], [found.nonce] if found.nonce else []):
            raise RequestRefused(f"{name} is a server of the Hub's already: ds01 container run {name}")
        if not mlc.is_project_name(name):
            raise RequestRefused(
                f"{name[:60]!r} cannot be the name of a server, which has up to 30 small letters, digits and "
                f"hyphens, with a letter first. Rename it: docker rename {found.name} NEW._.{account.uid}"
            )
        if found.is_running:
            raise RequestRefused(
                f"{name} runs, and its programs would be ended. End them and stop it first: mlc-stop {name}"
            )
        return found

    def begin(self, account: Account, name: str) -> str:
        """Make an image of a container's files, set the container aside, and return the image's name.

        What was begun before, and left, goes on.

        Raises:
            NoContainer, RequestRefused: as `find` says.
            NameTaken: an image of the name is there already, or a container that was set aside.
        """
        image = mlc.own_image_name(name, account.name)
        aside = self._aside(account, name)
        if self._was_left(account, name):
            return image
        found = self.find(account, name)
        if self._engine.container(aside) is not None:
            raise mlc.refuse_name(aside, detail="a container was set aside under it before")
        if self._engine.image(image) is not None:
            raise NameTaken(
                f"You have an image {image} already. Remove it (ds01 image delete {name}), or make the "
                f"container from it: ds01 container create {name}2 --image {image}"
            )
        labels = mlc.image_labels(
            base=found.image,
            maintainer=account.name,
            maintainer_id=str(account.uid),
            custom_image=image,
        )
        self._engine.commit(found.id, image, labels=dict(labels))
        self._engine.rename(found.id, aside)
        return image

    def _was_left(self, account: Account, name: str) -> bool:
        """Whether a container was set aside, its image is there, and nothing has its name."""
        if not mlc.is_project_name(name) or self._engine.container(f"{name}._.{account.uid}") is not None:
            return False
        aside = self._engine.container(self._aside(account, name))
        image = self._engine.image(mlc.own_image_name(name, account.name))
        made_by = (account.name, str(account.uid))
        return (
            aside is not None
            and mlc.is_shown_by_aime(aside, account.name, account.uid)
            and image is not None
            and (image.labels.get(mlc.MAINTAINER_LABEL), image.labels.get(mlc.MAINTAINER_ID_LABEL)) == made_by
        )

    def give_back(self, account: Account, name: str) -> None:
        """Give a container that was set aside its name back, and take its image away.

        Raises:
            NoContainer: none was set aside.
            NameTaken: a container has its name by now.
        """
        found = self._engine.container(self._aside(account, name)) if mlc.is_name(name) else None
        if found is None or not mlc.is_shown_by_aime(found, account.name, account.uid):
            raise NoContainer(f"No container {name[:60]!r} was set aside.")
        own = f"{name}._.{account.uid}"
        if self._engine.container(own) is not None:
            raise mlc.refuse_name(own, detail="another container was made meanwhile")
        self._engine.rename(found.id, own)
        self._engine.untag(mlc.own_image_name(name, account.name))

    def _aside(self, account: Account, name: str) -> str:
        return f"{name}{ASIDE}._.{account.uid}"

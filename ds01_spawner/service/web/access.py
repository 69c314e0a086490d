"""Who asks, and what her token lets her do here: what its scopes let it do at the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

ADMIN_SCOPES = frozenset({"read:servers", "servers", "read:metrics"})
"""What root and the members of an admin group may on the socket, in the Hub's words."""


class Kind(Enum):
    """What sent a request: a user of the Hub, a service of the Hub's, or root of this machine."""

    USER = "user"
    SERVICE = "service"
    ROOT = "root"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request, as the Hub names her; a service may have any name, also a user's.

    `scopes` are those of the token, which may be fewer than her own, with all that follow from them;
    `groups` those of the Hub that she is in, none where the token may not read them.
    """

    name: str
    kind: Kind
    scopes: frozenset[str]
    groups: tuple[str, ...] = ()

    @property
    def is_user(self) -> bool:
        return self.kind is Kind.USER

    def is_self(self, user: str) -> bool:
        """Whether the servers of `user` are the caller's own."""
        return self.is_user and self.name == user

    def may_see(self, user: str) -> bool:
        """Whether she may see the servers of `user`."""
        return self.is_self(user) or self._has_for("read:servers", user)

    def may_see_all(self) -> bool:
        """Whether she may see everybody's servers."""
        return "read:servers" in self.scopes

    def may_change(self, user: str) -> bool:
        """Whether she may ask for something for the servers of `user`: who may start and stop them may."""
        return self.is_self(user) or self._has_for("servers", user)

    def may_manage(self) -> bool:
        """Whether she may stop everybody's servers, and so take GPUs out of use."""
        return "servers" in self.scopes

    @property
    def signature(self) -> str:
        """How the history names her; a service never as a user."""
        return f"service {self.name}" if self.kind is Kind.SERVICE else self.name

    def may_read_metrics(self) -> bool:
        """Whether she may read `metrics`, as at the Hub's own."""
        return "read:metrics" in self.scopes

    def _has_for(self, scope: str, user: str) -> bool:
        # One for a group is never enough: who is in it only the Hub knows.
        return not self.scopes.isdisjoint({scope, f"{scope}!user={user}"})


def read_caller(model: Mapping[str, Any]) -> Caller:
    """Return who the Hub says that it is."""
    return Caller(
        name=model["name"],
        kind=Kind(model["kind"]),
        scopes=frozenset(model["scopes"]),
        groups=tuple(model.get("groups") or ()),
    )

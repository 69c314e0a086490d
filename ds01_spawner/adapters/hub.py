"""JupyterHub's REST API: who there is, which servers run, starting one and stopping one.

Guarantees: a list is whole or an error, never what a token happens to see; and the token goes to the
Hub alone: no proxy, no redirection, no password file of the environment counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import requests

from ..errors import HubUnavailable, RequestRefused

_PAGES = "application/jupyterhub-pagination+json"
_PAGE_SIZE = 200  # JupyterHub.api_page_max_limit as shipped; it gives less where that is less
_REFUSALS = (400, 404, 409)
# So answers our spawner when nothing is free, or the Hub when it has too much to do: with a sentence.
_TOO_MUCH = (429, 503)
_UNAVAILABLE = (
    "The Hub does not answer just now. Please try again in a minute, and tell your admin if it stays so."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubServer:
    """A server that the Hub thinks is there; the default one has the name "".

    `ready` is whether it can be used. Otherwise `pending` says what is under way: `spawn`, `stop`,
    `check` (of whether it still runs, after a restart of the Hub) or `rename`. `last_activity` is when
    the Hub saw it used last, None for never.
    """

    user: str
    server: str
    ready: bool
    pending: str = ""
    last_activity: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubUser:
    """A user of the Hub, her groups there as far as the token may read them, and all her servers.

    A server that is neither ready nor pending is stopped.
    """

    name: str
    groups: tuple[str, ...]
    servers: tuple[HubServer, ...]


class HubClient:
    """The Hub at `api_url` (`http://…/hub/api`), asked with the `token` of a service; from any thread.

    The token needs the scopes `list:users` and `read:servers`, `servers` to start or stop one, and
    `read:users:groups` to tell anybody's groups. Each call may raise HubUnavailable.
    """

    def __init__(self, *, api_url: str, token: str, timeout_seconds: float = 30) -> None:
        self._url = api_url.rstrip("/")
        self._headers = {"Authorization": f"token {token}", "Accept": _PAGES}
        self._timeout = timeout_seconds

    def user_names(self) -> frozenset[str]:
        """Return the names of all users that the Hub knows: who has never signed in is none."""
        users = self._users()
        with _reading("/users"):
            return frozenset(str(user["name"]) for user in users)

    def servers(self) -> tuple[HubServer, ...]:
        """Return the servers of all users that are ready or pending; a stopped one is not among them."""
        users = self._users()
        with _reading("/users"):
            return tuple(one for user in users for one in _read_servers(user))

    def user(self, name: str) -> HubUser | None:
        """Return a user with all her servers, stopped ones too; None for who has never signed in."""
        path = f"/users/{quote(name, safe='')}"
        answer = self._call("GET", path, params={"include_stopped_servers": "1"})
        if answer.status_code == 404:
            return None
        with _reading(path):
            found = _require_ok(answer).json()
            groups = tuple(str(group) for group in found.get("groups") or ())
            return HubUser(name=found["name"], groups=groups, servers=tuple(_read_servers(found)))

    def start(self, user: str, server: str, options: Mapping[str, object] | None = None) -> bool:
        """Have a server started with these options, else with those of its last start; False if it runs.

        Returns when it is ready, or while it still starts, after the Hub's `slow_spawn_timeout` (10 s as
        shipped; `timeout_seconds` has to be more). A named server that is not there is made.

        Raises:
            RequestRefused: the Hub does not start it, in the Hub's words.
        """
        path = _server_path(user, server)
        answer = self._call("POST", path, body=options)
        if answer.status_code in (201, 202):
            return True
        # That it runs already is a 400 too, like any other but for its words.
        if answer.status_code == 400 and self._is_ready(path):
            return False
        words = _find_words(answer)
        if answer.status_code in _REFUSALS or (answer.status_code in _TOO_MUCH and words):
            default = f"The Hub did not start this server ({answer.status_code} {answer.reason})."
            raise RequestRefused(words or default, detail=_describe(answer))
        raise HubUnavailable(_UNAVAILABLE, detail=_describe(answer))

    def stop(self, user: str, server: str, *, forgets: bool = False) -> bool:
        """Have a server stopped, or its start given up; False if the Hub has nothing to stop.

        With `forgets` the Hub keeps nothing of a named server, also of one that is stopped. Returns when it
        is stopped, or while it still stops, after the Hub's `slow_stop_timeout`.
        """
        body = {"remove": True} if forgets and server else None
        answer = self._call("DELETE", _server_path(user, server), body=body)
        if answer.status_code in (202, 204):
            return True
        if answer.status_code in _REFUSALS:
            return False
        raise HubUnavailable(_UNAVAILABLE, detail=_describe(answer))

    def locate_progress(self, user: str, server: str) -> tuple[str, dict[str, str]]:
        """Return address and headers of the stream that tells how a start goes (`text/event-stream`)."""
        return f"{self._url}{_server_path(user, server)}/progress", dict(self._headers)

    def _is_ready(self, path: str) -> bool:
        answer = self._call("GET", path)
        if answer.status_code == 404:
            return False
        with _reading(path):
            return bool(_require_ok(answer).json()["ready"])

    def _users(self) -> list[dict[str, Any]]:
        """Return the Hub's model of each user, from all pages."""
        users: list[dict[str, Any]] = []
        offset: int | None = 0
        while offset is not None:
            answer = self._call("GET", "/users", params={"offset": offset, "limit": _PAGE_SIZE})
            with _reading("/users"):
                page = _require_ok(answer).json()
                users += page["items"]
                following = page["_pagination"]["next"]
                offset = int(following["offset"]) if following else None
        return users

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> requests.Response:
        try:
            with requests.Session() as session:
                # Else a .netrc would replace the token, and a proxy read it.
                session.trust_env = False
                return session.request(
                    method,
                    self._url + path,
                    params=params,
                    json=body,
                    headers=self._headers,
                    timeout=self._timeout,
                    allow_redirects=False,
                )
        except requests.RequestException as exc:
            raise HubUnavailable(_UNAVAILABLE, detail=f"{method} {path}: {exc}") from exc


def _read_servers(user: Mapping[str, Any]) -> Iterator[HubServer]:
    for name, server in user["servers"].items():
        yield HubServer(
            user=user["name"],
            server=name,
            ready=bool(server["ready"]),
            pending=server["pending"] or "",
            last_activity=_read_time(server["last_activity"]),
        )


def _server_path(user: str, server: str) -> str:
    where = f"servers/{quote(server, safe='')}" if server else "server"
    return f"/users/{quote(user, safe='')}/{where}"


def _read_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00"))


def _require_ok(answer: requests.Response) -> requests.Response:
    if answer.status_code != 200:
        raise HubUnavailable(_UNAVAILABLE, detail=_describe(answer))
    return answer


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Translate what comes of an answer that is not as expected."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise HubUnavailable(
            _UNAVAILABLE,
            detail=f"GET {path}: cannot read the answer ({type(exc).__name__}: {exc}); it lacks what the "
            "token has no scope for: list:users and read:servers are needed",
        ) from exc


def _find_words(answer: requests.Response) -> str:
    """Return the sentence of the Hub's error, which is JSON; "" where somebody between us answered."""
    try:
        return str(answer.json()["message"])
    except (KeyError, TypeError, ValueError):
        return ""


def _describe(answer: requests.Response) -> str:
    request = answer.request
    return f"{request.method} {request.path_url}: {answer.status_code} {answer.text[:300]}"

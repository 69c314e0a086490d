"""Who asks the service something, each with a token of her own, and tables of what they get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from .hub import Hub
from .student import Student

SERVICE = "/services/ds01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """The people of a Hub by their names, and the token of each role, "" for none."""

    hub: Hub
    people: Mapping[str, Student]
    tokens: Mapping[str, str]

    def ask(self, role: str, path: str, method: str = "GET", **more: Any) -> httpx.Response:
        """Ask the service with the token of a role."""
        headers = {**more.pop("headers", {})}
        if self.tokens[role]:
            headers["Authorization"] = f"token {self.tokens[role]}"
        url = f"{self.hub.url}{SERVICE}/{path}"
        return httpx.request(method, url, headers=headers, timeout=60, trust_env=False, **more)

    def slot(self, role: str, index: str) -> dict[str, Any]:
        """Return what a role sees of a slot."""
        gpus = self.ask(role, "api/gpus").json()["gpus"]
        found: dict[str, Any] = next(one for gpu in gpus for one in gpu["slots"] if one["id"] == index)
        return found

    def close(self) -> None:
        """Stop all servers and close the browsers."""
        for student in self.people.values():
            for server in student.model()["servers"]:
                if student.server(server):
                    student.stop(server)
            student.close()
            self.hub.clean(student.person)


def read_cells(table: str) -> list[tuple[str, str, int]]:
    """Return role, request and status of each cell of a table, whose first line names the roles."""
    heading, *rows = table.strip("\n").splitlines()
    width, roles = len(heading) - len(heading.lstrip()), heading.split()
    return [
        (role, row[:width].strip(), int(status))
        for row in rows
        for role, status in zip(roles, row[width:].split(), strict=True)
    ]

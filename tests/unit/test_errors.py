"""What the package exports, and what every error of it can be asked."""

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

import ds01_spawner
from ds01_spawner import errors
from ds01_spawner.errors import DS01Error, RequestRefused, SiteBroken


def tree(error: type[DS01Error] = DS01Error) -> Iterator[type[DS01Error]]:
    yield error
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


ALL = tuple(tree())


def test_package_exports_the_spawner_and_the_sites_settings() -> None:
    assert ds01_spawner.__all__ == ["DS01", "DS01Spawner", "template_paths"]
    assert ds01_spawner.DS01.__name__ == "DS01"
    assert ds01_spawner.DS01Spawner.__name__ == "DS01Spawner"


def test_package_has_no_other_name() -> None:
    with pytest.raises(AttributeError, match="'Spawner'"):
        _ = ds01_spawner.Spawner


def test_rules_need_neither_jupyterhub_nor_docker() -> None:
    rules = "catalog limits allocator image mlc identity reconcile form request inventory packages buildlog"
    program = (
        "import importlib, sys\n"
        f"for name in {rules.split()}: importlib.import_module(f'ds01_spawner.{{name}}')\n"
        "print({'jupyterhub', 'docker', 'sqlalchemy', 'pynvml'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_every_error_is_in_the_tree() -> None:
    defined = {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert defined == set(ALL)


@pytest.mark.parametrize("error", ALL)
def test_every_error_carries_its_sentence_and_the_cause(error: type[DS01Error]) -> None:
    caught = error("It is so. Do this.", detail="errno 2")
    assert (str(caught), caught.message, caught.detail) == (
        "It is so. Do this.",
        "It is so. Do this.",
        "errno 2",
    )
    assert error("It is so.").detail == ""


@pytest.mark.parametrize("error", ALL)
def test_every_error_crosses_a_process_whole(error: type[DS01Error]) -> None:
    copy = pickle.loads(pickle.dumps(error("It is so.", detail="errno 2")))
    assert (type(copy), str(copy), copy.detail) == (error, "It is so.", "errno 2")


@pytest.mark.parametrize("error", ALL)
def test_every_error_has_a_reason_for_metrics_and_a_status(error: type[DS01Error]) -> None:
    assert "reason" in vars(error)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", error.reason)
    assert error.status_code in (400, 403, 404, 409, 500, 503)


def test_no_two_errors_share_a_reason() -> None:
    assert len({error.reason for error in ALL}) == len(ALL)


def test_what_she_asked_for_is_her_matter_and_what_is_broken_the_admins() -> None:
    assert {error.status_code for error in tree(RequestRefused)} == {400}
    assert {error.status_code for error in tree(SiteBroken)} == {503}


@pytest.mark.parametrize("error", ALL)
def test_tree_that_is_drawn_is_the_tree_that_is(error: type[DS01Error]) -> None:
    drawn = re.search(
        rf"^(?P<branch>[│├└─ ]*){error.__name__} +(?P<status>\d+)?", errors.__doc__ or "", re.MULTILINE
    )
    assert drawn is not None
    assert len(drawn["branch"]) // 4 == error.__mro__.index(DS01Error)
    assert drawn["status"] in (None, str(error.status_code))

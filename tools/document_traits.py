#!/usr/bin/env python3
"""Print docs/configuration.md: every setting of DS01 and DS01Spawner, from the classes themselves.

Runs in the project's environment: `.venv/bin/python tools/document_traits.py > docs/configuration.md`.
The same classes give the same text, on any machine.
"""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
from typing import Any

from traitlets import TraitType
from traitlets.config import Configurable

from ds01_spawner import DS01Spawner
from ds01_spawner.site import DS01

WIDTH = 100
INTRODUCTION = """\
# Configuration

<!-- Made by tools/document_traits.py from the classes. Change the help there, not here. -->

All settings stand in `jupyterhub_config.py`. A minimal one is in the [README](../README.md), a whole
one in [hub_config/production_config.py](../hub_config/production_config.py). What a person may have
(GPUs, memory, containers) is not set here but in the limits file, which is read again when it
changes: see the comments in [hub_config/resource-limits.yaml](../hub_config/resource-limits.yaml).
"""
SITE = "## The site: `c.DS01`\n\nOne value for the whole Hub, read when the Hub starts.\n"
SERVER = """\
## One server: `c.DS01Spawner`

What holds for every server. A profile may override any of these but `profile_list` in its `spawner_override`.
"""
INHERITED = """\
## What comes from JupyterHub and DockerSpawner

DS01Spawner is a DockerSpawner. `environment`, `args`, `poll_interval`, `pre_spawn_hook`,
`group_overrides`, `extra_create_kwargs`, `extra_host_config` and `volumes` keep their meaning; where
one of them contradicts the container contract (name, labels, user, devices, limits), the contract
wins. A bind mount from `volumes` or `extra_host_config` is opened by Docker as root and not checked
as the student. `image`, `allowed_images`, `name_template`, `mounts`, `cmd`, `mem_limit` and
`cpu_limit` have no effect: the catalog, the contract and the limits file decide these.
"""


def list_own(cls: type[Configurable]) -> dict[str, TraitType[Any, Any]]:
    """Return the settings that this package adds to `cls` or gives another default, by name."""
    package = DS01.__module__.partition(".")[0]
    return {
        name: trait
        for name, trait in sorted(cls.class_traits(config=True).items())
        if trait.this_class is not None and trait.this_class.__module__.startswith(f"{package}.")
    }


def show_default(trait: TraitType[Any, Any]) -> str:
    """Return a default as one writes it in Python, a long one over several lines."""
    value = trait.default()
    if isinstance(value, (dict, list)) and len(repr(value)) > WIDTH - 20:
        items = value.items() if isinstance(value, dict) else [(None, item) for item in value]
        lines = [f"    {_quote(key) + ': ' if key is not None else ''}{_quote(item)}," for key, item in items]
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        return "\n".join([opening, *lines, closing])
    return _quote(value)


def _quote(value: object) -> str:
    if isinstance(value, (str, list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


def show_setting(section: str, name: str, trait: TraitType[Any, Any]) -> str:
    """Return the paragraph of one setting: how it is written by default, and its help."""
    words = " ".join(inspect.cleandoc(trait.help).split())
    help_text = textwrap.fill(words, WIDTH, break_long_words=False, break_on_hyphens=False)
    return f"### `{name}`\n\n```python\nc.{section}.{name} = {show_default(trait)}\n```\n\n{help_text}\n"


def show_page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION, SITE]
    parts += [show_setting("DS01", name, trait) for name, trait in list_own(DS01).items()]
    parts.append(SERVER)
    parts += [show_setting("DS01Spawner", name, trait) for name, trait in list_own(DS01Spawner).items()]
    parts.append(INHERITED)
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(show_page())

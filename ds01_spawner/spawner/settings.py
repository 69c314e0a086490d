"""The settings of one server, `c.DS01Spawner.*`; each trait's help is its manual."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from traitlets import Any, Bool, Dict, Integer, List, TraitError, Unicode, Union
from traitlets import Callable as CallableTrait
from traitlets.config import Configurable

from ..errors import ConfigBroken
from ..model import ServerDefaults


class ServerSettings(Configurable):
    """What an admin sets per server, and a profile overrides."""

    profile_list = Union(
        [List(Any()), CallableTrait()],
        config=True,
        help="""The profiles on the options form, in KubeSpawner's shape, or a callable (it may be
        async) that takes the spawner and returns them. Keys: `display_name`, `slug`, `description`,
        `default`, `groups` (who may see and use it; left out: everybody), `spawner_override` (any of
        these settings), `profile_options`.""",
    )
    framework = Unicode(
        "Pytorch", config=True, help="Framework of the catalog when the student chooses none."
    )
    framework_version = Unicode("", config=True, help="Its version; empty: the newest for this architecture.")
    base_image = Unicode("", config=True, help="An image to build on instead of one of the catalog's.")
    use_case = Unicode("none", config=True, help="Use case whose packages are added (`c.DS01.use_cases`).")
    packages = List(Unicode(), config=True, help="Python packages to add, as requirements.")
    system_packages = List(Unicode(), config=True, help="Debian packages to add.")
    gpu_profile = Unicode("none", config=True, help="A MIG profile such as `1g.10gb`, `full`, or `none`.")
    gpu_count = Integer(1, min=0, config=True, help="How many slots of that profile.")
    workspace_dir = Unicode(
        "~/workspace",
        config=True,
        help="Directory of the host at /workspace; made, as the student, if missing.",
    )
    data_dir = Unicode("", config=True, help="Directory of the host at /data, read-only; empty: none.")
    models_dir = Unicode("", config=True, help="Directory of the host at /models, read-only; empty: none.")
    home_dir = Unicode(
        "~/.ds01/home",
        config=True,
        help="""Directory of the host that is her home inside containers, kept when they go. Not the
        host's own home, so that host and container Pythons do not meet.""",
    )
    allow_custom_base_image = Bool(False, config=True, help="Whether a student may name any base image.")
    allow_package_options = Bool(
        False, config=True, help="Whether package URLs pass. They run anybody's code in the build."
    )
    allow_mount_options = Bool(
        False, config=True, help="Whether a student may choose workspace, data and models directories."
    )
    allow_sudo = Bool(
        False,
        config=True,
        help="""Whether she may become root inside her container with sudo. That costs no-new-privileges
        and the dropped capabilities; and root there can leave a set-user-ID program in `~/workspace`,
        which makes her root on the host if she has a shell there.""",
    )
    privileged = Bool(
        False,
        config=True,
        help="""AIME's `--privileged`. It makes every GPU and every device of the host visible and so
        ends isolation: one student can take another's slice, and the host.""",
    )
    host_ipc = Bool(
        False,
        config=True,
        help="AIME's `--ipc=host`: shared memory of all containers and the host is one. Costs isolation.",
    )
    host_network = Bool(
        False,
        config=True,
        help="""AIME's `--network=host`: servers listen on the host, and containers reach each other and
        all that listens on 127.0.0.1. Costs isolation.""",
    )
    ulimits = Dict(
        {"memlock": -1, "stack": 67108864},
        config=True,
        help="AIME's ulimits, left out with a warning where the engine may not set them; -1 is unlimited.",
    )

    def set_all(self, values: Mapping[str, object]) -> None:
        """Set what a profile overrides.

        Raises:
            ConfigBroken: there is no such setting, or it takes no such value.
        """
        for name, value in values.items():
            try:
                if not self.has_trait(name):
                    raise TraitError("there is no such setting of DS01Spawner")
                setattr(self, name, value)
            except TraitError as exc:
                raise ConfigBroken(
                    "This profile is set up wrongly. Choose another one, and tell your admin.",
                    detail=f"spawner_override sets {name!r}: {exc}",
                ) from exc

    def defaults(self, use_cases: Iterable[str]) -> ServerDefaults:
        """Return what the settings say of a server where its user says nothing."""
        return ServerDefaults(
            framework=self.framework,
            framework_version=self.framework_version,
            base_image=self.base_image,
            use_case=self.use_case,
            packages=tuple(self.packages),
            system_packages=tuple(self.system_packages),
            gpu_profile=self.gpu_profile,
            gpu_count=self.gpu_count,
            workspace_dir=self.workspace_dir,
            data_dir=self.data_dir,
            models_dir=self.models_dir,
            allow_custom_base_image=self.allow_custom_base_image,
            allow_package_options=self.allow_package_options,
            allow_mount_options=self.allow_mount_options,
            use_cases=tuple(use_cases),
        )

"""What a server is asked to be, and what an admin offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .gpus import NO_GPU

DEFAULT_SERVER = "jupyter"
NO_USE_CASE = "none"
UNLISTED_CHOICE = "unlisted-choice"  # in the form: the free text besides the choices


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDefaults:
    """What the spawner's traits say of a server, once its profile's overrides are set; the same names.

    `use_cases` are the names that the site knows, `none` understood.
    """

    framework: str = ""
    framework_version: str = ""
    base_image: str = ""
    use_case: str = NO_USE_CASE
    packages: tuple[str, ...] = ()
    system_packages: tuple[str, ...] = ()
    gpu_profile: str = NO_GPU
    gpu_count: int = 0
    workspace_dir: str = ""
    data_dir: str = ""
    models_dir: str = ""
    allow_custom_base_image: bool = False
    allow_package_options: bool = False
    allow_mount_options: bool = False
    use_cases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRequest:
    """What one server shall be, after defaults, profile, and every check on its own values.

    `gpu_profile` is a MIG profile, `full` or `none`; `gpu_count` is 0 exactly when it is `none`.
    `base_image` is set instead of framework and version when a custom base was allowed. `cpus`,
    `memory`, `shm_size` and `pids_limit` only lower the user's limits. Packages are normalised
    requirement strings; `requirements` are the lines of an uploaded file, likewise normalised. `rebuild`
    asks for an image on the base as it is now, where there is one on the base as it was.
    """

    profile: str
    framework: str = ""
    framework_version: str = ""
    base_image: str = ""
    use_case: str = "none"
    packages: tuple[str, ...] = ()
    system_packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    gpu_profile: str = NO_GPU
    gpu_count: int = 0
    rebuild: bool = False
    cpus: float | None = None
    memory: int | None = None
    shm_size: int | None = None
    pids_limit: int | None = None
    workspace_dir: str = ""
    data_dir: str = ""
    models_dir: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileChoice:
    """One choice of a profile's option: its slug, what is shown, and the traits it overrides."""

    slug: str
    display_name: str
    default: bool = False
    override: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOption:
    """One `profile_options` entry: a set of choices, and perhaps a free text besides them."""

    slug: str
    display_name: str
    choices: tuple[ProfileChoice, ...]
    unlisted_display_name: str = ""
    unlisted_choice_name: str = ""
    unlisted_pattern: str = ""
    unlisted_message: str = ""
    unlisted_override: Mapping[str, str] = field(default_factory=dict)

    @property
    def allows_unlisted(self) -> bool:
        return bool(self.unlisted_display_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What an admin offers on the options form; `groups` empty means everybody."""

    slug: str
    display_name: str
    description: str = ""
    default: bool = False
    groups: tuple[str, ...] = ()
    options: tuple[ProfileOption, ...] = ()
    override: Mapping[str, object] = field(default_factory=dict)

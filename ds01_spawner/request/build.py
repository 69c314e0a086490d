"""What one server shall be: her options over the profile's and the site's defaults, checked by value."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from ..errors import ConfigBroken, NotAllowed, RequestRefused, about
from ..model import FULL_GPU, MOST_GPUS, NO_GPU, NO_USE_CASE, Profile, ServerDefaults, ServerRequest
from ..packages import check_system_packages, normalise_requirements, parse_requirements_file
from .options import Unlisted, UserOptions
from .wording import describe, suggest

# NVIDIA's spelling: 1g.10gb, 1c.3g.20gb, 1g.10gb+me, 1g.24gb+me.all, 1g.24gb-me.
_MIG_PROFILE = re.compile(r"(?:[0-9]{1,2}c\.)?[0-9]{1,2}g\.[0-9]{1,4}gb(?:[+-][a-z]+(?:\.[a-z]+)*)*")

# A Docker reference, as github.com/distribution/reference defines it.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[A-Fa-f0-9:]+\])(?::[0-9]+)?/"
_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_TAG = r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,}"
_REFERENCE = re.compile(rf"(?:{_REGISTRY})?{_PART}(?:/{_PART})*(?:{_TAG})?(?:{_DIGEST})?")

_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{4,64}")

_T = TypeVar("_T")


def build_request(options: UserOptions, profile: Profile | None, defaults: ServerDefaults) -> ServerRequest:
    """Return what the server shall be; her packages are added to those of the profile.

    Raises:
        NotAllowed: a base image or a directory, where the profile leaves her no choice of it.
        RequestRefused: a value that cannot be meant, or two that contradict each other.
        ConfigBroken: a default of the site or the profile that cannot be used.
    """
    with about("base_image" if options.base_image else "framework"):
        framework, version, base_image = _choose_image(options, defaults)
    with about("gpu_profile"):
        gpu_profile, gpu_count = _choose_gpus(options, defaults)
    with about("use_case"):
        use_case = _choose_use_case(options, defaults)
    with about("packages"):
        packages = _choose_packages(options, defaults)
    with about("system_packages"):
        system_packages = _choose_system_packages(options, defaults)
    with about("requirements"):
        requirements = parse_requirements_file(
            options.requirements, allow_urls=defaults.allow_package_options
        )
    return ServerRequest(
        profile=profile.slug if profile else "",
        framework=framework,
        framework_version=version,
        base_image=base_image,
        use_case=use_case,
        packages=packages,
        system_packages=system_packages,
        requirements=requirements,
        gpu_profile=gpu_profile,
        gpu_count=gpu_count,
        rebuild=options.rebuild,
        cpus=options.cpus,
        memory=options.memory,
        shm_size=options.shm_size,
        pids_limit=options.pids_limit,
        workspace_dir=_choose_directory("workspace_dir", options, defaults),
        data_dir=_choose_directory("data_dir", options, defaults),
        models_dir=_choose_directory("models_dir", options, defaults),
    )


def _check_default(trait: str, check: Callable[[], _T], options: UserOptions) -> _T:
    """A default that fails is the admin's mistake, unless a free text of hers may have gone into it."""
    try:
        return check()
    except RequestRefused as exc:
        if any(isinstance(choice, Unlisted) for choice in options.profile_options.values()):
            raise
        message = f"This profile's `{trait}` cannot be used: choose another profile, or tell your admin."
        raise ConfigBroken(message, detail=f"{trait}: {exc}") from exc


def _choose_image(options: UserOptions, defaults: ServerDefaults) -> tuple[str, str, str]:
    """Return (framework, version, base image); either the first or the last is set."""
    framework, version = options.framework, options.framework_version
    if options.base_image:
        if not defaults.allow_custom_base_image:
            message = (
                "This profile takes no `base_image` of your own: choose a `framework`, or ask your admin."
            )
            raise NotAllowed(message)
        if framework or version:
            raise RequestRefused(
                "A `base_image` has no `framework` or `framework_version`: leave out the one or the others."
            )
        return "", "", _check_reference(options.base_image)
    if framework:
        if not version and framework.casefold() == defaults.framework.casefold():
            version = defaults.framework_version
        return framework, version, ""
    if defaults.base_image and not version:
        return "", "", _check_default("base_image", lambda: _check_reference(defaults.base_image), options)
    if not defaults.framework or defaults.base_image:
        raise RequestRefused(
            "No `framework` was chosen: choose one, with a `framework_version` if you need a certain one."
        )
    return defaults.framework, version or defaults.framework_version, ""


def _check_reference(text: str) -> str:
    # Docker would take it for any image on the machine that has such an id, somebody else's too.
    if _IMAGE_ID.fullmatch(text):
        message = f"{describe(text)} reads like the id of an image: write `base_image` by name and tag."
        raise RequestRefused(message)
    if not _REFERENCE.fullmatch(text):
        message = (
            f"{describe(text)} is not the name of an image, such as `ubuntu:24.04`: correct `base_image`."
        )
        raise RequestRefused(message)
    return text


def _choose_gpus(options: UserOptions, defaults: ServerDefaults) -> tuple[str, int]:
    """Return (GPU profile, count); the count is 0 exactly when there is no GPU."""
    usual = _check_default("gpu_profile", lambda: _check_gpu_profile(defaults.gpu_profile), options)
    gpu_profile = _check_gpu_profile(options.gpu_profile) if options.gpu_profile else usual
    count = options.gpu_count
    if gpu_profile == NO_GPU:
        if count:
            raise RequestRefused(
                f"`gpu_count` is {count}, but no GPU was chosen: choose a `gpu_profile` too."
            )
        return NO_GPU, 0
    if count == 0:
        raise RequestRefused(f"`gpu_count` is 0: to start without a GPU, choose `{NO_GPU}` as `gpu_profile`.")
    if count is None:
        count = (defaults.gpu_count if gpu_profile == usual else 0) or 1
    if not 1 <= count <= MOST_GPUS:
        message = "The `gpu_count` of this profile cannot be used: give one of your own, or tell your admin."
        raise ConfigBroken(message, detail=f"gpu_count {count} is not within 1 and {MOST_GPUS}")
    return gpu_profile, count


def _check_gpu_profile(text: str) -> str:
    spelled = (text or NO_GPU).lower()
    if spelled not in (NO_GPU, FULL_GPU) and not _MIG_PROFILE.fullmatch(spelled):
        message = (
            f"{describe(text)} is no GPU profile: take one such as `1g.10gb`, or `{FULL_GPU}` or `{NO_GPU}`."
        )
        raise RequestRefused(message)
    return spelled


def _choose_use_case(options: UserOptions, defaults: ServerDefaults) -> str:
    known = {name.casefold(): name for name in (NO_USE_CASE, *defaults.use_cases)}

    def check(name: str) -> str:
        found = known.get(name.casefold())
        if found is None:
            raise RequestRefused(f"There is no use case {describe(name)}: {suggest(name, known.values())}")
        return found

    if options.use_case:
        return check(options.use_case)
    return _check_default("use_case", lambda: check(defaults.use_case or NO_USE_CASE), options)


def _choose_packages(options: UserOptions, defaults: ServerDefaults) -> tuple[str, ...]:
    """Return the requirements of profile and user, each once; pip says it if two contradict."""

    def usual() -> tuple[str, ...]:
        return normalise_requirements(defaults.packages, allow_urls=True)

    hers = normalise_requirements(options.packages, allow_urls=defaults.allow_package_options)
    return tuple(sorted({*_check_default("packages", usual, options), *hers}))


def _choose_system_packages(options: UserOptions, defaults: ServerDefaults) -> tuple[str, ...]:
    def usual() -> tuple[str, ...]:
        return check_system_packages(defaults.system_packages)

    hers = check_system_packages(options.system_packages)
    return tuple(sorted({*_check_default("system_packages", usual, options), *hers}))


def _choose_directory(key: str, options: UserOptions, defaults: ServerDefaults) -> str:
    asked: str = getattr(options, key)
    usual: str = getattr(defaults, key)
    with about(key):
        if not asked:
            return _check_default(key, lambda: _check_directory(key, usual), options)
        if not defaults.allow_mount_options:
            raise NotAllowed(f"This profile takes no `{key}` of your own: leave it out, or ask your admin.")
        return _check_directory(key, asked)


def _check_directory(key: str, text: str) -> str:
    """Return `text`: "" or an absolute path, or one below `~`, that can stand in a label and a mount."""
    absolute = text in ("", "~") or text.startswith(("/", "~/"))
    if not absolute or ".." in text.split("/") or not text.isprintable() or any(c in text for c in ",:"):
        message = (
            f"{describe(text)} cannot be `{key}`: take a path that starts with `/` or `~/`, "
            "without `..`, comma or colon."
        )
        raise RequestRefused(message)
    return text

"""`ds01 image build` and `ds01 image prebuild`: what profiles need, built before a student waits for it.

Images are built one after another, beside those that the Hub builds. An image on an older base image stays
in use until the new one is there.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from ...buildlog import sum_up
from ...errors import BuildFailed, DS01Error, EngineUnavailable, ImageFailed
from ..gpu.changes import find_who
from ..leaving import Abandoned
from ..sources import Sources, open_core
from ..tables import print_json, show
from .parts import say
from .site import name_profiles, read_starts, short_name, state_of, tell_problems

if TYPE_CHECKING:
    from ...core import Core
    from ...core.stock import ProfileImage
    from ...model import BaseImage, BuiltImage, ServerRequest


def build_profile(options: argparse.Namespace, sources: Sources) -> None:
    """Build the image of one profile, and print its name."""
    from ...spawner.starts import find_start

    core = open_core(sources)
    assert sources.site is not None
    start = find_start(sources.site, options.profile, dict(options.choices))
    base = core.offers.base_of(start.request)
    if base.warning:
        say(base.warning)
    found = core.images.find(base, replace(start.request, rebuild=True))
    built = found
    if found is not None:
        say("The image is there already.")
    elif options.dry_run:
        say(f"An image on {base.image} would be built.")
    else:
        built = _build(core, base, start.request)
    record = built.build if built else None
    if options.json:
        print_json(
            {
                "profile": start.profile,
                "base": base.image,
                "image": built and built.tag,
                "built": record is not None,
                "seconds": record and round(record.duration.total_seconds(), 3),
                "steps": record and record.steps,
                "reused": record and record.reused,
                "dry_run": options.dry_run,
            }
        )
    elif built is not None:
        print(built.tag)


def prebuild(options: argparse.Namespace, sources: Sources) -> None:
    """Build what profiles lack, or have on an older base image only.

    Raises:
        ImageFailed: some could not be built; all the others were.
    """
    core = open_core(sources)
    wanted, problems = core.image_store.profile_images(read_starts(sources))
    done, failed = list[dict[str, object]](), list[str]()
    for one in wanted:
        about = show(f"{name_profiles(one.profiles)} on {one.base.image}")
        built, error = None, ""
        if not one.is_current and not options.dry_run:
            say(f"Building for {about}.")
            try:
                built = _build(core, one.base, one.request)
            except EngineUnavailable:
                raise
            except DS01Error as exc:
                error = str(exc)
                failed.append(f"{about}: {error}" + (f"\n  {exc.detail}" if exc.detail else ""))
        done.append(_as_json(one, built, error))
        if not options.json:
            print(f"{about}: {_describe(one, built, error, dry_run=options.dry_run)}")
    if options.json:
        print_json({"images": done, "problems": list(problems), "dry_run": options.dry_run})
    tell_problems(problems)
    if failed:
        raise ImageFailed(
            f"{len(failed)} of {len(wanted)} images could not be built.", detail="\n  ".join(failed)
        )


def _build(core: Core, base: BaseImage, request: ServerRequest) -> BuiltImage:
    """Build an image on the base as it is now, and tell its steps as the student's page does.

    Raises:
        BuildFailed: `detail` has the lines that matter, and where the log is.
        Abandoned: Ctrl-C.
    """

    def tell(sentence: str) -> None:
        print(show(sentence), file=sys.stderr)

    build = core.images.join(base, replace(request, rebuild=True), find_who(), tell)
    try:
        built = build.future.result()
    except KeyboardInterrupt as exc:
        raise Abandoned("The build was ended. What it had done is not lost to the next one.") from exc
    except BuildFailed as exc:
        where = "`ds01 image log --failed` shows which failed, and their logs."
        raise BuildFailed(exc.message, detail="\n  ".join((*exc.lines, where)), lines=exc.lines) from exc
    finally:
        core.images.leave(build, tell)
    if built.build is not None:
        steps, reused = built.build.steps, built.build.reused
        tell(sum_up(built.build.duration.total_seconds(), steps=steps, reused=reused))
    return built


def _as_json(wanted: ProfileImage, built: BuiltImage | None, error: str) -> dict[str, object]:
    found = built or wanted.built
    return {
        "profiles": list(wanted.profiles),
        "base": wanted.base.image,
        "state": state_of(wanted),
        "image": found and found.tag,
        "built": built is not None,
        "error": error,
    }


def _describe(wanted: ProfileImage, built: BuiltImage | None, error: str, *, dry_run: bool) -> str:
    if error:
        return "failed"
    if built is not None:
        return f"built, {short_name(built.tag)}"
    if wanted.is_current and wanted.built is not None:
        return f"there already, {short_name(wanted.built.tag)}"
    return f"would be built, {state_of(wanted)} now" if dry_run else state_of(wanted)

"""`ds01 image`: images of one's own, as the seeds' `image-create` and its siblings make them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..parsing import add_parser
from ..sources import Sources
from .admin import LIST_ALL, add_verbs
from .create import create_image
from .mine import delete_image, list_own
from .site import list_all
from .update import update_image

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

Run = Callable[[argparse.Namespace, Sources], None]

_BUILT = """\
  name, image, base, folder     strings; `image` is the name that Docker has
  built                         true or false
  id, seconds, steps, reused    string and numbers, null where nothing was built
"""
_CREATE = f"""\
What is not said is asked: without a name, or without -f and --base, or with
--guided, a wizard asks in three phases. The files of the build are written to
~/dockerfiles/NAME, and the image is called NAME-USER-image.

PKGS are names with blanks between: -p "wandb torch>=2.1".

With --json, an object:
{_BUILT}"""
_UPDATE = f"""\
Edit packages.txt, system.txt or requirements.txt in ~/dockerfiles/NAME first, or
add packages here. Whatever you change in the Dockerfile is kept from then on.
Containers that were made before stay on the old image.

With --json, an object:
{_BUILT}\
  changes                       object: for each file of the folder that changed
                                since the last build, an object with added and
                                removed, lists of lines
"""
_DELETE = """\
With --json, an object:
  name                            string
  image_removed, folder_removed   true or false
"""
_LIST = """\
With --json, a list of objects, by name:
  name, image                   strings; `image` is the name that Docker has
  built                         true or false; false where Docker is not asked
  id, base, created_at          strings, null where it is not built; the time is
                                ISO 8601 in UTC
  size_bytes                    number or null; with layers that others share
  folder                        string, null where it has gone
"""


def add_commands(commands: Commands, files: argparse.ArgumentParser) -> None:
    """Add the verbs of `image`; `files` are the options that every command has."""
    about = "images: make, change and remove your own"
    verbs = commands.add_parser("image", help=about, description=f"{about.capitalize()}.", parents=[files])
    subcommands = verbs.add_subparsers(metavar="VERB", required=True)
    _add_create(subcommands, files)
    _add_update(subcommands, files)
    deleting = _add(subcommands, files, "delete", delete_image, "remove an image of yours", _DELETE)
    deleting.add_argument("name", metavar="NAME", help="as `ds01 image list` shows it")
    deleting.add_argument("--yes", action="store_true", help="do not ask")
    deleting.add_argument(
        "--keep-folder",
        "--keep-dockerfile",
        action="store_true",
        help="only the image; the folder stays, to build it again",
    )
    listing = _add(subcommands, files, "list", list_images, "list your images", f"{_LIST}\n{LIST_ALL}")
    listing.add_argument(
        "--all",
        dest="needs_hub",
        action="store_true",
        help="admin: all images of this machine, what they take, and who needs them",
    )
    add_verbs(subcommands, files)


def list_images(options: argparse.Namespace, sources: Sources) -> None:
    """Print one's own images, or all of the machine."""
    (list_all if options.needs_hub else list_own)(options, sources)


def _add_create(subcommands: Commands, files: argparse.ArgumentParser) -> None:
    parser = _add(subcommands, files, "create", create_image, "make an image of your own", _CREATE)
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="such as my-project")
    parser.add_argument(
        "-f",
        "--framework",
        metavar="FRAMEWORK",
        default="",
        help="as `ds01 catalog list` has it, in any case",
    )
    parser.add_argument(
        "-V", "--version", metavar="VERSION", default="", help="of the framework; else the newest"
    )
    parser.add_argument("--base", metavar="IMAGE", default="", help="any other image in place of a framework")
    parser.add_argument(
        "-t",
        "--type",
        "--use-case",
        dest="use_case",
        metavar="USECASE",
        default="",
        help="packages of a field: ml, cv, nlp, rl, or what your site has; else none",
    )
    parser.add_argument("--no-base-packages", action="store_true", help="leave out what every image gets")
    _add_packages(parser, "-p", "--packages", "-s", "--system")
    parser.add_argument("--arch", metavar="ARCH", default="", help="as for `ds01 catalog resolve`")
    parser.add_argument("--guided", action="store_true", help="ask everything, with explanations")
    ending = parser.add_mutually_exclusive_group()
    ending.add_argument("--no-build", action="store_true", help="only write the files")
    ending.add_argument("--print", action="store_true", help="only print the Dockerfile")
    _add_secrets(parser)
    parser.set_defaults(parser=parser)


def _add_update(subcommands: Commands, files: argparse.ArgumentParser) -> None:
    about = "build an image of yours again, from its folder"
    parser = _add(subcommands, files, "update", update_image, about, _UPDATE)
    parser.add_argument("name", metavar="NAME", help="as `ds01 image list` shows it")
    _add_packages(parser, "-p", "--add", "-s", "--add-system")
    _add_secrets(parser)


def _add_packages(
    parser: argparse.ArgumentParser, short: str, long: str, system: str, system_long: str
) -> None:
    parser.add_argument(
        short,
        long,
        dest="packages",
        metavar="PKGS",
        action="append",
        default=[],
        help="Python packages; several times for several",
    )
    parser.add_argument(
        system,
        system_long,
        dest="system_packages",
        metavar="APT",
        action="append",
        default=[],
        help="system packages",
    )
    parser.add_argument(
        "-r", "--requirements", metavar="FILE", default="", help="a requirements.txt, which is copied"
    )


def _add_secrets(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "for the build", "files that it may read and that never get into the image; else as the site has it"
    )
    group.add_argument("--ca-bundle", metavar="FILE", default="", help="CA certificates to trust (PEM)")
    group.add_argument("--pip-config", metavar="FILE", default="", help="a pip.conf")
    group.add_argument("--apt-config", metavar="FILE", default="", help="an apt.conf")


def _add(
    subcommands: Commands, files: argparse.ArgumentParser, verb: str, run: Run, about: str, epilog: str
) -> argparse.ArgumentParser:
    parser = add_parser(subcommands, files, verb, about, epilog)
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=run)
    return parser

"""The `ds01` command: what people and admins ask of the site from a shell.

What a script wants is on stdout, whatever is said to a person on stderr. `container` and `status` ask the
service at its socket, as whoever runs them. `catalog` and `limits` read the admin's files, and the GPUs where
the architecture is left open. `gpu` and `reconcile` use the ledger and the Docker that the Hub's settings
name, as the Hub does. All start quickly: of the commands only the one that is meant is imported, and
JupyterHub for the Hub's settings alone.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from ..errors import ConfigBroken, DS01Error, NoContainer, ServiceUnavailable
from .leaving import Abandoned

_DONE, _FAILED, _MISUSED, _AWAY, _MISSING = 0, 1, 2, 3, 4
_LEFT = 128 + signal.SIGINT

_OWN_NAMES = ("ds01", "__main__.py")

# In which module each command is, in the order of the help.
_COMMANDS = {
    "status": "status",
    "container": "container",
    "project": "project",
    "user": "project.user",
    "image": "image",
    "catalog": "catalog",
    "limits": "limits",
    "gpu": "gpu",
    "reconcile": "reconcile",
    "old-names": "old_names",
}

_EPILOG = """\
exit status:
  0  done
  1  it could not be done; what happened and what to do next is on stderr
  2  the arguments, or the file named by --config, cannot be used
  3  the service does not answer at its socket
  4  there is no container of that name
  130  it was left by Ctrl-C, or the answers ended before the questions did
`ds01 container run` has the exit status of what it ran, and 128 and its number
where a signal ended that.

Without --config, --catalog and --limits, the files are searched where AIME and
DS01 install them. `gpu`, `reconcile` and what `image` has for an admin need the
Hub's settings: --config, else $DS01_CONFIG, else
/etc/jupyterhub/jupyterhub_config.py; mostly as root.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ds01` and return its exit status; `arguments` are those of the process unless given.

    A process that is called by an old name does what that stands for.

    Raises:
        SystemExit: after `--help`, `--version`, and with status 2 for wrong arguments.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        try:
            called = os.path.basename(sys.argv[0])
            if arguments is None and called not in _OWN_NAMES:
                from .old_names import OLD_NAMES, run_old

                if called in OLD_NAMES:
                    return run_old(called, sys.argv[1:], _run_arguments)
            return _run_arguments(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has gone (`| head`); what is left in the buffer would fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run_arguments(arguments: Sequence[str]) -> int:
    return _run(build_parser(arguments).parse_args(arguments))


def _run(options: argparse.Namespace) -> int:
    try:
        if options.asks_service:
            return options.run(options) or _DONE
        return _run_on_files(options)
    except ServiceUnavailable as error:
        return _report(error, _AWAY)
    except NoContainer as error:
        return _report(error, _MISSING)
    except DS01Error as error:
        return _report(error, _FAILED)
    except (Abandoned, KeyboardInterrupt) as left:
        print(f"ds01: {str(left) or 'Ended.'}", file=sys.stderr)
        return _LEFT


def _run_on_files(options: argparse.Namespace) -> int:
    from .sources import find_config, find_sources

    try:
        config_file = getattr(options, "config_file", "")
        sources = find_sources(
            config_file=find_config(config_file) if options.needs_hub else config_file,
            catalog_file=getattr(options, "catalog_file", ""),
            limits_file=getattr(options, "limits_file", ""),
        )
    except ConfigBroken as error:
        return _report(error, _MISUSED)
    return options.run(options, sources) or _DONE


def _report(error: DS01Error, status: int) -> int:
    print(f"ds01: {error}", file=sys.stderr)
    if error.detail:
        print(f"  {error.detail}", file=sys.stderr)
    return status


class _ShowVersion(argparse.Action):
    """Looks the version up when it is asked for: that reads the installed package's files."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"ds01 {version('ds01-spawner')}")
        parser.exit()


def build_parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser for some arguments; it has all commands where they do not begin with one.

    `run` in what it parses is the command: it is called with the options where it `asks_service`, else with
    options and sources.
    """
    files = _files_parser()
    parser = argparse.ArgumentParser(
        prog="ds01",
        description="Your containers on this machine; what is offered here, who has it, and its upkeep.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[files],
        allow_abbrev=False,
    )
    parser.set_defaults(needs_hub=False, asks_service=False)
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version, and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    meant = _COMMANDS.get(arguments[0]) if arguments else None
    for module in _COMMANDS.values() if meant is None else [meant]:
        import_module(f".{module}", __name__).add_commands(commands, files)
    return parser


def _files_parser() -> argparse.ArgumentParser:
    """Return the options that stand before or behind a command alike."""
    files = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = files.add_argument_group("files")
    for option, what in (
        ("config", "the Hub's jupyterhub_config.py, to read what the Hub reads"),
        ("catalog", "AIME's ml_images.repo"),
        ("limits", "DS01's resource-limits.yaml"),
    ):
        group.add_argument(f"--{option}", dest=f"{option}_file", metavar="FILE", help=what)
    return files

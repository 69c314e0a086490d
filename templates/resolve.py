"""Tries, inside a base image, what pip would install there, and says what that would break.

    resolve.py lay FILE…    notes what pip would install, so that what follows takes it for installed
    resolve.py try FILE…    fails where pip would, or where something in the image would not fit any more

The files are lists of packages in /run/ds01. Runs in the image's own Python, with a new pip and what was
noted in front of its path. A line that begins with `ds01: ` is for the Hub.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

NOTES = pathlib.Path("/opt/ds01/check/tiers")
LISTS = pathlib.Path("/run/ds01")
MOST_LINES = 50


def run_pip(names):
    """Let pip find out what it would install, and return that: the metadata of packages, by name."""
    pip = [sys.executable, "-m", "pip", "install"]
    with tempfile.TemporaryDirectory() as scratch:
        report, log = pathlib.Path(scratch, "report.json"), pathlib.Path(scratch, "pip.log")
        command = [*pip, "--dry-run", "--report", str(report), "--log", str(log)]
        command += ["--retries", "1", "--timeout", "10"]
        # Where the index has no metadata beside its wheels, this reads no more than the end of a wheel.
        option = "--use-feature=fast-deps"
        if (
            subprocess.call([*pip, option, "--help"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            == 0
        ):
            command.append(option)
        for name in names:
            command += ["-r", str(LISTS / name)]
        # One stream, so that what belongs together stays together in the log.
        status = subprocess.call(command, stderr=subprocess.STDOUT)
        if status:
            say_what_the_index_said(log)
            sys.exit(status)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {canonical(item["metadata"]["name"]): item["metadata"] for item in found}


def say_what_the_index_said(log):
    """Say which pages of the index could not be had: pip takes them for packages that do not exist."""
    if log.exists():
        text = log.read_text(encoding="utf-8", errors="replace")
        failed = re.findall(r"Could not fetch URL \S*?/([\w.-]+)/?: (\d*)", text)
        for name, status in list(dict.fromkeys(failed))[:MOST_LINES]:
            print("ds01: index", name, status or "failed")


def lay(names):
    """Note what pip would install, as if it were installed."""
    for name, metadata in run_pip(names).items():
        key = name.replace("-", "_")
        for old in NOTES.glob(key + "-*.dist-info"):
            (old / "METADATA").unlink()
            old.rmdir()
        made = NOTES / "{}-{}.dist-info".format(key, metadata["version"])
        made.mkdir(parents=True)
        lines = ["Metadata-Version: 2.1", "Name: " + metadata["name"], "Version: " + metadata["version"]]
        lines += ["Requires-Dist: " + text for text in metadata.get("requires_dist", ())]
        lines += ["Provides-Extra: " + text for text in metadata.get("provides_extra", ())]
        (made / "METADATA").write_text("\n".join(lines) + "\n\n", encoding="utf-8")


def check(names):
    """Fail where what is installed, and would stay, needs something that would be replaced."""
    wanted = run_pip(names)
    try:
        from importlib.metadata import distributions
    except ImportError:
        # Python 3.7 and older.
        return
    installed = {}
    for found in distributions():
        if found.metadata["Name"] and found.metadata["Version"]:
            installed.setdefault(canonical(found.metadata["Name"]), found)
    broken = [
        {
            "name": name,
            "version": installed[name].version,
            "needs": str(needed),
            "gets": wanted[other]["version"],
        }
        for name in sorted(installed.keys() - wanted.keys())
        for needed, other in requirements(installed[name].requires)
        if other in wanted
        and other in installed
        and fits(needed, installed[other].version)
        and not fits(needed, wanted[other]["version"])
    ]
    for entry in broken[:MOST_LINES]:
        asked = find_asked(name_of(entry["needs"]), names, wanted)
        print("ds01: broken", json.dumps(dict(entry, asked=asked)))
    if broken:
        sys.exit(1)


def requirements(texts):
    """Yield (requirement, name) of those that count here."""
    from pip._vendor.packaging.requirements import InvalidRequirement, Requirement

    for text in texts or ():
        try:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                yield needed, canonical(needed.name)
        except InvalidRequirement:
            continue


def fits(needed, version):
    """Whether a version is one that is needed; one that nobody can compare is let pass."""
    from pip._vendor.packaging.version import InvalidVersion

    try:
        return needed.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return True


def find_asked(name, names, wanted):
    """Return which of the packages in the lists leads to `name`, "" for none."""
    asked = []
    for file in names:
        lines = (LISTS / file).read_text(encoding="utf-8").splitlines()
        asked += [other for _, other in requirements(lines)]
    for root in [name] * (name in asked) + asked:
        seen, ahead = set(), [root]
        while ahead:
            here = ahead.pop()
            if here == name:
                return root
            if here not in seen and here in wanted:
                # With those of its extras, whether or not they were asked for.
                ahead += map(name_of, wanted[here].get("requires_dist", ()))
            seen.add(here)
    return ""


def name_of(requirement):
    """Return the name that a requirement begins with."""
    return canonical(re.match(r"[\w.-]*", requirement)[0])


def canonical(name):
    """Return a name as all tools write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    {"lay": lay, "try": check}[sys.argv[1]](sys.argv[2:])

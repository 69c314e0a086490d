"""From the fields of a posted form, or of a link, to `user_options`: shape only, and no exception.

Fields have the names of the `user_options`, but for these: `framework` may be `NAME==VERSION`; the
options of a profile are `profile-option-PROFILE--OPTION`, with `--unlisted-choice` behind it for the
free text; an upload is `requirements_file`, as the Hub names a file field `requirements`. An empty
field is left out. An unknown one is kept, so that the check behind can name it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence

from packaging.requirements import InvalidRequirement, Requirement

from ..model import UNLISTED_CHOICE

# One past what is accepted: something huge is refused, but neither read for long nor stored.
_LONGEST_TEXT = 64 * 1024 + 1
_LONGEST_LIST = 200 + 1
_LONGEST_REQUIREMENT = 300

_INTEGERS = frozenset({"gpu_count", "pids_limit"})
_YES_OR_NO = {"true": True, "false": False}
_XSRF = "_xsrf"
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
# A comma before a name ends a package, outside [extras]; one before `<` belongs to the version.
_PACKAGE = re.compile(r"(?:\[[^\[\]\s]*\]|[^\s,]|,(?!\s*[A-Za-z0-9]))+")


def parse(formdata: Mapping[str, Sequence[object]]) -> dict[str, object]:
    """Return the `user_options` of a posted form.

    Args:
        formdata: as the Hub gives it: a list of texts for each field; uploads as `NAME_file`, each
            a mapping with `filename` and `body` (bytes).
    """
    options: dict[str, object] = {}
    for name, values in formdata.items():
        if name == _XSRF or name.startswith("profile-option-"):
            continue
        texts = [value.strip() for value in values if isinstance(value, str) and value.strip()]
        if texts:
            options[name] = _read_field(name, texts)
        elif any(isinstance(value, Mapping) for value in values) and name != "requirements_file":
            options[name] = "a file"
    framework, _, version = str(options.get("framework", "")).partition("==")
    if version:
        options |= {"framework": framework, "framework_version": version}
    upload = _read_upload(formdata.get("requirements_file", ()))
    if upload:
        options["requirements"] = upload
    chosen = dict(_read_profile_options(formdata, f"profile-option-{options.get('profile', '')}--"))
    return options | {"profile_options": chosen} if chosen else options


def from_query(query: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """Return what a link fills into the form.

    Args:
        query: the link's parameters, without the `opt-` that the Hub takes off.
    """
    return parse(query)


def split_packages(text: str) -> list[str]:
    """Return the packages typed into `text`.

    A line that is one requirement stays whole, so `torch >= 2, < 3` survives. Any other is split at
    white space and at commas that end a package. Comments go.
    """
    found: list[str] = []
    for line in text.splitlines():
        plain = _COMMENT.sub("", line).strip(", \t")
        if _is_requirement(plain):
            found.append(plain)
        else:
            parts = (part[0].strip(",") for part in _PACKAGE.finditer(plain))
            found.extend(part for part in parts if part)
        if len(found) >= _LONGEST_LIST:
            break
    return found[:_LONGEST_LIST]


def _is_requirement(text: str) -> bool:
    try:
        Requirement(text[:_LONGEST_REQUIREMENT])
    except InvalidRequirement:
        return False
    return len(text) <= _LONGEST_REQUIREMENT


def _read_field(name: str, texts: Sequence[str]) -> object:
    if name == "packages":
        return split_packages("\n".join(texts))
    if name == "system_packages":
        return " ".join(texts).replace(",", " ").split()[:_LONGEST_LIST]
    if name == "requirements":
        return "\n".join(texts[0].splitlines())[:_LONGEST_TEXT]
    if name in _INTEGERS and _INTEGER.fullmatch(texts[0]):
        return int(texts[0])
    if name == "rebuild" and texts[0] in _YES_OR_NO:
        return _YES_OR_NO[texts[0]]
    if name == "cpus" and _DECIMAL.fullmatch(texts[0]):
        return float(texts[0])
    return texts[0][:_LONGEST_TEXT]


def _read_upload(values: Sequence[object]) -> str:
    for value in values:
        body = value.get("body") if isinstance(value, Mapping) else None
        if isinstance(body, bytes) and body:
            # PowerShell's `pip freeze > requirements.txt` writes UTF-16.
            is_utf16 = body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            return body.decode("utf-16" if is_utf16 else "utf-8-sig", errors="replace")[:_LONGEST_TEXT]
    return ""


def _read_profile_options(
    formdata: Mapping[str, Sequence[object]], prefix: str
) -> Iterator[tuple[str, object]]:
    """Yield (option, choice) of the chosen profile; those of the others came with the form too."""
    suffix = f"--{UNLISTED_CHOICE}"
    fields = {name[len(prefix) :]: values for name, values in formdata.items() if name.startswith(prefix)}
    for option in dict.fromkeys(name.removesuffix(suffix) for name in fields):
        choice = next((str(value) for value in fields.get(option, ()) if value), "")
        typed = next((str(value).strip() for value in fields.get(option + suffix, ()) if value), "")
        if choice == UNLISTED_CHOICE or (option not in fields and typed):
            yield option, {"unlisted": typed}
        elif choice:
            yield option, choice

"""Hostile input to images: whatever passes the rules reaches no shell, and adds nothing to a Dockerfile.

Two builds are compared by their structure, as a parser of Dockerfiles reads it: one that somebody asked for
with the worst that the rules let through, and a harmless one of the same shape. Lists of packages are read
back by pip's own parser, and split as xargs does it.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import string
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser
from hypothesis import given, settings
from hypothesis import strategies as st
from pip._internal.exceptions import PipError
from pip._internal.network.session import PipSession
from pip._internal.req.constructors import install_req_from_parsed_requirement
from pip._internal.req.req_file import parse_requirements

from ds01_spawner import image, packages
from ds01_spawner.adapters.builder import Builder
from ds01_spawner.errors import ConfigBroken, RequestRefused
from ds01_spawner.image import BaseProbe, context_files, render_dockerfile, tag
from ds01_spawner.model import ImageSpec, ServerDefaults
from ds01_spawner.request import build, build_request, parse_options
from ds01_spawner.templating import read_dockerfile, template_directory

TEMPLATE = read_dockerfile("Dockerfile.j2")
# Of images, and of the check before a build.
TEMPLATES = sorted({path.name for path in template_directory().glob("*.j2")} - {"macros.j2"})
PROBE = BaseProbe(
    python="/usr/bin/python3", version=(3, 11, 2), has_pip=True, has_venv=True, has_apt=True, has_bash=True
)
DEFAULTS = ServerDefaults(framework="Pytorch", allow_custom_base_image=True)
HARMLESS = ImageSpec(
    base="aimehub/pytorch:1",
    base_id="sha256:aa",
    hub_version="6.1.1",
    base_packages=("pandas",),
    base_system_packages=("git",),
    use_case="cv",
    use_case_packages=("timm",),
    labels=(("aime.mlc.BASE_IMAGE", "aimehub/pytorch:1"),),
)
# The list of each kind of input, and a value for it that harms nobody.
LISTS = {"packages": "six", "requirements": "six", "system_packages": "tree"}

# What one would try on pip, apt, a shell, BuildKit or the template. Each is tried alone and behind a name.
INJECTIONS = (
    *("-r x", "-rx", "-e .", "--index-url=http://x", "--extra-index-url http://x", "-i http://x", "--pre"),
    *(
        "--hash=sha256:aa",
        "--global-option=x",
        "--config-settings=a=b",
        "--trusted-host x",
        "-c x",
        "--",
        "-",
    ),
    *("; id", "&& id", "|| id", "| sh", "> /x", "< /x", "& id", "$(id)", "`id`", "$HOME", "${HOME}", "!!"),
    *("\nRUN id", "\rRUN id", "\r\nRUN id", "\x0bRUN id", "\x0cRUN id", "\x85RUN id", "\u2028RUN id"),
    *(
        "\u2029RUN id",
        "\x1cRUN id",
        "\x00",
        "\x1b[2J",
        "\\",
        "\\\nRUN id",
        "\\\n",
        "\\n",
        "\\x0a",
        "\\N{BULLET}",
    ),
    *("<<EOF\nid\nEOF", "<<EOF", "<<-'E'", "# syntax=x/y", "\n# escape=`\n", "# check=skip=all", "#", " #"),
    *("\nONBUILD RUN id", "\nARG X=1", "\nENV X=1", "--build-arg X=1", " AS x", "--platform=x", "--from=x"),
    *("{{ 7 * 7 }}", "{% for x in y %}", "{# x #}", "{{ spec.base }}", "%s", "{0.__class__}"),
    *("https://x/y.whl", "@ https://x/y.whl", "@ file:///etc/passwd", "@ ../x", "@ -rx", "git+https://x/y"),
    *("git+ext::sh -c id", "@ git+ssh://-oProxyCommand=id/x", "./x", "../x", "/etc/passwd", "~/x", "C:\\x"),
    *("x.whl", "x.tar.gz", "===../x.zip", "==1.0+x.zip", "[a]==1+b.zip", "[a.zip]", "== 1 ; extra == 'a'"),
    *('; os_name != "a\\nb"', '; os_name != "${HOME}"', '; os_name != " -r x"', "; os_name != '\" -r x \"'"),
    *('; os_name != "a #"', "; os_name != '\\\\'", '; os_name != "$(id)"', '; os_name != "<<EOF"'),
    *("; " + "(" * 130 + 'os_name == "a"' + ")" * 130, "; " + "(" * 290, "[" * 290, "," * 290, "x" * 100_000),
    *(
        "-",
        "+",
        "=",
        "=1-",
        "=1+",
        "=$(id)",
        "=1;id",
        "/sid",
        "/../x",
        "^",
        "*",
        "?name(x)",
        "~n.",
        ".",
        ".*",
    ),
    *(
        ":latest",
        "@sha256:" + "a" * 64,
        ":x@sha256:" + "a" * 64,
        "@sha256:x",
        ":5000/x",
        "//x",
        "/..",
        ":",
        "@",
    ),
    *(
        "\u0430",
        "\u017f",
        "\u212a",
        "\uff0d",
        "\u2010",
        "\u202eimun",
        "\u200b",
        "\u00a0",
        "\ud800",
        "\U0001f40d",
    ),
    *("é", "Ⅷ", "\u0661", '"', "'", '" x="y', "' 'x", '"\nRUN id\n"', '\\"', "\t-r x", "\t", " ", ""),
)
NAMES = (
    "six",
    "torch>=2.1",
    "ray[tune]==2.9",
    "x",
    "libgl1",
    "g++",
    "vim=2:9.0",
    "ubuntu:24.04",
    "a.b/c/d:e",
)
BUILDERS_COMMAND = (sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))")


def ask(kind: str, text: str, *, allow_urls: bool = False) -> dict[str, Any] | None:
    """Return what an image gets of `text` by form or REST, None if it is refused with a sentence."""
    options = {kind: text if kind in ("requirements", "base_image") else [text]}
    defaults = replace(DEFAULTS, allow_package_options=allow_urls)
    sentence = ""
    try:
        value = getattr(build_request(parse_options(options), None, defaults), kind)
    except RequestRefused as exc:
        value, sentence = None, exc.message
    assert sentence.isprintable()
    assert len(sentence) < 600
    return {kind: value} if value else None


def ask_label(key: str, value: str) -> tuple[str, str] | None:
    """Return a label that an image may have, None if it is refused with a sentence."""
    try:
        image.quote_label(key, value)
    except ConfigBroken:
        return None
    return key, value


def combine(answers: Iterable[dict[str, Any] | None], labels: Iterable[tuple[str, str] | None]) -> ImageSpec:
    """Return one image with everything that was let through."""
    found: dict[str, Any] = {}
    for kind, value in (pair for answer in answers if answer for pair in answer.items()):
        found[kind] = value if kind == "base_image" else tuple(sorted({*found.get(kind, ()), *value}))
    return replace(
        HARMLESS,
        base=found.pop("base_image", HARMLESS.base),
        labels=(*HARMLESS.labels, *(label for label in labels if label)),
        **found,
    )


def twin(spec: ImageSpec) -> ImageSpec:
    """Return a harmless image of the same shape."""
    lists = {name: (value,) if getattr(spec, name) else () for name, value in LISTS.items()}
    labels = tuple((f"key{number}", "value") for number in range(len(spec.labels)))
    return replace(HARMLESS, labels=labels, **lists)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """A Dockerfile as a parser reads it: its labels, and all else, without the name of the base."""

    labels: tuple[str, ...]
    others: tuple[tuple[str, str], ...]


def read_instructions(text: str, base: str) -> Instructions:
    found = DockerfileParser(fileobj=io.BytesIO(text.encode())).structure
    # The caches of two bases have nothing in common but their form.
    key = re.compile(r"=ds01-(pip|apt)-[0-9a-f]{64}\b")
    others = ((step["instruction"], step["value"]) for step in found if step["instruction"] != "LABEL")
    return Instructions(
        labels=tuple(step["value"] for step in found if step["instruction"] == "LABEL"),
        others=tuple(
            (
                name,
                re.sub(rf"^{re.escape(base)}(?= |$)", "BASE", value)
                if name == "FROM"
                else key.sub(r"=ds01-\1-", value),
            )
            for name, value in others
        ),
    )


def render(template: str, spec: ImageSpec) -> str:
    return render_dockerfile(spec, PROBE, read_dockerfile(template))


# There are few shapes.
render_harmless = cache(render)


def check_build(spec: ImageSpec, scratch: Path) -> None:
    """Fail if the image of `spec` is built, or checked before, in any other way than a harmless one."""
    assert re.search(r"[\s$`\\\"']", spec.base) is None
    for template in TEMPLATES:
        check_dockerfile(template, spec)
    check_context(spec, scratch)


def check_dockerfile(template: str, spec: ImageSpec) -> None:
    dockerfile, harmless_dockerfile = render(template, spec), render_harmless(template, twin(spec))
    hostile = read_instructions(dockerfile, spec.base)
    harmless = read_instructions(harmless_dockerfile, HARMLESS.base)
    assert hostile.others == harmless.others
    stages = {value.rpartition(" AS ")[2] for name, value in harmless.others if " AS " in value}
    assert spec.base not in stages
    assert len(hostile.labels) == len(harmless.labels)
    for label in hostile.labels:
        assert re.fullmatch(r'"[A-Za-z0-9._-]+"="(?:[^"\\$\n]|\\["\\$])*"', label), label
    # Whatever a parser takes for the end of a line.
    assert len(dockerfile.splitlines()) == len(harmless_dockerfile.splitlines())


def check_context(spec: ImageSpec, scratch: Path) -> None:
    files, others = context_files(spec, PROBE), context_files(twin(spec), PROBE)
    hers = {"packages.txt": spec.packages, "requirements.txt": spec.requirements}
    assert files.keys() == others.keys()
    for name in files.keys() - hers.keys() - {"system.txt"}:
        assert files[name] == others[name]
    for name, wanted in hers.items():
        check_read_by_pip(files[name], wanted, scratch / name)
    check_read_by_xargs(files["system.txt"], spec.system_packages)


def check_read_by_pip(content: bytes, wanted: tuple[str, ...], path: Path) -> None:
    """Fail unless pip finds in a list what is wanted, a line each, by its name or URL, and no option."""
    assert content.decode().splitlines() == list(wanted)
    path.write_bytes(content)
    try:
        found = list(parse_requirements(str(path), session=PipSession()))
        parsed = [install_req_from_parsed_requirement(line) for line in found]
    except PipError as exc:
        raise AssertionError(f"pip cannot read {content!r}") from exc
    assert [line.requirement for line in found] == list(wanted)
    assert not any(line.options or line.is_editable or line.constraint for line in found)
    for line, requirement in zip(wanted, parsed, strict=True):
        assert not line.startswith("-")
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", requirement.name or ""), line
        link = requirement.link.url if requirement.link else ""
        assert re.fullmatch(r"((git\+)?https?://[^\s\\$`]+)?", link), link
        assert bool(link) == (" @ " in line)


def check_read_by_xargs(content: bytes, wanted: tuple[str, ...]) -> None:
    """Fail unless apt gets what is wanted word by word, each the name of a package to install."""
    words = shlex.split(content.decode())
    assert words == list(wanted)
    for word in words:
        assert set(word) <= {*string.ascii_letters, *string.digits, *"+.-:~="}, word
        assert word[0] not in "-~", word
        assert word[-1] not in "-.", word


Joined = st.lists(
    st.sampled_from(INJECTIONS) | st.sampled_from(NAMES) | st.text(max_size=4), min_size=1, max_size=3
).map("".join)
Requirements = (
    Joined
    | st.builds("{}{}".format, st.sampled_from(NAMES), st.sampled_from(INJECTIONS))
    | st.builds(
        "{0}; {1} {2} {3}{4}{3}".format,
        st.sampled_from(NAMES),
        st.sampled_from(["os_name", "platform_version", "extra"]),
        st.sampled_from(["!=", "==", "in"]),
        st.sampled_from(["'", '"']),
        Joined | st.from_regex(r"[a-z0-9_.+*, -]{0,8}", fullmatch=True),
    )
    | st.builds("{}=={}".format, st.sampled_from(NAMES), st.from_regex(r"[0-9a-z.+!*-]{1,9}", fullmatch=True))
    | st.builds("six; extra == '{}'".format, st.from_regex(r"[a-z0-9_.+*, -]{0,5}", fullmatch=True))
    | st.builds("{}[{}]".format, st.sampled_from(NAMES), Joined | st.sampled_from(["a", "a,b"]))
)
Urls = st.builds(
    "{} @ {}{}{}".format,
    st.sampled_from(["six", "x[a]"]),
    st.sampled_from(["https://x/", "http://x@y/", "git+https://x/y@", "git+ssh://x/", "file:///", "", "-"]),
    st.from_regex(r"[a-z0-9/.@#=-]{0,9}", fullmatch=True),
    Joined | st.sampled_from(["", '; os_name != "a"', ' ; os_name != "a"', ' ; os_name != " -r x"']),
)
Lines = st.sampled_from(
    ["six  # -r x", "# -r x \\", "torch \\\n  >=2.1", "ray --hash=sha256:aa \\\n", "\ufeffx", "\tx"]
)
Files = st.lists(Lines | Lines | Requirements, min_size=1, max_size=3).map("\n".join)
SystemPackages = Joined | st.from_regex(r"[a-z0-9][a-z0-9+.=:~^?*/ -]{0,9}", fullmatch=True)
Bases = Joined | st.from_regex(
    r"[a-zA-Z0-9._/:@ -]{1,9}(/[a-z0-9._-]{1,9})?(:[A-Za-z0-9._-]{1,9})?", fullmatch=True
)
Labels = st.tuples(st.sampled_from(["a.b", "x"]) | Joined, Joined)
# Of 200 inputs of each kind: with fewer, the test would say little.
LEAST_ACCEPTED = 4


def test_a_thousand_hostile_inputs_are_refused_or_change_nothing_but_their_own_words(tmp_path: Path) -> None:
    accepted: Counter[str] = Counter()
    tried: Counter[str] = Counter()

    @settings(max_examples=200, deadline=None)
    @given(Requirements, Urls, Files, SystemPackages, Bases, Labels)
    def check(
        package: str, url: str, file: str, system_package: str, base: str, label: tuple[str, str]
    ) -> None:
        answers = {
            "packages": ask("packages", package),
            "urls": ask("packages", url, allow_urls=True),
            "requirements": ask("requirements", file),
            "system_packages": ask("system_packages", system_package),
            "base_image": ask("base_image", base),
        }
        found = ask_label(*label)
        tried.update([*answers, "label"])
        accepted.update(kind for kind, answer in {**answers, "label": found}.items() if answer)
        check_build(combine(answers.values(), [found]), tmp_path)

    check()
    assert tried.total() >= 1000
    assert min(accepted[kind] for kind in tried) >= LEAST_ACCEPTED, accepted


def test_a_base_that_is_called_as_a_stage_of_a_build_might_be_is_none(tmp_path: Path) -> None:
    for base in ("python", "system", "base", "build", "check"):
        check_build(combine([ask("base_image", base), ask("packages", "six")], []), tmp_path)


@pytest.mark.parametrize("allow_urls", [False, True])
def test_no_known_injection_does_anything(tmp_path: Path, allow_urls: bool) -> None:
    texts = [
        f"{name}{gap}{text}" for text in INJECTIONS for name, gap in (("", ""), ("six", ""), ("six", " "))
    ]
    answers = [
        ask(kind, text, allow_urls=allow_urls)
        for text in texts
        for kind in ("packages", "requirements", "system_packages")
    ]
    check_build(combine(answers, [ask_label("a", text) for text in texts]), tmp_path)
    for base in filter(None, (ask("base_image", text) for text in texts)):
        check_build(combine([base], []), tmp_path)


def test_only_a_url_that_is_allowed_passes_as_one() -> None:
    texts = [f"six {text}" for text in INJECTIONS]
    assert not any("@" in str(ask("packages", text)) for text in texts)
    allowed = [answer for text in texts if (answer := ask("packages", text, allow_urls=True))]
    assert {"packages": ("six @ https://x/y.whl",)} in allowed


def test_docker_is_called_with_the_same_arguments_whatever_goes_in() -> None:
    spec = combine(
        [
            ask("packages", 'ray[tune]==2.9; os_name != "a-b"'),
            ask("packages", "six @ git+https://x/y@z#egg=six", allow_urls=True),
            ask("requirements", "six # x\ntorch \\\n>=2.1"),
            ask("system_packages", "g++=1:2~x"),
            ask("base_image", "a.b:5000/c/d:e@sha256:" + "a" * 64),
        ],
        [ask_label("a", '$(id) `id` "x" <<EOF \\')],
    )
    assert arguments_of(spec) == arguments_of(twin(spec))
    assert "--tag" in arguments_of(spec)


def arguments_of(spec: ImageSpec) -> list[str]:
    """Return the arguments that docker gets, without what is another for each build."""
    name, lines = tag(spec, TEMPLATE), list[str]()
    assert re.fullmatch(r"ds01/image:[0-9a-f]+(-[0-9a-f]+)?", name)
    builder = Builder(docker_command=BUILDERS_COMMAND, docker_host="unix:///nowhere", ca_bundle=__file__)
    files = context_files(spec, PROBE)
    builder.build(name, render_dockerfile(spec, PROBE, TEMPLATE), files, lines.append, Event())
    (line,) = lines
    return [word.replace(name, "TAG") for word in json.loads(line)]


class PatternWithoutAnEnd:
    """A check as it is often written: with `match`, which looks at the beginning alone."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def fullmatch(self, text: str) -> object:
        return self._pattern.match(text)

    def search(self, text: str) -> None:
        return None


def quote_nothing(key: str, value: str) -> str:
    return f'"{key}"="{value}"'


@pytest.mark.parametrize(
    ("weakened", "kind", "text"),
    [
        ([(packages, "_SYSTEM_PACKAGE")], "system_packages", "tree;id"),
        ([(packages, "_SYSTEM_PACKAGE")], "system_packages", "tree coreutils"),
        ([(packages, "_SYSTEM_PACKAGE")], "system_packages", "tree-"),
        ([(packages, "_PLAIN"), (image, "_NOT_ONE_NAME")], "packages", 'x; os_name != "a -r x"'),
        ([(packages, "_PLAIN"), (image, "_NOT_ONE_NAME")], "packages", 'x; os_name != "a #"'),
        ([(packages, "_PLAIN"), (image, "_NOT_ONE_NAME")], "requirements", 'x; os_name != "${HOME}"'),
        ([(packages, "_URL"), (image, "_NOT_ONE_NAME")], "packages", "x @ https://x/${HOME}"),
        ([(packages, "_URL")], "packages", "x @ https://x/`id`"),
        ([(build, "_REFERENCE"), (image, "_REFERENCE")], "base_image", "ubuntu AS x"),
        ([(build, "_REFERENCE"), (image, "_REFERENCE")], "base_image", "ubuntu$(id)"),
    ],
)
def test_a_check_that_looks_at_the_beginning_alone_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weakened: list[tuple[Any, str]], kind: str, text: str
) -> None:
    assert ask(kind, text, allow_urls=True) is None
    for module, name in weakened:
        monkeypatch.setattr(module, name, PatternWithoutAnEnd(getattr(module, name)))
    answer = ask(kind, text, allow_urls=True)
    assert answer is not None
    with pytest.raises(AssertionError):
        check_build(combine([answer], []), tmp_path)


@pytest.mark.parametrize("value", ['x"\nRUN id #', 'x" "y"="z', "$HOME", "x\\", 'x" <<EOF'])
def test_a_label_that_is_not_quoted_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    check_build(combine([], [ask_label("a", value)]), tmp_path)
    monkeypatch.setattr(image, "quote_label", quote_nothing)
    with pytest.raises(AssertionError):
        check_build(combine([], [("a", value)]), tmp_path)


@pytest.mark.parametrize(
    "change", [{"packages.txt": b"six\n-r x\n"}, {"requirements.txt": b"six # x\n"}, {"hub.txt": b"six\n"}]
)
def test_a_list_with_more_in_it_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: Mapping[str, bytes]
) -> None:
    spec = combine([ask("packages", "six"), ask("requirements", "six")], [])
    check_build(spec, tmp_path)
    honest: Callable[..., Mapping[str, bytes]] = context_files

    def write(spec: ImageSpec, probe: BaseProbe) -> Mapping[str, bytes]:
        changed = change if spec.labels == HARMLESS.labels else {}
        return {**honest(spec, probe), **changed}

    monkeypatch.setitem(check_build.__globals__, "context_files", write)
    with pytest.raises(AssertionError):
        check_build(spec, tmp_path)

"""Package names: what passes, what is refused, and what the refusal says."""

import pytest

from ds01_spawner.errors import RequestRefused
from ds01_spawner.packages import (
    check_system_package,
    check_system_packages,
    normalise_requirement,
    normalise_requirements,
    parse_requirements_file,
)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("numpy", "numpy"),
        ("  Scikit_Learn ", "scikit-learn"),
        ("torch >= 2.1, < 3", "torch<3,>=2.1"),
        ("ray[tune, default]==2.9", "ray[default,tune]==2.9"),
        ("tomli; python_version<'3.11'", 'tomli; python_version < "3.11"'),
    ],
)
def test_a_name_with_extras_versions_and_marker_has_one_spelling(written: str, normal: str) -> None:
    assert normalise_requirement(written) == normal


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "x; curl y",
        "x;curl y",
        "x && y",
        "$(id)",
        "`id`",
        "--index-url=http://x",
        "-r requirements.txt",
        "-e .",
        "numpy --global-option=x",
        "numpy\nRUN id",
        "numpy\x00",
        "git+https://example.org/x",
        "https://example.org/x.whl",
        "./package",
        "/etc/passwd",
        "../x",
        "file.whl",
        "x-1.0-py3-none-any.whl",
        "X.TAR.GZ",
        "x===../../x.zip",
        "name @ https://example.org/x.whl",
        "name@file:///etc/passwd",
        "x" * 301,
        "num\u2028py",
        "nümpy",
        "x==1.0.po\u017ft1",
        "x==1.0+a.zip",
        "x[a]==1.0+b.tar.gz",
    ],
)
def test_what_is_no_package_name_is_refused(hostile: str) -> None:
    with pytest.raises(RequestRefused):
        normalise_requirement(hostile)


@pytest.mark.parametrize(
    "value",
    [
        "${HOME}",
        "$(id)",
        " --index-url=http://x",
        "a --index-url=http://x",
        " -r x",
        "a #",
        r"a\n--index-url=http://x",
        r"a\\",
        r"\x00",
        "a\\",
        "a; x",
        "<<EOF",
        "{{ x }}",
        "\u0430",
    ],
)
def test_a_marker_compares_with_plain_words(value: str) -> None:
    for quote in ("'", '"'):
        with pytest.raises(RequestRefused):
            normalise_requirement(f"x; os_name != {quote}{value}{quote}")


def test_a_marker_is_checked_as_it_comes_out() -> None:
    with pytest.raises(RequestRefused, match="no plain word"):
        normalise_requirement("x; extra != 'a _r'")


def test_a_marker_cannot_leave_its_quotes() -> None:
    with pytest.raises(RequestRefused, match="no plain word"):
        normalise_requirement("""x; os_name != 'a" --index-url=http://x "'""")


@pytest.mark.parametrize(
    "marker", ['platform_release >= "5.15.0-91-generic"', 'python_version in "3.10, 3.11"', 'os_name != ""']
)
def test_a_marker_that_people_write_passes(marker: str) -> None:
    assert normalise_requirement(f"x; {marker}") == f"x; {marker}"


def test_a_refusal_shows_the_input_shortened_and_escaped() -> None:
    with pytest.raises(RequestRefused, match=r"'x\\n\$+…' is too long or has control characters") as caught:
        normalise_requirement("x\n" + "$" * 5000)
    assert len(str(caught.value)) < 250


def test_an_admin_may_allow_urls_but_not_options() -> None:
    assert normalise_requirement("Name @ https://example.org/x.whl", allow_urls=True) == (
        "name @ https://example.org/x.whl"
    )
    with pytest.raises(RequestRefused, match="option of pip"):
        normalise_requirement("--pre", allow_urls=True)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "git+file:///srv/x",
        "git+ext::sh",
        "../x",
        "-rx",
        "--index-url=http://x",
        "https://example.org/x\\",
        "https://${TOKEN}@example.org/x",
        "https://-x/y",
        "git+https://example.org/x@--upload-pack=x",
        "https://example.org/$(id)",
        "https://example.org/x;id",
        "https://example.org/x ; os_name != ' --hash=md5:aa'",
    ],
)
def test_a_url_that_is_allowed_is_one_of_the_web(url: str) -> None:
    with pytest.raises(RequestRefused):
        normalise_requirement(f"x @ {url}", allow_urls=True)


def test_a_repository_at_a_commit_may_be_allowed() -> None:
    url = "git+https://example.org/x.git@v1.0#egg=x"
    assert normalise_requirement(f"x @ {url} ; os_name == 'posix'", allow_urls=True).endswith(
        f'{url} ; os_name == "posix"'
    )


def test_equal_wishes_in_any_order_are_equal() -> None:
    assert normalise_requirements(["SciPy", "numpy", "scipy"]) == ("numpy", "scipy")
    assert normalise_requirements(["numpy", "scipy"]) == ("numpy", "scipy")


def test_more_packages_than_the_limit_are_refused() -> None:
    with pytest.raises(RequestRefused, match="more than 200 Python packages"):
        normalise_requirements(["numpy"] * 10_000)


def test_a_requirements_file_may_have_comments_continuations_markers_and_hashes() -> None:
    text = (
        "\ufeff# what we need\r\n"
        "numpy==1.26.4 \\\n"
        "    --hash=sha256:aa11 \\\n"
        "    --hash=sha256:bb22  # pinned\n"
        "\n"
        "Torch\t>= 2\t# framework\n"
        "tomli; python_version < '3.11'\n"
    )
    assert parse_requirements_file(text) == ("numpy==1.26.4", 'tomli; python_version < "3.11"', "torch>=2")


@pytest.mark.parametrize(
    "line", ["-r other.txt", "--index-url http://x", "-e .", "numpy --config-settings=a=b"]
)
def test_an_option_in_a_requirements_file_is_refused_with_its_line(line: str) -> None:
    option = next(word for word in line.split() if word.startswith("-")).split("=")[0]
    with pytest.raises(RequestRefused, match=rf"Line 3 .*{option}"):
        parse_requirements_file(f"numpy\n\n{line}\n")


def test_a_url_in_a_requirements_file_is_refused_with_its_line() -> None:
    with pytest.raises(RequestRefused, match=r"Line 2 .* is a URL or a path"):
        parse_requirements_file("numpy\ngit+https://example.org/x\n")


def test_a_requirement_hidden_behind_a_continued_line_is_seen() -> None:
    with pytest.raises(RequestRefused, match="Line 1"):
        parse_requirements_file("numpy \\\n-r other.txt\n")
    with pytest.raises(RequestRefused, match="Line 2"):
        parse_requirements_file("# comment \\\n-r other.txt\n")


def test_a_requirements_file_has_a_limit() -> None:
    with pytest.raises(RequestRefused, match="more than 3"):
        parse_requirements_file("a\nb\nc\nd\n", limit=3)


@pytest.mark.parametrize(
    "name",
    [
        "ffmpeg",
        "libgl1",
        "g++",
        "libstdc++6",
        "python3.11-dev",
        "ffmpeg=7:5.1.6-0+deb12u1",
        "vim=2",
        "x11=1~",
    ],
)
def test_a_system_package_is_a_name_and_perhaps_a_version(name: str) -> None:
    assert check_system_package(name) == name


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "foo;curl x",
        "foo bar",
        "-y",
        "--reinstall",
        "foo-",
        "foo=1-",
        "foo=1.0-2-",
        "foo=1+",
        "foo=1:",
        "a.",
        "Foo",
        "foo=$(id)",
        "foo=",
        "foo\n",
        "foo/sid",
        "a*",
        "x",
    ],
)
def test_what_is_no_system_package_is_refused(hostile: str) -> None:
    with pytest.raises(RequestRefused):
        check_system_package(hostile)


def test_system_packages_are_sorted_and_limited() -> None:
    assert check_system_packages(["tree", " ffmpeg", "tree"]) == ("ffmpeg", "tree")
    with pytest.raises(RequestRefused, match="more than 100 system packages"):
        check_system_packages(["tree"] * 101)

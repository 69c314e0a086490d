"""What a student sees before her server runs: the form, a link to it, and the pending page."""

from __future__ import annotations

import re
import secrets

from .hub import Hub
from .student import Student, read_text


def find_checked(page: str) -> list[str]:
    """Return the ids of the ticked fields of a page."""
    inputs = [tag for tag in re.findall(r"<input\b[^>]*>", page) if re.search(r"\schecked\b", tag)]
    return re.findall(r'id="([^"]+)"', " ".join(inputs))


def index_of(messages: list[str], text: str) -> int:
    """Return the place of the first message with `text`; fail if none has it."""
    places = [place for place, message in enumerate(messages) if text in message]
    assert places, f"{text!r} is not in {messages}"
    return places[0]


def test_a_link_with_options_fills_the_form_and_starts_nothing(hub: Hub, student: Student) -> None:
    page = student.form(query="opt-profile=small&opt-packages=tabulate&opt-memory=512m")
    assert page.status_code == 200
    assert page.url.path == f"/hub/spawn/{student.name}"
    assert find_checked(page.text) == ["ds01-profile-small"]
    assert "tabulate" in page.text
    assert 'value="512m"' in page.text
    assert student.server() == {}
    assert hub.traces(student.person) == {}


def test_a_link_in_the_old_style_starts_nothing_either(hub: Hub, student: Student) -> None:
    assert student.form(query="profile=small").status_code == 200
    assert student.server() == {}
    assert hub.traces(student.person) == {}


def test_a_link_that_cannot_be_followed_says_so_on_the_form(student: Student) -> None:
    for query, why in (
        ("opt-profile=staff", "no profile 'staff'"),
        ("opt-profil=small", "no option 'profil'"),
    ):
        page = student.form(query=query)
        assert page.status_code == 200
        assert f"The link asks for something that cannot be: There is {why}" in read_text(page.text)
    assert student.server() == {}


def test_a_refused_form_of_a_named_server_keeps_its_name_and_what_was_typed(student: Student) -> None:
    assert "For the server thesis" in read_text(student.form("thesis").text)
    refused = student.post_form({"profile": "small", "packages": "numpy b@d"}, "thesis")
    assert refused.status_code == 400
    text = read_text(refused.text)
    assert "'b@d' installs from a URL" in text
    assert "For the server thesis" in text
    assert find_checked(refused.text) == ["ds01-profile-small"]
    assert "b@d" in refused.text
    listed = student.api("GET", f"/users/{student.name}?include_stopped_servers=1").json()["servers"]
    assert "thesis" in listed
    assert "For the server" not in read_text(student.form().text)


def test_the_form_shows_only_profiles_that_are_hers(student: Student) -> None:
    page = student.form().text
    assert 'value="small"' in page
    assert 'value="staff"' not in page


def test_the_form_is_filled_with_what_she_had_last_time(student: Student) -> None:
    assert find_checked(student.form().text) == ["ds01-profile-cpu"]
    student.start({"profile": "small", "memory": "768m"})
    student.stop()
    page = student.form().text
    assert find_checked(page) == ["ds01-profile-small"]
    assert 'value="768m"' in page


def test_the_pending_page_tells_the_steps_of_a_build_and_a_start_in_their_order(
    hub: Hub, student: Student
) -> None:
    # The marker makes the content new, so that this is built now, whatever was built before.
    package = f'six; python_version < "3.{100 + secrets.randbelow(10**6)}"'
    before = hub.built_images()
    messages = student.start_watched({"profile": "small", "packages": [package]})
    steps = [
        "Resolving Pytorch 2.8.0",
        "Looking whether your packages exist",
        "Building your image",
        "Installing your packages",
        "Your image is built; that took",
        "Reserving 1 × 1g.10gb",
        "Creating your container",
        "Starting your container",
        "waiting for Jupyter",
        "Server ready",
    ]
    places = [index_of(messages, step) for step in steps]
    assert places == sorted(places)
    assert student.run("import six; print('six is there')") == "six is there\n"
    student.stop()
    (built,) = hub.built_images() - before
    hub.docker.remove_image(built, force=True)


def test_a_build_that_fails_says_which_package_it_was(hub: Hub, student: Student) -> None:
    before = hub.built_images()
    answer = student.ask_start({"packages": ["ds01-there-is-no-such-package"]})
    assert "ds01-there-is-no-such-package" in student.read_refusal(answer)
    student.wait_gone()
    assert hub.traces(student.person) == {}
    assert hub.built_images() == before


def test_an_image_that_is_there_is_not_built_again(student: Student) -> None:
    student.start()
    student.stop()
    messages = student.start_watched({})
    index_of(messages, "The image is there already")
    assert not [message for message in messages if "Building" in message]

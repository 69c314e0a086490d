"""What a student reads of her packages: beside their field before a build, and when a build fails."""

from __future__ import annotations

import html
import re

from ds01_spawner.model import BuildOutcome

from .hub import Hub
from .student import Student, read_text

# Its setup.py tells its name and needs; then it wants a compiler, which the base image has not.
DOES_NOT_COMPILE = "pycrypto==2.6.1"


def find_refusal(page: str, field: str) -> str:
    """Return what a page says beside a field, "" for nothing."""
    match = re.search(
        rf'<div class="invalid-feedback[^"]*" id="ds01-{field}-refusal">(.*?)</div>', page, re.DOTALL
    )
    return html.unescape(match[1]) if match else ""


def test_a_package_that_does_not_exist_is_said_beside_its_field_and_starts_nothing(
    hub: Hub, student: Student
) -> None:
    with hub.ledger() as ledger:
        before = ledger.builds()
    typed = {"profile": "small", "packages": "six\nds01-no-such-package", "memory": "768m"}
    page = student.post_form(typed)
    assert page.status_code == 400
    assert "There is no package ds01-no-such-package." in find_refusal(page.text, "packages")
    assert find_refusal(page.text, "requirements") == ""
    assert "six\nds01-no-such-package</textarea>" in page.text
    assert 'value="768m"' in page.text
    assert student.server() == {}
    assert hub.traces(student.person) == {}
    with hub.ledger() as ledger:
        assert ledger.builds() == before


def test_a_conflict_in_a_file_is_said_beside_it_for_a_named_server_too(student: Student) -> None:
    student.form("thesis")
    typed = {"profile": "small", "requirements": "requests==2.32.3\nurllib3==1.20\n"}
    page = student.post_form(typed, "thesis")
    assert page.status_code == 400
    assert "conflict" in find_refusal(page.text, "requirements")
    assert "For the server thesis" in read_text(page.text)


def test_over_rest_the_same_sentence_ends_the_start_before_a_build(hub: Hub, student: Student) -> None:
    answer = student.ask_start({"packages": ["ds01-no-such-package"]})
    assert "There is no package ds01-no-such-package." in student.read_refusal(answer)
    student.wait_gone()
    with hub.ledger() as ledger:
        assert not [record for record in ledger.builds() if record.user == student.name]


def test_a_build_that_fails_shows_the_lines_that_matter_and_keeps_its_log(hub: Hub, student: Student) -> None:
    student.ask_start({"profile": "small", "packages": [DOES_NOT_COMPILE]})
    assert "Installing your packages: pycrypto could not be compiled" in student.failure()
    student.wait_gone()

    page = student.page(f"/hub/spawn-pending/{student.name}").text
    assert re.search(r"<code [^>]*>[^<]*pycrypto", page)
    log = re.search(r"<summary>The whole log of the build</summary>\s*<pre[^>]*>(.*?)</pre>", page, re.DOTALL)
    assert log is not None
    assert "layer=packages" in html.unescape(log[1])
    assert DOES_NOT_COMPILE in student.form().text
    with hub.ledger() as ledger:
        (record,) = [one for one in ledger.builds() if one.user == student.name]
    assert record.outcome is BuildOutcome.FAILED
    assert record.why in read_text(page)


def test_the_second_start_of_an_image_builds_nothing(hub: Hub, student: Student) -> None:
    student.start({"profile": "cpu", "packages": ["six"]})
    student.stop()
    with hub.ledger() as ledger:
        before = ledger.builds()
    student.start({"profile": "cpu", "packages": ["six"]})
    with hub.ledger() as ledger:
        assert ledger.builds() == before
        assert [use.user for use in ledger.image_uses()].count(student.name) == 1

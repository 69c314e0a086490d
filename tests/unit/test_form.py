from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from fractions import Fraction
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError

from ds01_spawner.errors import RequestRefused
from ds01_spawner.form import FormView, from_query, parse, render, render_problem
from ds01_spawner.form.phrases import describe_prospect
from ds01_spawner.model import UNLIMITED, Availability, Holdings, Limits, Prospect, Resources, ServerDefaults
from ds01_spawner.request import parse_options, parse_profiles
from ds01_spawner.templating import environment, template_directory

GIB = 1024**3
HOSTILE = "\"'><script>alert(1)</script>&"

PROFILES = parse_profiles(
    [
        {"display_name": "Slice", "spawner_override": {"gpu_profile": "1g.10gb"}},
        {
            "display_name": "Whole GPU",
            "default": True,
            "spawner_override": {"gpu_profile": "full", "gpu_count": 1},
            "profile_options": {
                "image": {
                    "display_name": "Image",
                    "choices": {"torch": {"display_name": "PyTorch"}, "tf": {"default": True}},
                    "unlisted_choice": {"enabled": True, "display_name": "Image name"},
                },
                "free": {"unlisted_choice": {"enabled": True, "display_name": "Free text"}},
            },
        },
        {"display_name": "CPU only", "spawner_override": {"gpu_profile": "none"}},
    ]
)
VIEW = FormView(
    profiles=PROFILES,
    availability=(
        Availability(profile="1g.10gb", total=7, free=3, memory_mib=9728, share=Fraction(1, 7)),
        Availability(profile="3g.40gb", total=2, free=0, memory_mib=40192, share=Fraction(3, 7)),
        Availability(profile="full", total=1, free=1, memory_mib=81559, share=Fraction(1)),
    ),
    limits=Limits(group="students", cpus=8, memory=32 * GIB, slots=3, gpu_share=Fraction(1), containers=4),
    holdings=Holdings(containers=1, slots=1, gpu_share=Fraction(1, 7)),
    frameworks=(("Pytorch", ("2.8.0-aime", "2.7.1")), ("Tensorflow", ("2.16.1",))),
    use_cases=("cv", "nlp"),
    architecture="CUDA_AMPERE",
)


class Page(HTMLParser):
    """A rendered form as a browser has it: its text, its tags, and the fields that it would post."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.fields: dict[str, list[str]] = {}
        self.choices: dict[str, list[str]] = {}
        self._select = self._area = ""
        self.feed(html)
        for name, values in self.choices.items():
            self.fields.setdefault(name, values[:1])
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        name, value = given.get("name") or "", given.get("value") or ""
        if tag == "select":
            self._select, self.choices[name] = name, []
        elif tag == "option":
            self.choices[self._select].append(value)
            if "selected" in given:
                self.fields[self._select] = [value]
        elif tag == "textarea":
            self._area, self.fields[name] = name, [""]
        elif tag == "input" and (given["type"] == "text" or "checked" in given):
            self.fields[name] = [value]

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self.fields[self._area] = [self.fields[self._area][0].removeprefix("\n")]
            self._area = ""

    def handle_data(self, data: str) -> None:
        if self._area:
            self.fields[self._area][0] += data
        self.text += data


def show(**changes: object) -> Page:
    return Page(render(replace(VIEW, **changes)))


# what came back ------------------------------------------------------------------------------------


def test_an_empty_form_asks_for_nothing() -> None:
    assert parse({}) == {}
    assert parse({"framework": [""], "packages": [" \r\n"], "gpu_count": [""], "_xsrf": ["2|a"]}) == {}


def test_a_form_as_the_hub_gives_it_becomes_user_options() -> None:
    posted = {
        "profile": ["whole-gpu"],
        "profile-option-whole-gpu--image": ["torch"],
        "profile-option-slice--image": ["tf"],
        "framework": ["Pytorch==2.8.0-aime"],
        "packages": ["torch>=2,<3\r\nnumpy pandas"],
        "system_packages": ["ffmpeg, libgl1"],
        "requirements": ["scipy\r\nnumpy\r\n", ""],
        "gpu_profile": ["1g.10gb"],
        "gpu_count": ["2"],
        "cpus": ["2.5"],
        "memory": ["8g"],
        "pids_limit": ["100"],
    }
    options = parse(posted)
    assert options == {
        "profile": "whole-gpu",
        "profile_options": {"image": "torch"},
        "framework": "Pytorch",
        "framework_version": "2.8.0-aime",
        "packages": ["torch>=2,<3", "numpy", "pandas"],
        "system_packages": ["ffmpeg", "libgl1"],
        "requirements": "scipy\nnumpy",
        "gpu_profile": "1g.10gb",
        "gpu_count": 2,
        "cpus": 2.5,
        "memory": "8g",
        "pids_limit": 100,
    }
    assert parse_options(options).cpus == 2.5


@pytest.mark.parametrize(
    ("typed", "packages"),
    [
        ("torch>=2,<3", ["torch>=2,<3"]),
        ("torch >= 2, < 3", ["torch >= 2, < 3"]),
        ("torch>=2,<3 numpy", ["torch>=2,<3", "numpy"]),
        ("torch, numpy,pandas", ["torch", "numpy", "pandas"]),
        ("foo[a,b] bar[c],baz", ["foo[a,b]", "bar[c]", "baz"]),
        ("foo; python_version < '3.11'", ["foo; python_version < '3.11'"]),
        ("# all\nnumpy  # fast\n\n,pandas,", ["numpy", "pandas"]),
        ("x; curl y", ["x;", "curl", "y"]),
        ("--index-url https://example.org", ["--index-url", "https://example.org"]),
        ("git+https://example.org/a#egg=b", ["git+https://example.org/a#egg=b"]),
    ],
)
def test_packages_are_split_where_a_package_ends(typed: str, packages: list[str]) -> None:
    assert parse({"packages": [typed]}) == {"packages": packages}


@pytest.mark.parametrize("typed", ["," * 10**6, "[" * 10**6, "a[b," * 10**5, "numpy\n" * 10**5, "x " * 10**6])
def test_a_huge_package_field_is_refused_later(typed: str) -> None:
    options = parse({"packages": [typed], "system_packages": ["x " * 10**6]})
    with pytest.raises(RequestRefused, match="packages"):
        parse_options(options)


@pytest.mark.parametrize(("name", "typed"), [("gpu_count", "two"), ("gpu_count", "1e3"), ("cpus", "nan")])
def test_what_is_no_number_stays_as_typed_for_the_check_behind(name: str, typed: str) -> None:
    assert parse({name: [typed]}) == {name: typed}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"numpy\n", "numpy\n"),
        (b"\xef\xbb\xbfnumpy", "numpy"),
        ("numpy\r\n".encode("utf-16"), "numpy\r\n"),
        (b"caf\xe9", "caf\ufffd"),
    ],
)
def test_an_uploaded_requirements_file_counts_before_the_pasted_text(body: bytes, text: str) -> None:
    upload = {"filename": "r.txt", "body": body, "content_type": "text/plain"}
    assert parse({"requirements": ["scipy"], "requirements_file": [upload]}) == {"requirements": text}


def test_no_uploaded_file_leaves_the_pasted_text() -> None:
    empty = {"filename": "r.txt", "body": b"", "content_type": "text/plain"}
    assert parse({"requirements": ["scipy", ""], "requirements_file": [empty]}) == {"requirements": "scipy"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_upload_that_is_too_large_is_cut_and_still_refused(encoding: str) -> None:
    upload = {"filename": "r.txt", "body": ("x" * 10**6).encode(encoding), "content_type": "text/plain"}
    options = parse({"requirements_file": [upload]})
    assert len(str(options["requirements"])) < 70_000
    with pytest.raises(RequestRefused, match="`requirements` has to be"):
        parse_options(options)


@pytest.mark.parametrize("value", ["text", {"filename": "x", "body": b"\0" * 10, "content_type": ""}])
def test_an_unknown_field_is_kept_small_so_that_the_check_names_it(value: object) -> None:
    options = parse({"photo_file": [value]})
    with pytest.raises(RequestRefused, match="'photo_file'"):
        parse_options(options)
    assert len(str(options)) < 40


def test_free_text_of_the_chosen_profile_is_read() -> None:
    prefix = "profile-option-whole-gpu--"
    fields = {
        "profile": ["whole-gpu"],
        f"{prefix}image": ["unlisted-choice"],
        f"{prefix}image--unlisted-choice": [" lab/x:1 "],
        f"{prefix}free--unlisted-choice": ["hello"],
    }
    expected = {"image": {"unlisted": "lab/x:1"}, "free": {"unlisted": "hello"}}
    assert parse(fields)["profile_options"] == expected
    assert parse(fields | {f"{prefix}image": ["tf"]})["profile_options"] == expected | {"image": "tf"}


def test_a_link_fills_the_form_like_a_post() -> None:
    query = {
        "framework": ["Pytorch"],
        "framework_version": ["2.7.1"],
        "gpu_count": ["1"],
        "packages": ["a", "b"],
    }
    assert from_query(query) == {
        "framework": "Pytorch",
        "framework_version": "2.7.1",
        "gpu_count": 1,
        "packages": ["a", "b"],
    }


# what is shown -------------------------------------------------------------------------------------


def test_the_form_as_shown_posts_back_what_it_was_filled_with() -> None:
    values = {
        "profile": "whole-gpu",
        "profile_options": {"image": {"unlisted": "lab/x:1"}, "free": {"unlisted": "<b>"}},
        "framework": "Pytorch",
        "framework_version": "2.7.1",
        "use_case": "nlp",
        "packages": ["torch >= 2, < 3", "numpy"],
        "system_packages": ["ffmpeg"],
        "requirements": "</textarea>\nscipy",
        "gpu_profile": "3g.40gb",
        "gpu_count": 2,
        "cpus": 2.5,
        "memory": 8 * GIB,
        "shm_size": "1g",
        "pids_limit": 100,
        "data_dir": "/data",
    }
    page = show(values=values, defaults=ServerDefaults(allow_mount_options=True))
    assert parse_options(parse(page.fields)) == parse_options(values)


def test_the_form_as_it_opens_asks_for_the_default_profile_and_its_choices() -> None:
    assert parse(show().fields) == {"profile": "whole-gpu", "profile_options": {"image": "tf"}}


def test_every_field_has_a_label_and_every_reference_a_target() -> None:
    page = show(values={"packages": ["x"]}, defaults=ServerDefaults(allow_custom_base_image=True))
    ids = [given["id"] for _, given in page.tags if "id" in given]
    labels = {given["for"] for tag, given in page.tags if tag == "label"}
    fields = {given["id"] for tag, given in page.tags if tag in ("input", "select", "textarea")}
    described = {target for _, given in page.tags for target in (given.get("aria-describedby") or "").split()}
    assert len(ids) == len(set(ids))
    assert fields == labels
    assert described <= set(ids)


def test_each_slot_profile_shows_its_memory_and_how_many_are_free() -> None:
    text = show().text
    for row in ("1g.10gb 10 GB 3 of 7 free", "3g.40gb 40 GB all 2 in use", "full GPU 80 GB 1 of 1 free"):
        assert row in text
    assert "3g.40gb · 40 GB · all 2 in use" in text
    assert "1 × 1g.10gb 3 of 7 free" in text


def test_her_limits_and_what_she_holds_are_shown() -> None:
    text = show().text
    assert "You hold 1 of 3 GPU slots · GPU share 0.14 of 1 · 1 of 4 servers" in text
    assert "Each server gets up to 8 CPUs · 32 GB of memory" in text
    assert "You hold 1 GPU slots · 1 servers" in show(limits=Limits(group="all")).text


def test_what_her_servers_take_together_is_shown_where_it_is_limited() -> None:
    aggregate = Resources(cpus=16, memory=96 * GIB, pids=12288)
    limits = Limits(group="all", aggregate=aggregate)
    held = Holdings(containers=2, takes=Resources(cpus=12.5, memory=32 * GIB, pids=8192))
    assert (
        "You hold 0 GPU slots · 2 servers · 12.5 of 16 CPUs · memory 32 GB of 96 GB · 8192 of 12288 processes"
        in show(limits=limits, holdings=held).text
    )
    unknown = show(limits=limits, holdings=replace(held, takes=UNLIMITED)).text
    assert "16 of 16 CPUs · memory 96 GB of 96 GB · 12288 of 12288 processes" in unknown


@pytest.mark.parametrize(
    ("changes", "offered"),
    [
        ({}, ["1g.10gb", "3g.40gb", "full"]),
        ({"allow_full_gpu": False}, ["1g.10gb", "3g.40gb"]),
        ({"gpu_share": Fraction(1, 7)}, ["1g.10gb"]),
        ({"slots": 0}, []),
        ({"slots_per_container": 0}, []),
    ],
)
def test_only_gpus_within_her_limits_are_offered(changes: Mapping[str, object], offered: list[str]) -> None:
    page = show(limits=replace(VIEW.limits, **changes))
    assert page.choices["gpu_profile"] == ["", "none", *offered]
    assert ("gpu_count" in page.choices) == bool(offered)
    assert ("not within your limits" in page.text) == (len(offered) < 3)


def test_no_more_gpus_are_offered_than_one_server_may_have() -> None:
    assert show().choices["gpu_count"] == ["", "1", "2", "3"]
    one = replace(VIEW.limits, slots_per_container=1)
    assert show(limits=one).choices["gpu_count"] == ["", "1"]
    assert len(show(limits=Limits(group="all")).choices["gpu_count"]) == 8


def test_without_nvml_no_gpu_is_offered_and_the_form_says_why() -> None:
    page = show(gpu_problem="The GPUs do not answer.", values={"gpu_profile": "full"})
    assert "The GPUs do not answer." in page.text
    assert page.choices["gpu_profile"] == ["", "none"]
    assert "gpu_count" not in page.choices
    assert "of 7 free" not in page.text


def test_simulated_gpus_are_marked() -> None:
    assert "Simulated GPUs" in show(simulated=True).text
    assert "Simulated GPUs" not in show().text


def test_a_linked_framework_that_is_not_listed_stays_as_it_was_asked_for() -> None:
    page = show(values={"framework": "Jax", "framework_version": "0.4"})
    assert page.fields["framework"] == ["Jax==0.4"]
    assert show(values={"framework": "pytorch"}).fields["framework"] == ["Pytorch"]


def test_without_a_catalog_the_form_says_so() -> None:
    page = show(frameworks=())
    assert "framework" not in page.choices
    assert "list of frameworks cannot be read" in page.text


def test_fields_that_are_not_allowed_are_not_shown() -> None:
    assert not {"base_image", "data_dir"} & show().fields.keys()
    allowing = parse_profiles(
        [{"display_name": "Own", "spawner_override": {"allow_custom_base_image": True}}]
    )
    assert "base_image" in show(profiles=allowing).fields


def test_the_folded_part_is_open_when_something_is_filled_in_there() -> None:
    assert ("details", {}) in show(values={"profile": "slice", "packages": []}).tags
    assert ("details", {"open": None}) in show(values={"packages": ["numpy"]}).tags


def test_nothing_that_is_shown_can_break_out_of_its_place() -> None:
    profiles = parse_profiles(
        [
            {
                "display_name": HOSTILE,
                "slug": "x",
                "description": HOSTILE,
                "profile_options": {
                    "o": {
                        "display_name": HOSTILE,
                        "choices": {"c": {"display_name": HOSTILE}},
                        "unlisted_choice": {"enabled": True, "display_name": HOSTILE},
                    }
                },
            }
        ]
    )
    texts = ("framework", "framework_version", "use_case", "requirements", "memory", "cpus", "base_image")
    values: dict[str, object] = dict.fromkeys(texts, HOSTILE)
    values |= {"packages": [HOSTILE], "profile": "x", "profile_options": {"o": {"unlisted": HOSTILE}}}
    html = render(
        replace(
            VIEW,
            profiles=profiles,
            frameworks=((HOSTILE, (HOSTILE,)),),
            use_cases=(HOSTILE,),
            values=values,
            gpu_problem=HOSTILE,
            architecture=HOSTILE,
            defaults=ServerDefaults(allow_custom_base_image=True),
        )
    )
    assert "<script" not in html
    assert Page(html).fields["base_image"] == [HOSTILE]
    assert "<script" not in render_problem(HOSTILE)


@pytest.mark.parametrize(
    "value", [None, 1, 1.5, True, "x", ["x", 1], {"image": 1}, {"image": ["x"]}, [], {}, float("nan")]
)
def test_stored_values_of_any_shape_are_shown_or_left_out(value: object) -> None:
    keys = [*parse_options({}).model_dump(), "unknown"]
    for profile in (value, "whole-gpu"):
        page = show(values=dict.fromkeys(keys, value) | {"profile": profile})
        assert page.fields["profile"] == ["whole-gpu"]


@pytest.mark.parametrize("field", ["packages", "system_packages", "requirements"])
def test_a_refused_package_is_explained_beside_its_field_and_stays_typed(field: str) -> None:
    typed = {field: ["nmupy"] if field.endswith("packages") else "nmupy"}
    page = show(values=typed, refusals={field: f"There is no package {HOSTILE}."})
    area = next(attrs for tag, attrs in page.tags if tag == "textarea" and attrs["name"] == field)
    assert area["aria-invalid"] == "true"
    assert f"ds01-{field}-refusal" in str(area["aria-describedby"]).split()
    assert f"There is no package {HOSTILE}." in page.text
    assert page.fields[field] == ["nmupy"]
    others = [attrs for tag, attrs in page.tags if tag == "textarea" and attrs["name"] != field]
    assert not any("aria-invalid" in attrs for attrs in others)


def test_the_folded_part_is_open_where_something_in_it_was_refused() -> None:
    assert "open" not in next(given for tag, given in show().tags if tag == "details")
    page = show(refusals={"packages": "No."})
    assert "open" in next(given for tag, given in page.tags if tag == "details")


def test_building_on_the_newest_base_is_asked_for_by_a_tick() -> None:
    assert "rebuild" not in parse(show().fields)
    assert parse(show(values={"rebuild": True}).fields)["rebuild"] is True
    assert parse_options(from_query({"rebuild": ["true"]})).rebuild
    with pytest.raises(RequestRefused, match="`rebuild` has to be true or false"):
        parse_options(parse({"rebuild": ["perhaps"]}))


def test_what_cannot_be_sent_as_utf_8_is_replaced() -> None:
    html = render(replace(VIEW, values={"memory": "\ud800"})) + render_problem("\ud800")
    assert html.encode().count(b'value="?"') == 1


def test_a_site_without_anything_still_has_a_form() -> None:
    bare = FormView(profiles=(), availability=(), limits=Limits(group="all"), holdings=Holdings())
    page = Page(render(bare))
    assert parse(page.fields) == {}
    assert page.choices["gpu_profile"] == ["", "none"]


# templates -----------------------------------------------------------------------------------------


def test_the_templates_are_found() -> None:
    assert (template_directory() / "options_form.html").is_file()


def test_a_template_cannot_leave_out_a_value_silently() -> None:
    with pytest.raises(UndefinedError):
        environment().from_string("{{ nothing }}").render()


@pytest.mark.parametrize(
    ("queues", "said"), [(True, "you wait in a queue"), (False, "the start says so and starts nothing")]
)
def test_form_says_what_happens_when_no_slot_is_free(queues: bool, said: str) -> None:
    assert said in " ".join(render(replace(VIEW, queues=queues)).split())


# what a start would meet ---------------------------------------------------------------------------

NINE = datetime(2026, 3, 2, 9, tzinfo=timezone.utc)
TAKEN = Prospect(profile="full", count=1, why="You asked for …", is_taken=True)
BARRED = Prospect(profile="full", count=1, why="Your group may not use a full GPU.")


@pytest.mark.parametrize(
    ("prospect", "sentence"),
    [
        (Prospect(profile="full", count=1), ""),
        (TAKEN, "Taken; nobody can say yet until when."),
        (replace(TAKEN, waits=True), "Taken: you would wait in the queue; nobody can say yet until when."),
        (
            replace(TAKEN, instead=("3g.40gb", "2g.20gb", "1g.10gb", "none")),
            "Taken; nobody can say yet until when. Free at once: 3g.40gb, 2g.20gb or no GPU.",
        ),
        (replace(TAKEN, instead=("none",)), "Taken; nobody can say yet until when. Free at once: no GPU."),
        (BARRED, "Your group may not use a full GPU."),
        (
            replace(BARRED, instead=("1g.10gb", "none")),
            "Your group may not use a full GPU. Free at once: 1g.10gb or no GPU.",
        ),
        (replace(BARRED, instead=("none",)), "Your group may not use a full GPU."),
    ],
)
def test_what_stands_against_a_profile_is_said_with_what_would_be_free(
    prospect: Prospect, sentence: str
) -> None:
    assert describe_prospect(prospect) == sentence


@pytest.mark.parametrize("waits", [True, False])
def test_the_time_at_which_one_should_come_free_is_said(waits: bool) -> None:
    sentence = describe_prospect(replace(TAKEN, waits=waits, expected_at=NINE))
    assert f"by {NINE.astimezone():%H:%M on %d %B}" in sentence
    assert ("your turn" in sentence) is waits


def radios(page: Page) -> dict[str | None, dict[str, str | None]]:
    return {given["value"]: given for tag, given in page.tags if given.get("type") == "radio"}


def test_what_nobody_could_start_cannot_be_chosen_and_says_why() -> None:
    page = show(prospects={("1g.10gb", 1): replace(BARRED, why="Your limit is reached.")})
    assert "disabled" in radios(page)["slice"]
    assert "disabled" not in radios(page)["cpu-only"]
    assert "Your limit is reached." in page.text


def test_what_is_chosen_already_stays_so_and_says_why_it_will_be_refused() -> None:
    page = show(values={"profile": "slice"}, prospects={("1g.10gb", 1): BARRED})
    assert "checked" in radios(page)["slice"]
    assert "disabled" not in radios(page)["slice"]
    assert BARRED.why in page.text


def test_what_one_can_wait_for_can_be_chosen() -> None:
    page = show(prospects={("1g.10gb", 1): replace(TAKEN, waits=True)})
    assert "disabled" not in radios(page)["slice"]


def test_a_card_says_what_the_service_is_asked_for() -> None:
    page = show(prospects={("1g.10gb", 1): TAKEN, ("none", 0): Prospect(profile="none", count=0)})
    assert {given["data-wish"] for _, given in page.tags if "data-wish" in given} == {"1g.10gb:1", "none:0"}


@pytest.mark.parametrize("name", ["memory", "framework", "gpu_profile", "use_case", "profile", "packages"])
def test_what_was_refused_is_said_beside_its_field(name: str) -> None:
    page = show(refusals={name: "Not so."})
    assert "Not so." in page.text
    ids = [given.get("id") for _, given in page.tags]
    assert f"ds01-{name}-refusal" in ids

import time

import pytest

from ds01_spawner.errors import ConfigBroken, NotAllowed, RequestRefused
from ds01_spawner.model import ServerDefaults, ServerRequest
from ds01_spawner.request import (
    UserOptions,
    build_request,
    find_profile,
    overrides_for,
    parse_options,
    parse_profiles,
    visible_profiles,
)

GIB = 1024**3
DEFAULTS = ServerDefaults(
    framework="Pytorch",
    framework_version="2.7.1",
    packages=("numpy",),
    gpu_profile="1g.10gb",
    gpu_count=1,
    workspace_dir="~/workspace",
    use_cases=("cv", "nlp"),
)
OPEN = ServerDefaults(framework="Pytorch", allow_custom_base_image=True, allow_mount_options=True)


def options(**given: object) -> UserOptions:
    return parse_options(given)


def request(defaults: ServerDefaults = DEFAULTS, **given: object) -> ServerRequest:
    return build_request(options(**given), None, defaults)


def image_profile(**unlisted: object) -> list[dict[str, object]]:
    choices = {
        "torch": {"display_name": "PyTorch", "spawner_override": {"framework": "Pytorch"}},
        "tf": {"default": True, "spawner_override": {"framework": "Tensorflow", "gpu_count": 2}},
    }
    option = {"display_name": "Image", "choices": choices, "unlisted_choice": unlisted}
    override = {"gpu_profile": "full", "gpu_count": 1}
    return [{"display_name": "Big", "spawner_override": override, "profile_options": {"image": option}}]


# profiles ------------------------------------------------------------------------------------------


def test_a_missing_slug_is_made_from_the_display_name() -> None:
    (profile,) = parse_profiles([{"display_name": "Größe M – 1 GPU!"}])
    assert profile.slug == "groe-m-1-gpu"


def test_a_name_that_gives_no_slug_asks_for_one() -> None:
    with pytest.raises(ConfigBroken, match="slug ''"):
        parse_profiles([{"display_name": "小"}])


def test_no_profile_list_is_an_empty_one() -> None:
    assert parse_profiles(None) == parse_profiles([]) == ()


def test_the_whole_shape_of_kubespawner_is_read() -> None:
    unlisted = {
        "enabled": True,
        "display_name": "Name",
        "display_name_in_choices": "Another",
        "validation_regex": "[a-z]+",
        "validation_message": "Letters.",
        "spawner_override": {"framework": "{value}"},
    }
    (profile,) = parse_profiles(image_profile(**unlisted))
    (option,) = profile.options
    assert (option.slug, option.display_name) == ("image", "Image")
    assert [(c.slug, c.display_name, c.default) for c in option.choices] == [
        ("torch", "PyTorch", False),
        ("tf", "tf", True),
    ]
    assert (option.unlisted_display_name, option.unlisted_choice_name) == ("Name", "Another")
    assert (option.unlisted_pattern, option.unlisted_message) == ("[a-z]+", "Letters.")
    assert option.unlisted_override == {"framework": "{value}"}


@pytest.mark.parametrize(
    ("profile_list", "sentence"),
    [
        ([{"display_name": "A", "kubespawner_override": {}}], "called `spawner_override` here"),
        ([{"display_name": "A", "descripton": "x"}], "did you mean `description`"),
        ([{"display_name": "A"}, {"display_name": "a"}], "Two profiles .* slug `a`"),
        ([{"display_name": "A", "slug": "a--b"}], "slug 'a--b'"),
        ([{"slug": "a"}], r"profile_list\.0\.display_name is wrong"),
        ([{"display_name": "A", "groups": "staff"}], r"profile_list\.0\.groups is wrong"),
        ([{"display_name": "A", "spawner_override": {"gpu profile": 1}}], "'gpu profile'"),
        ([{"display_name": "A", "profile_options": {"x": {}}}], "needs a choice"),
        (
            [{"display_name": "A", "profile_options": {"x": {"choices": {"unlisted-choice": {}}}}}],
            "none of them",
        ),
        (image_profile(enabled=True, validation_regex="("), "is no pattern"),
        (image_profile(enabled=True, spawner_override={"privileged": "{value}"}), "set `privileged`"),
        ({"display_name": "A"}, "profile_list is wrong"),
        (lambda spawner: [], "profile_list is wrong"),
    ],
)
def test_a_wrong_profile_list_is_named_to_the_admin(profile_list: object, sentence: str) -> None:
    with pytest.raises(ConfigBroken, match=sentence):
        parse_profiles(profile_list)


def test_profiles_of_other_groups_are_neither_seen_nor_told_from_unknown_ones() -> None:
    profiles = parse_profiles([{"display_name": "All"}, {"display_name": "Staff", "groups": ["staff"]}])
    assert [p.slug for p in visible_profiles(profiles, ["staff"])] == ["all", "staff"]
    assert [p.slug for p in visible_profiles(profiles, ["students"])] == ["all"]
    sentences = []
    for slug in ("staff", "nosuch"):
        with pytest.raises(RequestRefused) as caught:
            find_profile(profiles, slug, ["students"])
        sentences.append(str(caught.value).replace(slug, "…"))
    assert sentences[0] == sentences[1]
    assert "`all`" in sentences[0]


def test_without_a_slug_the_default_profile_is_taken_else_the_first_of_hers() -> None:
    profiles = parse_profiles(
        [{"display_name": "A"}, {"display_name": "B", "default": True, "groups": ["staff"]}]
    )
    found = [find_profile(profiles, "", groups) for groups in (["staff"], [])]
    assert [profile and profile.slug for profile in found] == ["b", "a"]


def test_a_site_without_profiles_needs_none() -> None:
    assert find_profile((), "", []) is None
    with pytest.raises(RequestRefused, match="without `profile`"):
        find_profile((), "x", [])


def test_someone_for_whom_no_profile_is_meant_gets_none() -> None:
    profiles = parse_profiles([{"display_name": "Staff", "groups": ["staff"]}])
    with pytest.raises(RequestRefused, match="No profile is open to you"):
        find_profile(profiles, "", [])


# what a choice overrides ---------------------------------------------------------------------------


def test_a_choice_overrides_the_profile() -> None:
    (profile,) = parse_profiles(image_profile())
    chosen = overrides_for(profile, options(profile_options={"image": "torch"}))
    assert chosen == {"gpu_profile": "full", "gpu_count": 1, "framework": "Pytorch"}


def test_an_option_that_is_left_out_counts_with_its_default_choice() -> None:
    (profile,) = parse_profiles(image_profile())
    chosen = overrides_for(profile, options())
    assert chosen == {"gpu_profile": "full", "gpu_count": 2, "framework": "Tensorflow"}


def test_free_text_fills_the_override_and_is_never_a_format() -> None:
    (profile,) = parse_profiles(image_profile(enabled=True, spawner_override={"framework": "x-{value}-{0}"}))
    chosen = overrides_for(profile, options(profile_options={"image": {"unlisted": "{value.__class__}"}}))
    assert chosen["framework"] == "x-{value.__class__}-{0}"


@pytest.mark.parametrize(
    ("unlisted", "chosen", "sentence"),
    [
        ({}, {"imgae": "tf"}, "did you mean `image`"),
        ({}, {"image": "torhc"}, "did you mean `torch`"),
        ({}, {"image": {"unlisted": "x"}}, "takes no text of your own"),
        ({"enabled": True}, {"image": {"unlisted": ""}}, "does not have the form"),
        (
            {"enabled": True, "validation_regex": "[a-z]+", "validation_message": "Only letters."},
            {"image": {"unlisted": "ok;curl"}},
            "'ok;curl'.*Only letters",
        ),
    ],
)
def test_a_choice_that_is_not_offered_is_refused(unlisted: dict, chosen: dict, sentence: str) -> None:
    (profile,) = parse_profiles(image_profile(**unlisted))
    with pytest.raises(RequestRefused, match=sentence):
        overrides_for(profile, options(profile_options=chosen))


def test_without_a_profile_there_are_no_options() -> None:
    assert overrides_for(None, options()) == {}
    with pytest.raises(RequestRefused, match="no option 'image'"):
        overrides_for(None, options(profile_options={"image": "tf"}))


# user_options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [None, {}, [], {"profile": None, "packages": None, "cpus": None}])
def test_no_options_ask_for_nothing(nothing: object) -> None:
    assert parse_options(nothing) == UserOptions()


def test_sizes_become_bytes() -> None:
    parsed = options(memory="8g", shm_size=512 * 1024**2)
    assert (parsed.memory, parsed.shm_size) == (8 * GIB, GIB // 2)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("profile", 1),
        ("profile", "x" * 201),
        ("profile", "a\nb"),
        ("profile", "\x00"),
        ("profile", "\ud800"),
        ("framework", ["Pytorch"]),
        ("packages", "numpy"),
        ("packages", {"numpy": 1}),
        ("packages", [1]),
        ("packages", ["x" * 201]),
        ("packages", ["x"] * 201),
        ("requirements", ["numpy"]),
        ("requirements", "é" * 33_000),
        ("requirements", "numpy\x00"),
        ("requirements", "\ud800"),
        ("gpu_count", "2"),
        ("gpu_count", True),
        ("gpu_count", 2.0),
        ("gpu_count", -1),
        ("gpu_count", 17),
        ("gpu_count", 10**400),
        ("cpus", "2"),
        ("cpus", True),
        ("cpus", 0),
        ("cpus", -1.0),
        ("cpus", float("nan")),
        ("cpus", float("inf")),
        ("cpus", 10**400),
        ("memory", "eight"),
        ("memory", "-8g"),
        ("memory", "9" * 400),
        ("memory", "0"),
        ("memory", 5 * 1024**2),
        ("memory", 10**400),
        ("memory", 8.5e9),
        ("memory", True),
        ("shm_size", 0),
        ("pids_limit", 0),
        ("pids_limit", 2**63),
        ("profile_options", []),
        ("profile_options", {"image": 1}),
        ("profile_options", {"image": {"unlisted": 1}}),
        ("profile_options", {"image": {"other": "x"}}),
        ("profile_options", {str(n): "x" for n in range(201)}),
    ],
)
def test_a_wrong_value_is_refused_by_a_printable_sentence_that_names_its_key(key: str, value: object) -> None:
    with pytest.raises(RequestRefused) as caught:
        parse_options({key: value})
    sentence = str(caught.value)
    assert sentence.startswith(f"`{key}` has to be ")
    assert sentence.isprintable()
    assert len(sentence) < 400


@pytest.mark.parametrize("wrong", ["x", 1, True, ["a"], 0, "", False])
def test_options_that_are_no_object_are_refused(wrong: object) -> None:
    with pytest.raises(RequestRefused, match="have to be an object"):
        parse_options(wrong)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("pakages", "did you mean `packages`"),
        ("image", "did you mean `base_image`"),
        ("\ud800", "ud800"),
        (7, "no option 7"),
        ("zzz", "there is `base_image`"),
    ],
)
def test_an_unknown_key_is_named_with_what_there_is(key: object, shown: str) -> None:
    with pytest.raises(RequestRefused, match=shown) as caught:
        parse_options({key: "x"})
    assert str(caught.value).isprintable()


def test_ten_thousand_packages_are_refused_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(RequestRefused, match="at most 200"):
        parse_options({"packages": ["numpy"] * 10_000})
    assert time.monotonic() - started < 1


# the request ---------------------------------------------------------------------------------------


def test_nothing_asked_gives_what_the_defaults_say() -> None:
    assert request() == ServerRequest(
        profile="",
        framework="Pytorch",
        framework_version="2.7.1",
        packages=("numpy",),
        gpu_profile="1g.10gb",
        gpu_count=1,
        workspace_dir="~/workspace",
    )


def test_what_is_asked_comes_through_checked_and_normalised() -> None:
    (profile,) = parse_profiles([{"display_name": "Mine"}])
    asked = options(
        framework="Tensorflow",
        use_case="CV",
        packages=["Torch_Metrics >=1", "numpy"],
        system_packages=["ffmpeg"],
        requirements="# mine\nscipy==1.2\n",
        gpu_profile="3G.40GB",
        gpu_count=2,
        cpus=2,
        memory="8g",
        pids_limit=100,
    )
    assert build_request(asked, profile, DEFAULTS) == ServerRequest(
        profile="mine",
        framework="Tensorflow",
        use_case="cv",
        packages=("numpy", "torch-metrics>=1"),
        system_packages=("ffmpeg",),
        requirements=("scipy==1.2",),
        gpu_profile="3g.40gb",
        gpu_count=2,
        cpus=2.0,
        memory=8 * GIB,
        pids_limit=100,
        workspace_dir="~/workspace",
    )


@pytest.mark.parametrize(
    ("asked", "version"),
    [
        ({"framework": "pytorch"}, "2.7.1"),
        ({"framework": "Tensorflow"}, ""),
        ({"framework": "pytorch", "framework_version": "2.0"}, "2.0"),
        ({"framework_version": "2.0"}, "2.0"),
    ],
)
def test_a_default_version_counts_only_for_its_own_framework(asked: dict, version: str) -> None:
    assert request(**asked).framework_version == version


@pytest.mark.parametrize(
    "image",
    [
        "ubuntu",
        "ubuntu:24.04",
        "registry.example/lab/image:1",
        "localhost:5000/a/b_c--d:v1.0-x",
        "[::1]:5000/a",
        f"a/b@sha256:{'0' * 64}",
    ],
)
def test_a_base_image_is_taken_where_it_is_allowed(image: str) -> None:
    made = request(OPEN, base_image=image)
    assert (made.base_image, made.framework, made.framework_version) == (image, "", "")


@pytest.mark.parametrize(
    "image", ["Ubuntu", "-u", "a:b:c", "a b", "a,b", "a\\b", "../a", "a/", "a:", "a;x", "$a"]
)
def test_what_is_no_image_name_is_refused(image: str) -> None:
    with pytest.raises(RequestRefused, match="is not the name of an image"):
        request(OPEN, base_image=image)


@pytest.mark.parametrize("image", ["c0ffee", "0" * 64, f"sha256:{'0' * 64}", "sha256:c0ffee"])
def test_a_base_image_by_its_id_is_refused(image: str) -> None:
    with pytest.raises(RequestRefused, match="write `base_image` by name and tag"):
        request(OPEN, base_image=image)
    assert request(OPEN, base_image=f"{image.partition(':')[0]}:latest").base_image


def test_a_base_image_where_none_is_allowed_is_refused() -> None:
    with pytest.raises(NotAllowed, match="`base_image`"):
        request(base_image="ubuntu")


@pytest.mark.parametrize("extra", [{"framework": "Pytorch"}, {"framework_version": "2"}])
def test_a_base_image_and_a_framework_contradict_each_other(extra: dict) -> None:
    with pytest.raises(RequestRefused, match="leave out"):
        request(OPEN, base_image="ubuntu", **extra)


def test_a_framework_takes_the_place_of_the_profiles_base_image() -> None:
    defaults = ServerDefaults(framework="Pytorch", base_image="lab/base:1")
    assert request(defaults).base_image == "lab/base:1"
    made = request(defaults, framework="Pytorch")
    assert (made.framework, made.base_image) == ("Pytorch", "")
    with pytest.raises(RequestRefused, match="No `framework`"):
        request(defaults, framework_version="2")


def test_without_any_framework_one_has_to_be_chosen() -> None:
    with pytest.raises(RequestRefused, match="No `framework`"):
        request(ServerDefaults())


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"gpu_profile": "none"}, ("none", 0)),
        ({"gpu_profile": "NONE", "gpu_count": 0}, ("none", 0)),
        ({"gpu_profile": "full"}, ("full", 1)),
        ({"gpu_profile": "1g.10gb"}, ("1g.10gb", 2)),
        ({"gpu_count": 3}, ("1g.10gb", 3)),
        ({"gpu_profile": "1g.24gb+me.all", "gpu_count": 16}, ("1g.24gb+me.all", 16)),
        ({"gpu_profile": "1c.3g.20gb"}, ("1c.3g.20gb", 1)),
        ({"gpu_profile": "1g.10gb-me"}, ("1g.10gb-me", 1)),
    ],
)
def test_gpus_are_read(asked: dict, expected: tuple[str, int]) -> None:
    made = request(ServerDefaults(framework="Pytorch", gpu_profile="1g.10gb", gpu_count=2), **asked)
    assert (made.gpu_profile, made.gpu_count) == expected


@pytest.mark.parametrize(
    "asked",
    [
        {"gpu_profile": "all"},
        {"gpu_profile": "1g.10gb,x"},
        {"gpu_profile": "1g.10gb;"},
        {"gpu_profile": "٣g.10gb"},
        {"gpu_profile": "0"},
        {"gpu_profile": "none", "gpu_count": 1},
        {"gpu_profile": "full", "gpu_count": 0},
        {"gpu_count": 0},
    ],
)
def test_gpus_that_cannot_be_meant_are_refused(asked: dict) -> None:
    with pytest.raises(RequestRefused, match=r"gpu_profile|GPU profile"):
        request(**asked)


def test_a_count_without_a_gpu_is_refused() -> None:
    with pytest.raises(RequestRefused, match="choose a `gpu_profile` too"):
        request(OPEN, gpu_count=1)


def test_an_unknown_use_case_names_the_nearest() -> None:
    with pytest.raises(RequestRefused, match="did you mean `nlp`"):
        request(use_case="nlpp")
    assert request(use_case="none").use_case == "none"


@pytest.mark.parametrize(
    "asked",
    [
        {"packages": ["x; curl y"]},
        {"packages": ["--index-url=x"]},
        {"packages": ["x @ https://example.org/x.whl"]},
        {"system_packages": ["ffmpeg;x"]},
        {"system_packages": ["-o"]},
        {"requirements": "-r other.txt"},
        {"requirements": "x @ https://example.org/x.whl"},
    ],
)
def test_what_is_no_package_name_is_refused_and_names_its_field(asked: dict) -> None:
    with pytest.raises(RequestRefused) as caught:
        request(**asked)
    assert [caught.value.field] == list(asked)


def test_package_urls_pass_where_the_admin_allows_them() -> None:
    allowed = ServerDefaults(framework="Pytorch", allow_package_options=True)
    url = "x @ https://example.org/x.whl"
    made = request(allowed, packages=[url], requirements=url)
    assert made.packages == made.requirements == (url,)


@pytest.mark.parametrize("key", ["workspace_dir", "data_dir", "models_dir"])
def test_directories_are_hers_to_choose_only_where_allowed(key: str) -> None:
    assert getattr(request(OPEN, **{key: "~/a b/c"}), key) == "~/a b/c"
    with pytest.raises(NotAllowed, match=f"`{key}`"):
        request(**{key: "~/a"})


@pytest.mark.parametrize(
    "path", ["a", "./a", "~other/a", "/a/../b", "..", "/a,b", "/a:b", "~/..", "$HOME", "\\\\a"]
)
def test_a_path_that_cannot_be_mounted_is_refused(path: str) -> None:
    with pytest.raises(RequestRefused, match="cannot be `data_dir`"):
        request(OPEN, data_dir=path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"gpu_profile": "7 GPUs"},
        {"gpu_profile": "full", "gpu_count": 17},
        {"use_case": "nosuch"},
        {"packages": ("x; curl y",)},
        {"system_packages": ("a b",)},
        {"base_image": "A B"},
        {"data_dir": "data"},
    ],
)
def test_a_default_that_cannot_be_used_is_the_admins_to_mend(wrong: dict) -> None:
    with pytest.raises(ConfigBroken, match="tell your admin") as caught:
        request(ServerDefaults(**{"framework": "Pytorch", **wrong}))
    assert caught.value.detail


def test_a_free_text_that_made_a_wrong_default_is_her_own_mistake() -> None:
    typed = options(profile_options={"image": {"unlisted": "A B"}})
    with pytest.raises(RequestRefused, match="'A B' is not the name of an image"):
        build_request(typed, None, ServerDefaults(base_image="A B"))

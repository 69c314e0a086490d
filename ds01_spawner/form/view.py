"""What the options form shows, and its rendering.

Whatever was stored or linked may be of any shape: what does not fit is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from markupsafe import Markup

from ..model import (
    FULL_GPU,
    MOST_GPUS,
    NO_GPU,
    UNLISTED_CHOICE,
    Availability,
    Holdings,
    Limits,
    Profile,
    Prospect,
    ServerDefaults,
    name_gpu,
)
from ..sizes import format_bytes
from ..templating import environment
from .phrases import (
    count_free,
    describe_holdings,
    describe_limits,
    describe_memory,
    describe_prospect,
    name_most,
)

# What is filled in stands in the folded part of the form, which is then open.
_FOLDED = frozenset(
    {"framework", "framework_version", "base_image", "use_case"}
    | {"packages", "system_packages", "requirements", "rebuild"}
    | {"cpus", "memory", "shm_size", "pids_limit"}
    | {"workspace_dir", "data_dir", "models_dir"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormView:
    """Everything that the form shows.

    `server` is the name of the server it is for, "" for the default one, `server_name` the Hub's for it;
    `notice` sentences about a link that cannot be followed, or about her servers, or "".
    `profiles` are those she may use; `frameworks` are (name, versions, newest first); `values` are the
    `user_options` to fill in, unchecked, and `refusals` what is said against one of them, by its name.
    `prospects` say what the GPUs of her profiles would meet, by (GPU profile, count); `gpu_problem` is a
    sentence when no GPU can be offered now, `queues` says whether one can wait for one. `defaults` say what
    she may choose; `architecture` is the catalog's word for the GPUs. `news_url` and `news_token` are where
    the page asks the service what is free, and with which token; "" where it cannot.
    """

    profiles: tuple[Profile, ...]
    availability: tuple[Availability, ...]
    limits: Limits
    holdings: Holdings
    server: str = ""
    notice: str = ""
    frameworks: tuple[tuple[str, tuple[str, ...]], ...] = ()
    use_cases: tuple[str, ...] = ()
    values: Mapping[str, object] = field(default_factory=dict)
    simulated: bool = False
    gpu_problem: str = ""
    prospects: Mapping[tuple[str, int], Prospect] = field(default_factory=dict)
    server_name: str = ""
    news_url: str = ""
    news_token: str = ""
    refusals: Mapping[str, str] = field(default_factory=dict)
    queues: bool = False
    defaults: ServerDefaults = field(default_factory=ServerDefaults)
    architecture: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One entry of a select: its value, what is shown, and whether it is the chosen one."""

    value: str
    label: str
    selected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionField:
    """A profile option: its label, its choices (none: only free text), and the free text filled in."""

    slug: str
    label: str
    choices: tuple[Choice, ...]
    unlisted_label: str
    unlisted_value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A profile as shown.

    `note` says which GPU it brings; `slots` are those of that profile on this machine, None without any.
    `wish` is what the service is asked for, "" where nothing changes; `reason` is why she cannot have it at
    once, "" if she can, and `barred` that no start would get it, now or later.
    """

    slug: str
    title: str
    description: str
    note: str
    checked: bool
    wish: str
    slots: Availability | None
    reason: str
    barred: bool
    options: tuple[OptionField, ...]


def render(view: FormView) -> str:
    """Return the form's HTML, for JupyterHub to put into its page (Bootstrap 5)."""
    template = environment().get_template("options_form.html")
    html = template.render(
        view=view,
        cards=_list_cards(view),
        slots=tuple(_describe_slots(a, view.limits) for a in view.availability),
        gpu_profiles=_list_gpu_profiles(view),
        gpu_counts=_list_gpu_counts(view),
        frameworks=tuple(_list_frameworks(view)),
        use_cases=_list_use_cases(view),
        holds=describe_holdings(view.limits, view.holdings),
        limits=describe_limits(view.limits),
        fields={name: _show(name, value) for name, value in view.values.items()},
        usual=_usual(view)[1],
        opened=any(view.values.get(name) or name in view.refusals for name in _FOLDED),
        rebuilds=view.values.get("rebuild") is True,
        most=name_most(view.limits),
        allows_base_image=_allows(view, "allow_custom_base_image"),
        allows_directories=_allows(view, "allow_mount_options"),
        unlisted_choice=UNLISTED_CHOICE,
        count_free=count_free,
    )
    return _make_sendable(html)


def render_problem(sentence: str) -> str:
    """Return HTML that says `sentence` in the form's place; needs no template."""
    return _make_sendable(Markup('<p class="alert alert-danger" role="alert">{}</p>').format(sentence))


def _make_sendable(html: str) -> str:
    # A stored option may hold a lone surrogate, on which the Hub's answer would fail.
    return html.encode(errors="replace").decode()


def _allows(view: FormView, trait: str) -> bool:
    """Whether the site, or one of her profiles, leaves her the choice that `trait` stands for."""
    options = (option for profile in view.profiles for option in profile.options)
    overrides = [profile.override for profile in view.profiles]
    overrides += [choice.override for option in options for choice in option.choices]
    return bool(getattr(view.defaults, trait)) or any(override.get(trait) for override in overrides)


def _list_cards(view: FormView) -> tuple[Card, ...]:
    asked = view.values.get("profile")
    slugs = [profile.slug for profile in view.profiles]
    default = next((p.slug for p in view.profiles if p.default), slugs[0] if slugs else "")
    checked = asked if asked in slugs else default
    chosen = view.values.get("profile_options")
    return tuple(
        _make_card(
            profile, view, checked=profile.slug == checked, chosen=chosen if profile.slug == asked else None
        )
        for profile in view.profiles
    )


def _make_card(profile: Profile, view: FormView, *, checked: bool, chosen: object) -> Card:
    wish = wish_of(profile, view.defaults)
    prospect = view.prospects.get(wish)
    return Card(
        slug=profile.slug,
        title=profile.display_name,
        description=profile.description,
        note=f"{wish[1]} × {name_gpu(wish[0])}" if wish[1] else "No GPU",
        checked=checked,
        wish=f"{wish[0]}:{wish[1]}" if prospect else "",
        slots=None
        if view.gpu_problem
        else next((a for a in view.availability if a.profile == wish[0]), None),
        reason=describe_prospect(prospect) if prospect else "",
        barred=is_barred(prospect) if prospect else False,
        options=tuple(_list_options(profile, chosen)),
    )


def wish_of(profile: Profile, defaults: ServerDefaults) -> tuple[str, int]:
    """Return (GPU profile, count) of a profile before any of its options is chosen."""
    asked = {"gpu_profile": defaults.gpu_profile, "gpu_count": defaults.gpu_count, **profile.override}
    name = str(asked["gpu_profile"] or NO_GPU).lower()
    count = asked["gpu_count"]
    return (NO_GPU, 0) if name == NO_GPU else (name, count if isinstance(count, int) and count > 0 else 1)


def is_barred(prospect: Prospect) -> bool:
    """Whether no start would get it: her limits or the machine stand against it, or nobody may wait."""
    return not prospect.is_free and not prospect.waits


def _list_options(profile: Profile, chosen: object) -> Iterator[OptionField]:
    values = chosen if isinstance(chosen, Mapping) else {}
    for option in profile.options:
        value = values.get(option.slug)
        typed = str(value.get("unlisted", "")) if isinstance(value, Mapping) else ""
        slugs = [choice.slug for choice in option.choices]
        default = next((c.slug for c in option.choices if c.default), slugs[0] if slugs else "")
        selected = (
            UNLISTED_CHOICE if typed and option.allows_unlisted else value if value in slugs else default
        )
        listed = [(choice.slug, choice.display_name) for choice in option.choices]
        if listed and option.allows_unlisted:
            listed.append((UNLISTED_CHOICE, option.unlisted_choice_name or option.unlisted_display_name))
        yield OptionField(
            slug=option.slug,
            label=option.display_name,
            choices=tuple(Choice(value=slug, label=name, selected=slug == selected) for slug, name in listed),
            unlisted_label=option.unlisted_display_name,
            unlisted_value=typed,
        )


def _may_have(slots: Availability, limits: Limits) -> bool:
    if 0 in (limits.slots, limits.slots_per_container):
        return False
    if slots.profile == FULL_GPU and not limits.allow_full_gpu:
        return False
    return limits.gpu_share is None or slots.share <= limits.gpu_share


def _describe_slots(slots: Availability, limits: Limits) -> dict[str, object]:
    return {
        "profile": slots.profile,
        "name": name_gpu(slots.profile),
        "memory": describe_memory(slots),
        "free": slots.free,
        "count": count_free(slots),
        "total": slots.total,
        "allowed": _may_have(slots, limits),
    }


def _list_hers(view: FormView) -> list[Availability]:
    return [] if view.gpu_problem else [a for a in view.availability if _may_have(a, view.limits)]


def _list_gpu_profiles(view: FormView) -> tuple[Choice, ...]:
    """Return what she may ask for: what is usual (""), no GPU, and the profiles within her limits."""
    hers = _list_hers(view)
    listed = [_usual(view), (NO_GPU, "No GPU")]
    listed += [(a.profile, f"{name_gpu(a.profile)} · {describe_memory(a)} · {count_free(a)}") for a in hers]
    return _mark(listed, view.values.get("gpu_profile"))


def _list_gpu_counts(view: FormView) -> tuple[Choice, ...]:
    """Return how many she may ask for; empty when there is no GPU for her."""
    hers = _list_hers(view)
    if not hers:
        return ()
    bounds = (view.limits.slots, view.limits.slots_per_container, max(a.total for a in hers), MOST_GPUS)
    most = min(bound for bound in bounds if bound is not None)
    listed = [_usual(view), *((str(n), str(n)) for n in range(1, most + 1))]
    return _mark(listed, _show("gpu_count", view.values.get("gpu_count")))


def _list_use_cases(view: FormView) -> tuple[Choice, ...]:
    names = dict.fromkeys(("none", *view.use_cases))
    listed = [_usual(view), *((name, name) for name in names)]
    return _mark(listed, view.values.get("use_case"))


def _usual(view: FormView) -> tuple[str, str]:
    return "", "As in the profile" if view.profiles else "As usual here"


def _mark(listed: list[tuple[str, str]], value: object) -> tuple[Choice, ...]:
    """Return the choices, that with `value` selected: in any case of letters, as it is read."""
    asked = str(value).casefold() if value else ""
    return tuple(Choice(value=v, label=label, selected=v.casefold() == asked) for v, label in listed)


def _list_frameworks(view: FormView) -> Iterator[tuple[str, tuple[Choice, ...]]]:
    """Yield (framework, choices); one that was asked for and is not listed comes first, as it was written."""
    name, version = (_show(key, view.values.get(key)) for key in ("framework", "framework_version"))
    asked = f"{name}=={version}" if version else name
    groups = [
        (framework, _mark([(framework, f"{framework}, newest"), *_versions(framework, versions)], asked))
        for framework, versions in view.frameworks
    ]
    if name and not any(choice.selected for _, choices in groups for choice in choices):
        yield "Asked for", (Choice(value=asked, label=f"{name} {version}".strip(), selected=True),)
    yield from groups


def _versions(framework: str, versions: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    return ((f"{framework}=={version}", f"{framework} {version}") for version in versions)


def _show(name: str, value: object) -> str:
    """Return `value` as its field shows it; "" for what has no such form."""
    if isinstance(value, (list, tuple)):
        return "\n".join(entry for entry in value if isinstance(entry, str))
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    if isinstance(value, int) and name in ("memory", "shm_size"):
        return format_bytes(value)
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)

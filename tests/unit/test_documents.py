"""What the documents and the shipped configurations say of settings is what the classes have."""

from __future__ import annotations

import ipaddress
import re
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import document_traits
import pytest
from jupyterhub.app import JupyterHub
from jupyterhub.auth import Authenticator, DummyAuthenticator, PAMAuthenticator
from jupyterhub.proxy import ConfigurableHTTPProxy
from traitlets import TraitError
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from ds01_spawner import DS01Spawner, request
from ds01_spawner.image import DEFAULT_USE_CASES
from ds01_spawner.limits import load_limits
from ds01_spawner.model import ServerDefaults
from ds01_spawner.service.settings import find_hub, find_own_address
from ds01_spawner.site import DS01
from ds01_spawner.spawner.settings import ServerSettings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
CONFIGS = sorted((ROOT / "hub_config").glob("*_config.py"))
PRODUCTION = ROOT / "hub_config" / "production_config.py"

CLASSES = {
    cls.__name__: cls
    for cls in (
        JupyterHub,
        Authenticator,
        DummyAuthenticator,
        PAMAuthenticator,
        ConfigurableHTTPProxy,
        DS01,
        DS01Spawner,
    )
}
NAMED_SETTING = re.compile(r"\bc\.([A-Z]\w*)\.(\w+)")


def by_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def configurations_in_readme() -> list[str]:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if "get_config()" in block]


def load(path: Path) -> Config:
    """Load a configuration as it is, but for the secret that it reads from this machine."""
    with tempfile.TemporaryDirectory() as folder:
        token = Path(folder) / "ds01.token"
        token.write_text("0f0f\n")
        copy = Path(folder) / path.name
        copy.write_text(path.read_text().replace("/etc/jupyterhub/ds01.token", str(token)))
        return PyFileConfigLoader(copy.name, path=folder).load_config()


@pytest.fixture
def readme_config(tmp_path: Path) -> Config:
    (text,) = configurations_in_readme()
    path = tmp_path / "jupyterhub_config.py"
    path.write_text(text)
    return load(path)


def check_values(config: Config) -> None:
    """Give each value of the configuration to its class, which refuses a wrong one."""
    values = [(section, name, value) for section, its in config.items() for name, value in its.items()]
    assert values
    for section, name, value in values:
        setattr(CLASSES[section](), name, value)


def servers_of(config: Config) -> list[request.ServerRequest]:
    """Return what each profile asks for, with every combination of the choices of its options."""
    found = []
    for profile in request.parse_profiles(config.DS01Spawner.profile_list):
        choices = [[(option.slug, choice.slug) for choice in option.choices] for option in profile.options]
        for chosen in product(*choices):
            options = request.parse_options({"profile": profile.slug, "profile_options": dict(chosen)})
            found.append(request.build_request(options, profile, defaults_with(config, profile, options)))
    return found


def defaults_with(config: Config, profile: Any, options: Any) -> ServerDefaults:
    server = ServerSettings()
    own = {name: value for name, value in config.DS01Spawner.items() if server.has_trait(name)}
    for name, value in {**own, **request.overrides_for(profile, options)}.items():
        assert server.has_trait(name), name
        setattr(server, name, value)
    return ServerDefaults(
        framework=server.framework,
        use_case=server.use_case,
        gpu_profile=server.gpu_profile,
        gpu_count=server.gpu_count,
        use_cases=tuple(DEFAULT_USE_CASES),
    )


@pytest.mark.parametrize("path", PAGES + CONFIGS, ids=by_name)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    named = set(NAMED_SETTING.findall(path.read_text()))
    unknown = [f"c.{cls}.{name}" for cls, name in named if name not in CLASSES[cls].class_traits(config=True)]
    assert unknown == []


def test_settings_are_named_where_one_looks_for_them() -> None:
    assert ("DS01", "limits_file") in NAMED_SETTING.findall((ROOT / "README.md").read_text())
    assert ("DS01Spawner", "privileged") in NAMED_SETTING.findall((ROOT / "docs/aime.md").read_text())
    assert PRODUCTION in CONFIGS


def test_the_page_of_settings_is_what_the_classes_say() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == document_traits.show_page(), "run: python tools/document_traits.py > docs/configuration.md"


def test_the_page_of_settings_shows_each_own_setting_and_no_inherited_one() -> None:
    page = document_traits.show_page()
    assert "\nc.DS01.min_uid = 1000\n" in page
    assert '\nc.DS01Spawner.workspace_dir = "~/workspace"\n' in page
    assert "c.DS01Spawner.mem_limit" not in page


def test_the_readme_has_one_configuration_that_jupyterhub_takes(readme_config: Config) -> None:
    check_values(readme_config)
    assert readme_config.JupyterHub.spawner_class == "ds01"


def test_the_profiles_of_the_readme_ask_for_no_gpu_and_for_one_slice(readme_config: Config) -> None:
    asked = [(server.gpu_profile, server.gpu_count) for server in servers_of(readme_config)]
    assert asked == [("none", 0), ("1g.10gb", 1)]


def test_jupyterhub_takes_the_production_configuration() -> None:
    check_values(load(PRODUCTION))


def test_a_wrong_value_in_a_configuration_would_be_noticed() -> None:
    with pytest.raises(TraitError):
        check_values(Config({"DS01": {"device_mode": "gpu"}}))


def test_each_choice_of_the_production_profiles_is_a_server_that_can_be_asked_for() -> None:
    asked = [
        (server.profile, server.framework, server.gpu_profile) for server in servers_of(load(PRODUCTION))
    ]
    assert asked == [
        ("cpu", "Pytorch", "none"),
        ("vision", "Pytorch", "1g.10gb"),
        ("research", "Pytorch", "1g.10gb"),
        ("research", "Tensorflow", "1g.10gb"),
        ("research", "Pytorch", "3g.40gb"),
        ("research", "Tensorflow", "3g.40gb"),
        ("research", "Pytorch", "full"),
        ("research", "Tensorflow", "full"),
        ("own-image", "Pytorch", "none"),
    ]


def test_servers_survive_a_restart_of_the_hub_in_production() -> None:
    assert load(PRODUCTION).JupyterHub.cleanup_servers is False


def test_the_service_of_the_production_configuration_may_see_and_start_servers_and_nothing_else() -> None:
    hub = load(PRODUCTION).JupyterHub
    assert [service["name"] for service in hub.services] == ["ds01"]
    roles = [role for role in hub.load_roles if "ds01" in role.get("services", ())]
    assert [role["scopes"] for role in roles] == [["list:users", "read:users:groups", "servers"]]


def test_students_may_enter_the_service_and_have_what_they_had_besides(readme_config: Config) -> None:
    for config in (load(PRODUCTION), readme_config):
        (role,) = [role for role in config.JupyterHub.load_roles if role["name"] == "user"]
        assert role["scopes"] == ["self", "access:services!service=ds01"]


def test_the_hub_looks_for_the_service_of_production_where_it_answers_on_the_loopback() -> None:
    config = load(PRODUCTION)
    (service,) = config.JupyterHub.services
    found = find_own_address({}, config, config.DS01.service_url)
    assert found is not None
    assert found.url == service["url"]
    assert ipaddress.ip_address(found.host).is_loopback
    assert (found.prefix, found.token) == ("/services/ds01/", "0f0f")


def test_the_service_finds_the_hub_of_the_production_configuration_by_itself() -> None:
    assert find_hub({}, load(PRODUCTION)) == ("http://172.30.0.1:8081/hub/api", "0f0f")


def test_groups_of_the_production_profiles_are_groups_of_the_limits_file() -> None:
    limits = load_limits((ROOT / "hub_config" / "resource-limits.yaml").read_text())
    profiles = request.parse_profiles(load(PRODUCTION).DS01Spawner.profile_list)
    named = {group for profile in profiles for group in profile.groups}
    assert named
    assert named <= set(limits.groups)


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_links_within_the_project_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
    missing = [target for target in targets if not (path.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://127.0.0.1:8081/hub/api"),
        ({"hub_ip": "::1", "hub_port": 9000}, "http://[::1]:9000/hub/api"),
        ({"base_url": "/lab/"}, "http://127.0.0.1:8081/lab/hub/api"),
        ({"hub_bind_url": "http://10.0.0.1:8085"}, "http://10.0.0.1:8085/hub/api"),
    ],
)
def test_the_service_finds_the_hub_however_its_address_is_set(settings: dict[str, Any], url: str) -> None:
    config = Config({"JupyterHub": settings})
    config.JupyterHub.services.append({"name": "ds01", "api_token": "0f0f"})
    assert find_hub({}, config) == (url, "0f0f")


def test_a_service_without_a_token_has_no_hub() -> None:
    assert find_hub({}, Config()) is None
    assert find_hub({}, Config({"JupyterHub": {"services": [{"name": "ds01"}]}})) is None


def test_the_time_of_a_start_is_more_than_its_parts_together() -> None:
    assert DS01Spawner.start_timeout.default_value == DS01Spawner()._default_start_timeout()

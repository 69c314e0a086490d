"""JupyterHub's configuration for `make demo`: simulated GPUs, three people, one password.

Everything it keeps lies in the folder that DS01_DEMO_DIR names; `tools/demo.py` prepares that folder
and Docker, sets the variables below and starts the Hub. Copy production_config.py for a lab, not this.
"""

import os
import sys
from pathlib import Path

from ds01_spawner import template_paths

c = get_config()  # noqa: F821 - JupyterHub gives it

demo = Path(os.environ["DS01_DEMO_DIR"])
here = Path(os.environ["DS01_DEMO_CONFIG_DIR"])

# The Hub on this machine only; its API where containers reach it, on their bridge's own address.
c.JupyterHub.bind_url = "http://127.0.0.1:8000"
c.JupyterHub.hub_ip = os.environ["DS01_DEMO_GATEWAY"]
c.JupyterHub.hub_port = 8081
c.ConfigurableHTTPProxy.command = os.environ["DS01_DEMO_PROXY"]
c.ConfigurableHTTPProxy.pid_file = str(demo / "proxy.pid")
c.JupyterHub.db_url = f"sqlite:///{demo / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(demo / "cookie_secret")

# A sign-in for a demo: three names, one password. A lab uses PAM, LDAP or its university's login.
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "demo"
c.Authenticator.allowed_users = {"alice", "bob", "carol"}
c.Authenticator.admin_users = {"carol"}
c.JupyterHub.load_groups = {"researcher": {"users": ["bob", "carol"]}}

c.JupyterHub.spawner_class = "ds01"
# The pages of the Hub that DS01 makes its own: home, the wait for a server, and why there is none.
c.JupyterHub.template_paths = template_paths()
c.JupyterHub.allow_named_servers = True
# Together with the default server as many as the limits file allows.
c.JupyterHub.named_server_limit_per_user = 2
# The demo alone ends its servers with the Hub. In a lab a restart must not kill a night's training.
c.JupyterHub.cleanup_servers = True

# The service that keeps ledger, Docker and GPUs in agreement. It reads this file, hence the variables. At its
# `url` it shows people their servers, through the Hub's proxy at /services/ds01/ (docs/service.md).
c.JupyterHub.services = [
    {
        "name": "ds01",
        "url": "http://127.0.0.1:10101",
        # It is a part of the Hub: nobody is asked whether it may know who she is.
        "oauth_no_confirm": True,
        # In a browser it lets each do what the Hub lets her do: carol sees everybody's servers.
        "oauth_client_allowed_scopes": ["read:servers", "servers", "admin-ui"],
        # A link to its page stands in the Hub's menu.
        "display": True,
        "command": [sys.executable, "-m", "ds01_spawner.service", "--config", __file__],
        "environment": {name: text for name, text in os.environ.items() if name.startswith("DS01_DEMO_")},
    }
]
c.JupyterHub.load_roles = [
    {"name": "ds01", "services": ["ds01"], "scopes": ["list:users", "read:users:groups", "servers"]},
    # Students may ask the service how long their servers have, and for more time; by itself the Hub lets
    # nobody but admins in. `self` is what everybody has anyway.
    {"name": "user", "scopes": ["self", "access:services!service=ds01"]},
]

# The site: a box file in place of GPUs, so that no device is handed over.
c.DS01.inventory = str(here / "simulated-gpus.box")
c.DS01.device_mode = "none"
c.DS01.catalog_file = str(here / "demo-catalog.repo")
c.DS01.limits_file = str(here / "resource-limits.yaml")
c.DS01.ledger_url = f"sqlite:///{demo / 'ledger.sqlite'}"
c.DS01.build_log_dir = str(demo / "builds")
c.DS01.accounts = str(demo / "passwd")
c.DS01.socket_path = str(demo / "ds01.sock")
# A demo is watched: what changes in the box file is seen at once.
c.DS01.service_interval_seconds = 5
c.DS01.network_name = "ds01-demo"
c.DS01.docker_host = os.environ["DS01_DEMO_DOCKER_HOST"]
c.DS01.docker_command = os.environ["DS01_DEMO_DOCKER_COMMAND"]
c.DS01.ca_bundle = os.environ.get("DS01_DEMO_CA_BUNDLE", "")
# The stock packages take minutes to install; a demo starts sooner without them.
c.DS01.base_packages = []
c.DS01.base_system_packages = []

c.DS01Spawner.framework = "Pytorch"
c.DS01Spawner.profile_list = [
    {
        "display_name": "Notebook without GPU",
        "slug": "cpu",
        "description": "For writing, plotting and small data.",
        "default": True,
    },
    {
        "display_name": "A small slice",
        "slug": "slice",
        "description": "One MIG instance with 10 GB: course work, debugging, small models.",
        "spawner_override": {"gpu_profile": "1g.10gb", "gpu_count": 1},
    },
    {
        "display_name": "Choose for yourself",
        "slug": "research",
        "description": "Any slice that is free, or a whole GPU. For researchers.",
        "groups": ["researcher"],
        "spawner_override": {"gpu_profile": "2g.20gb", "gpu_count": 1},
    },
]

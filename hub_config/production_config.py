"""JupyterHub's configuration for a lab: copy it to /etc/jupyterhub/jupyterhub_config.py and go through it.

The Hub runs as root, since it opens each student's directories with her own rights and talks to
Docker. Once, before its first start:

    docker network create --driver bridge --subnet 172.30.0.0/16 --gateway 172.30.0.1 \\
        --opt com.docker.network.bridge.enable_icc=false ds01
    mkdir --parents --mode 700 /var/lib/jupyterhub /var/lib/ds01
    mkdir --parents /etc/ds01   # and resource-limits.yaml into it, from this folder

`jupyterhub.service` and `ds01.service` beside this file start the Hub and its service with systemd; by
hand it is `jupyterhub --config /etc/jupyterhub/jupyterhub_config.py`.

`ds01 --config FILE limits USER` shows what a student may have with this file, `ds01 --config FILE
catalog list` which frameworks she may choose. All settings: docs/configuration.md.
"""

from pathlib import Path

from ds01_spawner import template_paths

c = get_config()  # noqa: F821 - JupyterHub gives it

# The Hub -------------------------------------------------------------------------------------------

# Plain HTTP on this machine only. A reverse proxy in front of it (nginx, Apache, Caddy) holds the
# certificate and speaks TLS; it must pass websockets on, and set Host, X-Forwarded-For and
# X-Forwarded-Proto. Without one, set c.JupyterHub.ssl_key and ssl_cert and bind to the outside.
c.JupyterHub.bind_url = "http://127.0.0.1:8000"
c.JupyterHub.trusted_downstream_ips = ["127.0.0.1"]

# Servers reach the Hub's API on the gateway of their network, which is why the network is made
# beforehand with a fixed address. A firewall must let 172.30.0.0/16 come in to this port, nobody else.
c.JupyterHub.hub_ip = "172.30.0.1"
c.JupyterHub.hub_port = 8081

# node's configurable-http-proxy, by its absolute path. Not the Python package of the same name.
c.ConfigurableHTTPProxy.command = ["/usr/local/bin/configurable-http-proxy"]
c.ConfigurableHTTPProxy.pid_file = "/run/jupyterhub-proxy.pid"

c.JupyterHub.db_url = "sqlite:////var/lib/jupyterhub/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "/var/lib/jupyterhub/cookie_secret"

# By default a Hub that stops takes all servers with it, and with them a night's training. With False
# they run on, and the Hub finds them again when it is back: restart it whenever you need to.
c.JupyterHub.cleanup_servers = False

# The Hub learns within a minute that a server is used, so that none is stopped as idle that is not.
c.JupyterHub.last_activity_interval = 60

# People --------------------------------------------------------------------------------------------

# The accounts of this machine, with their own passwords. Any other authenticator will do, as long as
# the Hub's user name is the login name here: UID, groups and home come from that account. Where the
# names differ, c.DS01.login_name maps one to the other.
c.JupyterHub.authenticator_class = "pam"
c.PAMAuthenticator.allowed_groups = {"gpu-users"}
c.PAMAuthenticator.admin_groups = {"gpu-admins"}

# Groups of the Hub. Profiles below ask for them, and so does the limits file where it has no member
# list of its own. An admin can edit them on the Hub's admin page as well.
c.JupyterHub.load_groups = {"researcher": {"users": []}}

# The service ---------------------------------------------------------------------------------------

# It keeps leases, containers and GPUs in agreement: frees what a crash left behind, reads the GPUs, and
# lets the Hub take up a container that was started over SSH. Without it no GPU is handed out.
# Under systemd (ds01.service beside this file) it outlives a restart of the Hub. Both know its token from
# here:  openssl rand -hex 32 > /etc/jupyterhub/ds01.token; chmod 600 /etc/jupyterhub/ds01.token
#
# To let the Hub start it instead, put this in place of the token; the Hub does not start without it then:
#     "command": [sys.executable, "-m", "ds01_spawner.service", "--config", __file__]
#
# It also answers HTTP, on this machine's loopback alone; people reach it through the Hub's proxy, at
# /services/ds01/. docs/service.md says what, and how Prometheus reads its metrics.
token = Path("/etc/jupyterhub/ds01.token")
c.DS01.service_url = "http://127.0.0.1:10101"
c.JupyterHub.services = [
    {
        "name": "ds01",
        "api_token": token.read_text().strip(),
        "url": c.DS01.service_url,
        # It is a part of the Hub: nobody is asked whether it may know who she is.
        "oauth_no_confirm": True,
        # In a browser it lets each do what the Hub lets her do: an admin sees everybody's servers. Without
        # this, admins see those of others with a token only.
        "oauth_client_allowed_scopes": ["read:servers", "servers", "admin-ui"],
        # A link to its page stands in the Hub's menu.
        "display": True,
    }
]
c.JupyterHub.load_roles = [
    # All that it may do: see who has which server and is in which group, start and stop one.
    {"name": "ds01", "services": ["ds01"], "scopes": ["list:users", "read:users:groups", "servers"]},
    # Students may ask it how long their servers have, and for more time; by itself the Hub lets nobody but
    # admins in. `self` is what everybody has anyway.
    {"name": "user", "scopes": ["self", "access:services!service=ds01"]},
]

# The site: c.DS01 ----------------------------------------------------------------------------------

c.JupyterHub.spawner_class = "ds01"
# The pages of the Hub that DS01 makes its own: home, the wait for a server, and why there is none.
c.JupyterHub.template_paths = template_paths()
c.JupyterHub.allow_named_servers = True
# Together with the default server as many as the limits file allows (max_containers_per_user).
c.JupyterHub.named_server_limit_per_user = 2

# AIME's catalog and DS01's limits are found where they are usually installed; name them to be sure.
# Both are read again at each start of a server, so editing them needs no restart.
c.DS01.catalog_file = "/opt/aime-ml-containers/ml_images.repo"
c.DS01.limits_file = "/etc/ds01/resource-limits.yaml"

# Who holds which GPU. A SQLite file is enough for one Hub; PostgreSQL works too (extra `postgres`).
c.DS01.ledger_url = "sqlite:////var/lib/ds01/ledger.sqlite"

# The network that was made above. Containers on it cannot reach each other.
c.DS01.network_name = "ds01"

# Docker 25 or newer with CDI: run `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`, and again
# after each change of MIG instances. CDI is on by default from Docker 28.2; before that it needs
# {"features": {"cdi": true}} in /etc/docker/daemon.json. With NVIDIA's older runtime: "nvidia".
c.DS01.device_mode = "cdi"

# What may be mounted, after symlinks are resolved: a student's own home, and what is shared.
c.DS01.mount_roots = ["{home}", "/srv/datasets", "/srv/models"]

# Builds trust these certificates: what a university's proxy needs. They are shown to the build, and
# never stay in an image. pip_config, apt_config, http_proxy, https_proxy and no_proxy work alike; keep
# passwords that students must not know out of all of them, since the build runs what students install, and
# that can read them.
c.DS01.ca_bundle = "/etc/ssl/certs/ca-certificates.crt"

# What students install runs in builds, on Docker's default bridge, from where the Hub's API can be reached.
# ds01-build-network and its .service beside this file close that; docs/security.md says what else they do.
# ds01-build.slice limits memory and CPUs of all builds together. It needs Docker 23 and buildx; without
# them leave this out, and builds are bounded by their number alone.
#
#     c.DS01.build_cgroup_parent = "ds01-build.slice"
c.DS01.build_pool_size = 2

# Base images come from Docker Hub, or from a registry of yours: host[:port][/path]. The login is what
# `docker login` writes, in a file that only root can read. With "always" a newer base is looked for at each
# build; with "never" you run docker pull.
#
#     c.DS01.registry = "registry.example.org/aime"
#     c.DS01.registry_login = "/etc/jupyterhub/registry.json"
c.DS01.pull_policy = "ifnotpresent"

# The logs of builds are kept for history_days; `ds01 image log` shows them.
c.DS01.build_log_dir = "/var/lib/ds01/builds"

# Built images stay until these say otherwise: unused for so many days, or used longest ago when all of them
# together are over the budget. What a container, a start or a profile needs always stays. The last one is
# for Docker's build cache besides. `ds01 image prune --dry-run` shows what would go.
# c.DS01.image_max_age_days = 60
# c.DS01.image_disk_budget = "500g"
# c.DS01.build_cache_budget = "100g"

# One server: c.DS01Spawner -------------------------------------------------------------------------

c.DS01Spawner.framework = "Pytorch"
# The host's directories at /data and /models, read-only. They must exist and be readable to students.
c.DS01Spawner.data_dir = "/srv/datasets"
c.DS01Spawner.models_dir = "/srv/models"

# Building and starting together, in seconds: a first build on a base image that has to be downloaded
# takes its time. Then Jupyter has http_timeout to answer; a cold disk is slow, so more than the usual 30.
c.DS01Spawner.start_timeout = 3600
c.DS01Spawner.http_timeout = 120

# What students choose from: KubeSpawner's shape, with `spawner_override` for what a choice sets (any
# setting of c.DS01Spawner) and `groups` for who may see it. A profile offers. It does not limit: on
# the form a student may still choose another GPU or framework. The limits file says what she may have.
c.DS01Spawner.profile_list = [
    {
        "display_name": "Notebook without GPU",
        "slug": "cpu",
        "description": "For writing, plotting and small data.",
        "default": True,
    },
    {
        "display_name": "Course: computer vision",
        "slug": "vision",
        "description": "One small slice, with the packages of the course.",
        "spawner_override": {"gpu_profile": "1g.10gb", "gpu_count": 1, "use_case": "cv"},
    },
    {
        "display_name": "Research",
        "slug": "research",
        "description": "A slice or a whole GPU, and any framework of the catalog.",
        "groups": ["researcher"],
        "spawner_override": {"gpu_count": 1},
        "profile_options": {
            "gpu": {
                "display_name": "GPU",
                "choices": {
                    "small": {
                        "display_name": "Small slice, 1g.10gb",
                        "default": True,
                        "spawner_override": {"gpu_profile": "1g.10gb"},
                    },
                    "half": {
                        "display_name": "Half a GPU, 3g.40gb",
                        "spawner_override": {"gpu_profile": "3g.40gb"},
                    },
                    "whole": {
                        "display_name": "A whole GPU",
                        "spawner_override": {"gpu_profile": "full"},
                    },
                },
            },
            "framework": {
                "display_name": "Framework",
                "choices": {
                    "pytorch": {
                        "display_name": "PyTorch",
                        "default": True,
                        "spawner_override": {"framework": "Pytorch"},
                    },
                    "tensorflow": {
                        "display_name": "TensorFlow",
                        "spawner_override": {"framework": "Tensorflow"},
                    },
                },
                "unlisted_choice": {
                    "enabled": True,
                    "display_name": "Another framework of the catalog",
                    "validation_regex": r"[A-Za-z][A-Za-z0-9_.-]{0,39}",
                    "validation_message": "Write its name as `ds01 catalog list` shows it.",
                    "spawner_override": {"framework": "{value}"},
                },
            },
        },
    },
    {
        "display_name": "An image of your own",
        "slug": "own-image",
        "description": "Builds on any base image that you name. Its content is not checked.",
        "groups": ["researcher"],
        "spawner_override": {"allow_custom_base_image": True},
    },
]

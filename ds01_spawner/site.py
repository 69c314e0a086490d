"""The site's settings, `c.DS01.*`, and the one `Core` that is made from them.

The Hub, the service and the command line read the same configuration and get the same rooms.
"""

from __future__ import annotations

import shlex
import threading
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jupyterhub
from traitlets import (
    Bool,
    CaselessStrEnum,
    Dict,
    Float,
    Integer,
    List,
    TraitError,
    Unicode,
    Union,
    validate,
)
from traitlets import Callable as CallableTrait
from traitlets.config import Config, LoggingConfigurable
from traitlets.config.loader import JSONFileConfigLoader, PyFileConfigLoader

from .adapters import box, nvml, processes
from .adapters.accounts import find_account, find_login, groups_of
from .adapters.build_logs import BuildLogs
from .adapters.builder import PROXIES, Builder
from .adapters.engine import DockerEngine
from .adapters.ledger import Ledger
from .adapters.mounts import open_mounts
from .adapters.site_files import read_catalog, read_limits
from .catalog import SEARCH_PATHS
from .core import (
    Admin,
    Adoptions,
    BaseSupply,
    Core,
    Images,
    ImageStore,
    Leases,
    Lifetimes,
    Offers,
    Previews,
    Prospects,
    SelfTest,
    Servers,
    Upkeep,
)
from .image import DEFAULT_BASE_PACKAGES, DEFAULT_BASE_SYSTEM_PACKAGES, DEFAULT_USE_CASES
from .keeping import Bounds
from .model import Account, Inventory, SlotUse
from .sizes import parse_bytes

SERVICE_NAME = "ds01"
"""The name of the service in `c.JupyterHub.services`."""


def read_config(path: Path) -> Config:
    """Return the settings of a `jupyterhub_config.py`, or of a JSON file as traitlets knows it.

    A Python file is the admin's program: whatever it raises comes through.
    """
    loader = JSONFileConfigLoader if path.suffix == ".json" else PyFileConfigLoader
    return loader(path.name, path=str(path.parent.absolute())).load_config()


class DS01(LoggingConfigurable):
    """Settings of the whole site; each trait's help is its manual."""

    catalog_file = Unicode(
        "",
        config=True,
        help="""AIME's catalog, `ml_images.repo`. Empty: searched where AIME and DS01 install it;
        without any, a Docker Hub image of the framework is used, with a warning. It is read anew when
        it changes.""",
    )
    architecture = Unicode(
        "",
        config=True,
        help="""The catalog's architecture: CUDA, CUDA_AMPERE, CUDA_ADA, CUDA_BLACKWELL, ROCM5 or ROCM6.
        Empty: `$MLC_ARCH`, else read from the GPUs; set it where the Hub may run without them.""",
    )
    limits_file = Unicode(
        "",
        config=True,
        help="""DS01's `resource-limits.yaml`; `user-overrides.yaml` and `groups/NAME.members` are read
        beside it. Empty: searched where DS01 installs it; without any, everybody has one slot in one
        container.""",
    )
    ledger_url = Unicode(
        "sqlite:////var/lib/ds01/ledger.sqlite",
        config=True,
        help="SQLAlchemy URL of the ledger of leases; its folder is made if missing. SQLite or PostgreSQL.",
    )
    inventory = Unicode(
        "nvml",
        config=True,
        help="Where the GPUs are read: `nvml`, or the path of a box file that describes simulated ones.",
    )
    device_mode = CaselessStrEnum(
        ["auto", "cdi", "nvidia", "none"],
        "auto",
        config=True,
        help="""How Docker is given the GPUs: `cdi`; `nvidia`, the legacy hook; `none`, not at all
        (simulation); `auto` takes what `docker info` shows.""",
    )
    strategy = Unicode(
        "",
        config=True,
        help="""Which free slot is taken: `pack` fills the fullest GPU first, so that whole GPUs stay
        whole; `least_allocated` spreads. Empty: `gpu_allocation.strategy` of the limits file, else
        `pack`.""",
    )
    accounts = Unicode(
        "host",
        config=True,
        help="Where users have their UID and home: `host` (the machine's own), or a passwd-format file.",
    )
    login_name = CallableTrait(
        None,
        allow_none=True,
        config=True,
        help="""A function from the Hub's user name to the login name on this machine, where they
        differ: the Hub lowercases names, and AIME's tools go by the login.""",
    )
    min_uid = Integer(1000, config=True, help="Accounts below this UID (root, system accounts) are refused.")
    supplementary_groups = List(
        Unicode(),
        ["video"],
        config=True,
        help="Groups of the host that a member keeps inside her container. Never add docker: it is root.",
    )
    admin_groups = List(
        Unicode(),
        ["ds01-admin"],
        config=True,
        help="""Groups of the host whose members may on the service's Unix socket what root may: see and stop
        everybody's servers, and take GPUs out of use. Empty: root alone.""",
    )
    mount_roots = List(
        Unicode(),
        ["{home}"],
        config=True,
        help="""Directories below which mounts may lie, after symlinks are resolved; `{home}`,
        `{username}` and `{uid}` are filled in. Add shared ones, e.g. `/srv/datasets`.""",
    )
    network_name = Unicode(
        "ds01",
        config=True,
        help="Docker network of the servers; made if missing, containers apart from each other.",
    )
    docker_host = Unicode(
        "", config=True, help="Docker's address, `unix://…`. Empty: `$DOCKER_HOST`, else Docker's default."
    )
    docker_command = Union(
        [Unicode(), List(Unicode())],
        default_value="docker",
        config=True,
        help="The command that builds images: a Docker CLI with BuildKit (20.10, or newer with buildx).",
    )
    docker_pool_size = Integer(
        16,
        min=1,
        config=True,
        help="""How many short Docker calls run at once, and how many starts and ends of containers beside
        them. One slow start blocks nobody else.""",
    )
    build_pool_size = Integer(2, min=1, config=True, help="How many images are built at once.")
    build_timeout_seconds = Float(3600, config=True, help="How long a build may take before it is ended.")
    build_log_dir = Unicode(
        "/var/lib/ds01/builds",
        config=True,
        help="""Where the log of each build is kept, for `history_days`; made, for root alone, if missing.
        `ds01 image log` shows one.""",
    )
    image_max_age_days = Integer(
        0,
        min=0,
        config=True,
        help="""After how many days without use the service removes a built image; 0 is never. What a
        container or a profile needs always stays; so does what a start may be about to use.""",
    )
    image_disk_budget = Unicode(
        "",
        config=True,
        help="""How much disk all built images may take, e.g. `200g`; beyond it the service removes those
        that were used longest ago. Each counts without the layers that it shares with other images, as
        in `docker system df -v`. Empty: any. Where `profile_list` is a function, nobody but the Hub knows
        what profiles need, and only `image_max_age_days` counts.""",
    )
    build_cache_budget = Unicode(
        "",
        config=True,
        help="""How much disk Docker's build cache may take besides the images, e.g. `50g`; beyond it the
        service removes what builds used longest ago, downloaded packages among it. Empty: as Docker itself
        has it. The cache is Docker's, so that of other people's builds counts as well.""",
    )
    ca_bundle = Unicode(
        "", config=True, help="CA certificates (PEM) that builds trust; a mount, never in the image."
    )
    pip_config = Unicode("", config=True, help="A pip.conf for builds; a mount, never in the image.")
    apt_config = Unicode("", config=True, help="An apt.conf for builds; a mount, never in the image.")
    build_network = Unicode(
        "",
        config=True,
        help="""Network of builds (`docker build --network`): `default`, `host` or `none`. Empty: Docker's,
        default bridge, on which `hub_config/ds01-build-network` keeps builds from the Hub and from
        containers.""",
    )
    build_cgroup_parent = Unicode(
        "",
        config=True,
        help="""A systemd slice, or the path of a cgroup, below which all that builds run is kept, e.g.
        `ds01-build.slice`, which stands in hub_config and limits memory, CPUs and processes of all builds
        together. It must be there, Docker be 23.0 or newer, and `docker_command` build with buildx (0.11.1 or
        newer): without these, Docker ignores it, and nothing is built. Empty: Docker's own cgroup, without
        limits, so that only `build_pool_size` bounds what builds take.""",
    )
    http_proxy = Unicode(
        "",
        config=True,
        help="""The proxy through which builds fetch http URLs, `http://[user:password@]host:port`. It is in
        no image, no history and no argument list; but what a build runs has it in its environment, so
        students can read it, and BuildKit's own record of builds has it, which root can read. Docker's
        downloads of base images go as dockerd is set.""",
    )
    https_proxy = Unicode("", config=True, help="The same for https URLs, which most packages have.")
    no_proxy = Unicode(
        "", config=True, help="Hosts that builds reach without the proxies, as in `localhost,.example.org`."
    )
    image_labels = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        config=True,
        help="""Labels that each image gets besides ours, e.g. `{"org.example.cost-centre": "4711"}`; no comma
        in a value, no name of AIME's (`aime.mlc.…`). Other labels give other images.""",
    )
    registry = Unicode(
        "",
        config=True,
        help="""The registry that base images come from where their names have none, `host[:port][/path]`.
        An image that was downloaded gets the catalog's name. Empty: Docker Hub.""",
    )
    registry_login = Unicode(
        "",
        config=True,
        help="""A file like Docker's `config.json` with the logins for registries, readable for root alone; it
        is read at each download, also for an image that a student names. Empty: what `docker login` left for
        the user that runs the Hub.""",
    )
    pull_policy = CaselessStrEnum(
        ["ifnotpresent", "always", "never"],
        "ifnotpresent",
        config=True,
        help="""When base images are downloaded: `ifnotpresent`, if they are not here; `always`, at each build
        if the registry has a newer one, while one that is here serves where the registry does not answer;
        `never`, so that an admin runs `docker pull`.""",
    )
    runtime_image = Unicode(
        "",
        config=True,
        help="""An image with a relocatable Python (3.10 or newer) at /opt/python, copied into base
        images whose own Python is too old or missing. Empty: such bases are refused by name.""",
    )
    use_cases = Dict(
        {name: list(packages) for name, packages in DEFAULT_USE_CASES.items()},
        config=True,
        help="Packages of each use case, by its name on the form.",
    )
    base_packages = List(
        Unicode(), list(DEFAULT_BASE_PACKAGES), config=True, help="Python packages that every image gets."
    )
    base_system_packages = List(
        Unicode(),
        list(DEFAULT_BASE_SYSTEM_PACKAGES),
        config=True,
        help="Debian packages that every image gets.",
    )
    maintainer = Unicode("DS01", config=True, help="The label aime.mlc.MAINTAINER of the images; no comma.")
    shared_containers_block = Bool(
        False,
        config=True,
        help="""Whether a container that somebody gave all GPUs (`--gpus all`) blocks every slot. Off:
        one such container would shut the whole lab out; it is logged instead.""",
    )
    slice_pattern = Unicode(
        "ds01-{group}.slice",
        config=True,
        help="The cgroup parent of containers; today's DS01 uses `ds01-{group}-{user}.slice`.",
    )
    start_deadline_seconds = Float(
        300,
        config=True,
        help="""How long a start may take from the lease until Jupyter answers, before the lease expires;
        more than c.DS01Spawner.http_timeout.""",
    )
    queue_limit = Integer(
        50,
        min=0,
        config=True,
        help="""How many starts may wait for a GPU at once; 0 turns waiting off, so that a start for which
        nothing is free is refused at once. Whatever is set, at most half of the Hub's
        `concurrent_spawn_limit` wait: who waits counts there, and the others must still be able to start.""",
    )
    queue_patience = Float(
        600,
        min=0,
        config=True,
        help="""For how many seconds others may pass a start that waits and cannot be served yet, as one
        that needs two slots where one is free. From then on slots are kept for it as they come free.""",
    )
    queue_timeout_seconds = Float(
        7200, min=0, config=True, help="How long a start may wait for a GPU before it is given up."
    )
    socket_path = Unicode(
        "/run/ds01/ds01.sock",
        config=True,
        help="""The Unix socket on which the service answers `ds01` for everybody with an account on this
        machine. A lock beside it (`.lock`) keeps two services from running at once; its folder is made if
        missing.""",
    )
    service_url = Unicode(
        "",
        config=True,
        help="""Where the service answers HTTP when the Hub does not start it, such as
        `http://127.0.0.1:10101`; give the Hub the same as the `url` of the service `ds01`. Empty: not at all,
        and there is no JSON, no extension and no `metrics` of the service. One that the Hub starts takes its
        `url` from there. See docs/service.md.""",
    )
    service_interval_seconds = Float(
        60,
        min=0.1,
        config=True,
        help="""How often the service looks at everything, besides what Docker's events tell it: reads the
        GPUs, compares ledger, Docker and Hub, and sees what servers do. An idle server is found so by several
        of these looks in a row (`idle_detection_window` of the limits file).""",
    )
    inventory_max_age_seconds = Float(
        300,
        config=True,
        help="""How old the service's last reading of the GPUs may be. Older, and no GPU is handed out.""",
    )
    show_user_names = Bool(
        False,
        config=True,
        help="""Whether everybody who may enter the service reads there who has which GPU and who waits.
        Off: those who see everybody's servers at the Hub do, which is admins; all others read only what is
        free and what is their own.""",
    )
    history_days = Integer(
        90, min=1, config=True, help="How many days ended leases and their history are kept."
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._opening = threading.Lock()
        self._core: Core | None = None

    @validate("image_disk_budget", "build_cache_budget")
    def _check_size(self, proposal: Any) -> str:
        if proposal["value"]:
            try:
                parse_bytes(proposal["value"])
            except ValueError as exc:
                raise TraitError(f"{proposal['trait'].name}: {exc}") from exc
        return str(proposal["value"])

    def log_in_as(self, user_name: str) -> str:
        """Return the login name of a Hub user."""
        return user_name if self.login_name is None else str(self.login_name(user_name))

    @cached_property
    def engine(self) -> DockerEngine:
        """The one Docker client of the process."""
        return DockerEngine(
            docker_host=self.docker_host,
            # Both of the spawner's pools.
            pool_size=2 * self.docker_pool_size,
            registry=self.registry,
            registry_login=self.registry_login,
        )

    @cached_property
    def builder(self) -> Builder:
        """What builds images, as the settings say at the first call."""
        command = self.docker_command
        return Builder(
            docker_command=shlex.split(command) if isinstance(command, str) else list(command),
            docker_host=self.docker_host,
            ca_bundle=self.ca_bundle,
            pip_config=self.pip_config,
            apt_config=self.apt_config,
            build_network=self.build_network,
            proxies={name: getattr(self, name) for name in PROXIES},
            cgroup_parent=self.build_cgroup_parent,
            timeout=timedelta(seconds=self.build_timeout_seconds),
        )

    @cached_property
    def bases(self) -> BaseSupply:
        """What gives base images, as the settings say at the first call."""
        timeout = timedelta(seconds=self.build_timeout_seconds)
        return BaseSupply(engine=self.engine, policy=self.pull_policy, timeout=timeout)

    @cached_property
    def build_logs(self) -> BuildLogs:
        """Where the logs of builds are kept."""
        return BuildLogs(Path(self.build_log_dir))

    @cached_property
    def device_hand_over(self) -> str:
        """`cdi`, `nvidia` or `none`."""
        return self.engine.device_mode() if self.device_mode == "auto" else str(self.device_mode)

    def find_account(self, login: str) -> Account:
        """Return the account that a login's servers run as."""
        groups = self.supplementary_groups
        return find_account(self.accounts, login, min_uid=self.min_uid, groups=groups)

    def find_login(self, uid: int) -> str:
        """Return the login of a UID, "" for one without an account."""
        return find_login(self.accounts, uid)

    def is_admin(self, login: str) -> bool:
        """Whether a login is in one of the admins' groups."""
        return not groups_of(self.accounts, login).isdisjoint(self.admin_groups)

    def may_use_docker(self, login: str) -> bool:
        """Whether a login is in the group that may use Docker, and so is root."""
        return "docker" in groups_of(self.accounts, login)

    def read_inventory(self) -> Inventory:
        """Read the GPUs from where the settings say."""
        if self.inventory == "nvml":
            return nvml.read_inventory()
        return box.read_box(Path(self.inventory))

    def read_uses(self) -> tuple[SlotUse, ...]:
        """Read how each slot is used now."""
        if self.inventory == "nvml":
            return nvml.read_uses()
        return box.read_uses(Path(self.inventory))

    @property
    def core(self) -> Core:
        """The use cases on this site's adapters; the first call opens the ledger, which may block."""
        with self._opening:
            if self._core is None:
                self._core = self._open()
            return self._core

    def _open(self) -> Core:
        ledger = Ledger(self.ledger_url)
        offers = Offers(
            ledger=ledger,
            inventory_max_age=timedelta(seconds=self.inventory_max_age_seconds),
            read_catalog=partial(read_catalog, self.catalog_file, SEARCH_PATHS),
            read_limits=partial(read_limits, self.limits_file),
            find_account=self.find_account,
            open_mounts=partial(open_mounts, roots=self.mount_roots),
            architecture=self.architecture,
            strategy=self.strategy,
        )
        leases = Leases(
            ledger=ledger,
            engine=self.engine,
            offers=offers,
            owner=processes.own_process(),
            is_alive=processes.is_alive,
            start_deadline_seconds=self.start_deadline_seconds,
            queue_patience=timedelta(seconds=self.queue_patience),
            queue_limit=self.queue_limit,
            longest_wait=timedelta(seconds=self.queue_timeout_seconds + 60),
            shared_containers_block=self.shared_containers_block,
        )
        self_test = SelfTest(
            ledger=ledger, engine=self.engine, leases=leases, device_mode=lambda: self.device_hand_over
        )
        lifetimes = Lifetimes(
            ledger=ledger,
            engine=self.engine,
            offers=offers,
            leases=leases,
            read_uses=self.read_uses,
            interval=timedelta(seconds=self.service_interval_seconds),
        )
        upkeep = Upkeep(
            ledger=ledger,
            engine=self.engine,
            offers=offers,
            leases=leases,
            read_inventory=self.read_inventory,
            history=timedelta(days=self.history_days),
        )
        admin = Admin(ledger=ledger, engine=self.engine, offers=offers, leases=leases)
        images = self._images(ledger)
        store = self._image_store(ledger, images, offers)
        return Core(
            offers=offers,
            prospects=Prospects(ledger=ledger, leases=leases, queues=self.queue_limit > 0),
            images=images,
            image_store=store,
            previews=Previews(images=images, engine=self.engine),
            leases=leases,
            self_test=self_test,
            lifetimes=lifetimes,
            servers=Servers(ledger=ledger, offers=offers, leases=leases, lifetimes=lifetimes),
            upkeep=upkeep,
            admin=admin,
            adoptions=Adoptions(engine=self.engine, ledger=ledger),
        )

    def _image_store(self, ledger: Ledger, images: Images, offers: Offers) -> ImageStore:
        days, budget, cache = self.image_max_age_days, self.image_disk_budget, self.build_cache_budget
        # Who waits for a GPU has her image already, and no container yet.
        longest_start = timedelta(seconds=self.queue_timeout_seconds + self.start_deadline_seconds)
        return ImageStore(
            engine=self.engine,
            ledger=ledger,
            images=images,
            offers=offers,
            bounds=Bounds(
                max_age=timedelta(days=days) if days else None,
                budget=parse_bytes(budget) if budget else None,
                grace=timedelta(hours=1) + longest_start,
            ),
            build_cache_budget=parse_bytes(cache) if cache else None,
        )

    def _images(self, ledger: Ledger) -> Images:
        return Images(
            engine=self.engine,
            builder=self.builder,
            ledger=ledger,
            logs=self.build_logs,
            bases=self.bases,
            hub_version=jupyterhub.__version__,
            runtime_image=self.runtime_image,
            base_packages=self.base_packages,
            base_system_packages=self.base_system_packages,
            use_cases=self.use_cases,
            labels=self.image_labels,
            maintainer=self.maintainer,
            pool_size=self.build_pool_size,
        )

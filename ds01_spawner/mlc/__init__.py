"""The AIME contract: the names, labels and create arguments that make a container one of AIME's.

`mlc-open`, `mlc list`, `mlc stop` and the others, unchanged, work on what `create_kwargs` describes.
No label of a container is named anywhere else. Every value is a plain string, number, list or dict,
as docker-py's low-level `create_container` and `create_host_config` take them.
"""

from .names import (
    BASE_IMAGE_LABEL,
    CUSTOM_IMAGE_LABEL,
    DATA,
    HOST_NETWORK,
    LABEL,
    LEASE_LABEL,
    LOOK_LABEL,
    LOOK_NAME,
    MAINTAINER_ID_LABEL,
    MAINTAINER_LABEL,
    MANAGED_LABEL,
    MLC_VERSION,
    MODELS,
    WORKSPACE,
    container_name,
    image_labels,
    image_name,
    is_name,
    is_project_name,
    own_image_name,
    project_name,
    refuse_name,
)
from .plan import ContainerPlan, create_kwargs, device_requests, fingerprint, labels, look_labels
from .reading import describe_labels, from_inspect, from_list, is_shown_by_aime, pinned_devices

__all__ = [
    "BASE_IMAGE_LABEL",
    "CUSTOM_IMAGE_LABEL",
    "DATA",
    "HOST_NETWORK",
    "LABEL",
    "LEASE_LABEL",
    "LOOK_LABEL",
    "LOOK_NAME",
    "MAINTAINER_ID_LABEL",
    "MAINTAINER_LABEL",
    "MANAGED_LABEL",
    "MLC_VERSION",
    "MODELS",
    "WORKSPACE",
    "ContainerPlan",
    "container_name",
    "create_kwargs",
    "describe_labels",
    "device_requests",
    "fingerprint",
    "from_inspect",
    "from_list",
    "image_labels",
    "image_name",
    "is_name",
    "is_project_name",
    "is_shown_by_aime",
    "labels",
    "look_labels",
    "own_image_name",
    "pinned_devices",
    "project_name",
    "refuse_name",
]

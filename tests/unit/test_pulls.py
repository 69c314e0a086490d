"""Where a base image is asked for, what is told of its download, and what is said when there is none."""

from __future__ import annotations

import pytest

from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.adapters.engine.pull_words import PullProgress, explain_pull
from ds01_spawner.errors import ConfigBroken, ImageFailed, RegistryUnavailable

DIGEST = f"sha256:{'0f' * 32}"
LAB = "registry.lab:5000/mirror"


@pytest.mark.parametrize(
    ("reference", "remote"),
    [
        ("aimehub/pytorch:2.8", f"{LAB}/aimehub/pytorch:2.8"),
        ("ubuntu", f"{LAB}/ubuntu"),
        ("docker.io/aimehub/pytorch:2.8", f"{LAB}/aimehub/pytorch:2.8"),
        (f"aimehub/pytorch@{DIGEST}", f"{LAB}/aimehub/pytorch@{DIGEST}"),
        ("nvcr.io/nvidia/pytorch:25.01", "nvcr.io/nvidia/pytorch:25.01"),
        ("localhost/mine:1", "localhost/mine:1"),
        ("registry:5000/mine:1", "registry:5000/mine:1"),
    ],
)
def test_an_image_without_a_registry_in_its_name_is_asked_of_the_sites(reference: str, remote: str) -> None:
    assert DockerEngine(registry=LAB).remote_name(reference) == remote
    assert DockerEngine().remote_name(reference) == reference


def test_only_a_digest_keeps_the_name_of_the_sites_registry() -> None:
    engine = DockerEngine(registry=LAB)
    assert engine.local_name("aimehub/pytorch:2.8") == "aimehub/pytorch:2.8"
    assert engine.local_name(f"aimehub/pytorch@{DIGEST}") == f"{LAB}/aimehub/pytorch@{DIGEST}"
    assert engine.local_name(DIGEST) == DIGEST


@pytest.mark.parametrize("registry", ["https://registry.lab", "registry.lab:5000/", "lab/../x y", "-p a"])
def test_a_registry_that_is_none_is_the_sites_mistake(registry: str) -> None:
    with pytest.raises(ConfigBroken) as caught:
        DockerEngine(registry=registry).remote_name("aimehub/pytorch")
    assert "c.DS01.registry" in caught.value.detail


def layer(name: str, status: str, current: int = 0, total: int = 0) -> dict[str, object]:
    detail = {"current": current * 10**6, "total": total * 10**6} if total else {}
    return {"id": name, "status": status, "progressDetail": detail}


def test_a_download_is_told_in_tenths_of_what_is_known() -> None:
    progress = PullProgress()
    told = [
        progress.read(event)
        for event in (
            {"status": "Pulling from aimehub/pytorch", "id": "2.8"},
            layer("old", "Already exists"),
            layer("a", "Pulling fs layer"),
            layer("b", "Pulling fs layer"),
            layer("a", "Downloading", 1, 200),
            layer("a", "Downloading", 30, 200),
            layer("a", "Downloading", 39, 200),
            layer("b", "Downloading", 300, 300),
            layer("a", "Verifying Checksum"),
            layer("a", "Download complete"),
            layer("a", "Extracting", 10, 200),
            {"status": "Digest: sha256:0f"},
        )
    ]
    assert [sentence for sentence in told if sentence] == [
        "Downloaded 30 of at least 200 MB of the base image.",
        "Downloaded 339 of 500 MB of the base image.",
        "Downloaded all 500 MB of the base image; unpacking it.",
    ]


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        (
            "manifest for lab:5/x:1 not found: manifest unknown: manifest unknown",
            ImageFailed,
            "has no base image",
        ),
        (
            "pull access denied for x, repository does not exist or may require 'docker login': denied: "
            "requested access to the resource is denied",
            ImageFailed,
            "has no base image x:1, or gives it to nobody without a login",
        ),
        ('Head "http://lab:5/v2/x/manifests/1": no basic auth credentials', ImageFailed, "registry_login"),
        ("unauthorized: authentication required", ImageFailed, "does not take this server's login"),
        (
            'Get "http://lab:5/v2/": dial tcp 1.2.3.4:5: connect: connection refused',
            RegistryUnavailable,
            "later",
        ),
        (
            'Get "https://lab:5/v2/": dial tcp: lookup lab on 1.2.3.4:53: no such host',
            ImageFailed,
            "There is no registry lab:5",
        ),
        ("dial tcp: lookup lab on 1.2.3.4:53: server misbehaving", RegistryUnavailable, "does not answer"),
        ('Get "https://lab:5/v2/": net/http: TLS handshake timeout', RegistryUnavailable, "does not answer"),
        ("received unexpected HTTP status: 503 Service Unavailable", RegistryUnavailable, "does not answer"),
        (
            'Get "https://lab:5/v2/": tls: failed to verify certificate: x509: certificate signed by unknown '
            "authority",
            RegistryUnavailable,
            "does not trust",
        ),
        ("toomanyrequests: You have reached your pull rate limit.", ImageFailed, "in some hours"),
        (
            "failed to register layer: write /opt/x: no space left on device",
            ImageFailed,
            "The disk of the server is too full",
        ),
        (
            "invalid reference format: repository name must be lowercase",
            ImageFailed,
            "is not the name of an image",
        ),
        ("something new", ImageFailed, "could not be downloaded"),
    ],
)
def test_what_docker_says_of_a_pull_becomes_a_sentence_with_what_to_do(
    said: str, error: type[ImageFailed], words: str
) -> None:
    explained = explain_pull("x:1", "lab:5/x:1", said)
    assert type(explained) is error
    assert words in explained.message
    assert "x:1" in explained.message
    assert said in explained.detail

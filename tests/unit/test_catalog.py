"""Which base image a request means, in both formats of AIME's catalog."""

from pathlib import Path

import pytest

from ds01_spawner.catalog import (
    ARCHITECTURES,
    SEARCH_PATHS,
    fallback,
    frameworks,
    is_rocm,
    parse_catalog,
    resolve,
)
from ds01_spawner.errors import CatalogBroken, ConfigBroken, UnknownFramework
from ds01_spawner.model import CatalogEntry

DATA = Path(__file__).parent.parent / "data"
V1 = parse_catalog((DATA / "ml_images.v1.repo").read_text())
V2 = parse_catalog((DATA / "ml_images.v2.repo").read_text())


def test_first_format_has_one_bare_architecture() -> None:
    assert V1[0] == CatalogEntry(
        framework="Tensorflow",
        version="2.14.0",
        architectures=("CUDA_ADA",),
        image="lab/tensorflow-2.14.0-cuda11.8",
    )
    assert len(V1) == 7


def test_second_format_has_several_architectures_in_brackets() -> None:
    assert V2[5].architectures == ("CUDA_ADA", "CUDA_AMPERE")
    assert len(V2) == 11


def test_both_formats_may_stand_in_one_file() -> None:
    entries = parse_catalog("Pytorch, 2.0, CUDA, a/b\nPytorch, 1.0, [CUDA;ROCM5], c/d\n")
    assert [entry.architectures for entry in entries] == [("CUDA",), ("CUDA", "ROCM5")]


def test_reserved_fields_spaces_empty_lines_comments_and_windows_line_ends_are_ignored() -> None:
    text = "\ufeff# ours\r\n\r\n Pytorch,2.0 , [ CUDA ; ROCM5 ] ,a/b:1 , reserved, x\r\n"
    assert parse_catalog(text) == (
        CatalogEntry(framework="Pytorch", version="2.0", architectures=("CUDA", "ROCM5"), image="a/b:1"),
    )


@pytest.mark.parametrize(
    "line",
    [
        "Pytorch, 2.0, CUDA",
        "Pytorch; 2.0; CUDA; a/b",
        ", 2.0, CUDA, a/b",
        "Pytorch, , CUDA, a/b",
        "Pytorch, 2.0 final, CUDA, a/b",
        "Pytorch, 2.0, , a/b",
        "Pytorch, 2.0, [], a/b",
        "Pytorch, 2.0, [CUDA, a/b",
        "Pytorch, 2.0, [CUDA;], a/b",
        "Pytorch, 2.0, CUDA ADA, a/b",
    ],
)
def test_bad_line_is_named_with_its_number_and_text(line: str) -> None:
    with pytest.raises(CatalogBroken) as broken:
        parse_catalog(f"Pytorch, 1.0, CUDA, a/b\n{line}\n")
    assert "line 2" in str(broken.value)
    assert line in str(broken.value)


@pytest.mark.parametrize(
    "image",
    [
        "",
        "Lab/Pytorch",
        "lab/py torch",
        "lab/pytorch:",
        "lab/pytorch:1;touch x",
        "-lab/pytorch",
        "lab//pytorch",
        "lab/pytorch@sha256:12",
        "https://example.org/x",
        "lab/" + "x" * 600,
    ],
)
def test_image_that_docker_would_not_take_is_refused(image: str) -> None:
    with pytest.raises(CatalogBroken, match="is not the name of a Docker image"):
        parse_catalog(f"Pytorch, 2.0, CUDA, {image}")


@pytest.mark.parametrize(
    "image",
    [
        "pytorch",
        "lab/a_b__c-d.e:1.0-x_Y",
        "localhost:5000/a/b/c",
        "a/b@sha256:" + "0a" * 32,
        "h.org/a:1@sha256:" + "f" * 64,
    ],
)
def test_image_that_docker_takes_is_kept_as_written(image: str) -> None:
    assert parse_catalog(f"Pytorch, 2.0, CUDA, {image}")[0].image == image


def test_catalog_without_any_entry_is_broken() -> None:
    with pytest.raises(CatalogBroken, match="empty"):
        parse_catalog("# nothing\n\n")


def test_exact_version_is_found_without_a_warning() -> None:
    base = resolve(V2, "Pytorch", "2.8.0", "CUDA_ADA")
    assert (base.image, base.version, base.warning) == ("lab/pytorch-2.8.0-cuda12.6.3", "2.8.0", "")
    assert (base.framework, base.architecture) == ("Pytorch", "CUDA_ADA")


@pytest.mark.parametrize("name", ["Pytorch", "pytorch", "PyTorch", "PYTORCH", "torch", " py-torch "])
def test_framework_is_found_in_any_case_and_by_its_short_name(name: str) -> None:
    assert resolve(V2, name, "2.7.1", "CUDA_AMPERE").framework == "Pytorch"


@pytest.mark.parametrize(
    ("name", "framework"), [("tf", "Tensorflow"), ("TensorFlow", "Tensorflow"), ("mxnet", "Mxnet")]
)
def test_other_frameworks_have_their_short_names_too(name: str, framework: str) -> None:
    assert resolve(V2, name).framework == framework


@pytest.mark.parametrize("version", ["", "latest"])
def test_no_version_means_the_newest_for_that_architecture(version: str) -> None:
    assert resolve(V2, "pytorch", version, "CUDA_BLACKWELL").version == "2.9.1"
    assert resolve(V2, "pytorch", version, "CUDA_BLACKWELL").warning == ""


def test_newest_is_the_highest_number_and_not_the_first_line() -> None:
    assert resolve(V2, "tensorflow", "", "CUDA_ADA").version == "2.16.1"
    assert resolve(V2, "pytorch", "", "CUDA_AMPERE").version == "2.10.0-nvidia"


def test_same_release_keeps_the_order_of_the_file() -> None:
    assert resolve(V2, "pytorch", "", "CUDA_ADA").version == "2.8.0-aime"


def test_prerelease_stands_below_its_release_and_words_below_every_number() -> None:
    entries = parse_catalog(
        "P, nightly, CUDA, a/n\nP, 1.14.0a-nvidia, CUDA, a/a\nP, 1.14.0, CUDA, a/r\nP, 1.9, CUDA, a/o\n"
    )
    assert frameworks(entries) == (("P", ("1.14.0", "1.14.0a-nvidia", "1.9", "nightly")),)


def test_unknown_version_falls_back_to_the_newest_with_a_warning() -> None:
    base = resolve(V2, "torch", "9.9", "CUDA_ADA")
    assert base.version == "2.8.0-aime"
    assert base.warning == (
        "There is no Pytorch '9.9' for CUDA_ADA, so you get the newest, 2.8.0-aime. "
        "The newest there are: 2.8.0-aime, 2.8.0, 2.1.0-aime, 1.14.0a-nvidia."
    )


def test_version_of_another_architecture_is_unknown_here() -> None:
    assert resolve(V2, "torch", "2.9.1", "CUDA_ADA").version == "2.8.0-aime"


def test_beginning_of_a_version_means_the_newest_that_begins_so() -> None:
    base = resolve(V2, "torch", "2.8", "CUDA_ADA")
    assert (base.version, "2.8.0-aime" in base.warning) == ("2.8.0-aime", True)
    assert resolve(V2, "torch", "2.1.0", "CUDA_AMPERE").version == "2.1.0-aime"


def test_beginning_of_a_version_ends_at_a_dot() -> None:
    assert resolve(V2, "torch", "2.1", "CUDA_AMPERE").version == "2.1.0-aime"


def test_no_architecture_means_any() -> None:
    base = resolve(V2, "torch")
    assert (base.version, base.architecture) == ("2.10.0-nvidia", "CUDA_AMPERE")


def test_architecture_is_taken_in_any_case() -> None:
    assert resolve(V2, "torch", "", "cuda_ada").architecture == "CUDA_ADA"


def test_unknown_framework_is_told_what_there_is() -> None:
    with pytest.raises(UnknownFramework, match=r"'jax'.*Choose one of Pytorch, Tensorflow\."):
        resolve(V2, "jax", "", "CUDA_ADA")


def test_framework_of_other_architectures_is_told_which_have_it() -> None:
    with pytest.raises(UnknownFramework, match="no Mxnet for CUDA_ADA, only for CUDA_AMPERE"):
        resolve(V2, "mxnet", "", "CUDA_ADA")


def test_unknown_architecture_is_told_which_are_known() -> None:
    with pytest.raises(ConfigBroken) as broken:
        resolve(V2, "torch", "", "CUDA_RUBIN")
    assert all(name in str(broken.value) for name in ARCHITECTURES)


def test_architecture_that_only_the_catalog_names_is_known() -> None:
    entries = parse_catalog("Pytorch, 3.0, [CUDA_RUBIN], a/b\n")
    assert resolve(entries, "torch", "", "CUDA_RUBIN").image == "a/b"


def test_first_of_two_equal_lines_wins() -> None:
    entries = parse_catalog("T, 1.15, [CUDA;CUDA_ADA], a/first\nT, 1.15, [CUDA_ADA], a/second\n")
    assert resolve(entries, "t", "1.15", "CUDA_ADA").image == "a/first"
    assert frameworks(entries, "CUDA_ADA") == (("T", ("1.15",)),)


def test_frameworks_are_listed_for_one_architecture_newest_version_first() -> None:
    assert frameworks(V2, "CUDA_ADA") == (
        ("Pytorch", ("2.8.0-aime", "2.8.0", "2.1.0-aime", "1.14.0a-nvidia")),
        ("Tensorflow", ("2.16.1", "2.9.1-nvidia")),
    )
    assert frameworks(V1, "CUDA_AMPERE") == (("Tensorflow", ("2.9.0",)), ("Pytorch", ("2.0.1",)))


@pytest.mark.parametrize("name", ["pytorch", "torch", "tf", "TensorFlow"])
def test_without_a_catalog_a_docker_hub_image_is_taken_with_a_warning(name: str) -> None:
    base = fallback(name, "CUDA_ADA")
    assert base.image in base.warning
    assert base.architecture == "CUDA_ADA"
    assert base.framework in ("Pytorch", "Tensorflow")


@pytest.mark.parametrize(("name", "architecture"), [("mxnet", "CUDA"), ("torch", "ROCM6")])
def test_without_a_catalog_there_is_no_substitute_for_everything(name: str, architecture: str) -> None:
    with pytest.raises(UnknownFramework, match="catalog_file"):
        fallback(name, architecture)


def test_rocm_is_told_from_cuda() -> None:
    assert [name for name in ARCHITECTURES if is_rocm(name)] == ["ROCM5", "ROCM6"]


def test_search_paths_are_absolute_and_name_the_catalog() -> None:
    assert all(path.startswith("/opt/") and path.endswith("/ml_images.repo") for path in SEARCH_PATHS)

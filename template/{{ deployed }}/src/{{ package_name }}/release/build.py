"""Build the image once and push it; from then on it is only known by its digest."""

from dataclasses import dataclass

from .command import run
from .interface import Cloud, CloudError
from .manifest import Manifest, Model, new

PLATFORM = "linux/amd64"  # what both a laptop with another processor and CI must build
MONITORING = "monitoring"  # the target, and how the tag begins, which service.tf keeps


@dataclass(frozen=True)
class Source:
    """What an image is made of."""

    code: str
    model: Model
    target: str

    @property
    def tag(self) -> str:
        """The tag of exactly this code and model, by which a built image is found again."""
        model = f"v{self.model.version}-{self.model.bundle_sha256[:12]}"
        return f"{self.code[:12]}-{self.target}-{model}"


def build(cloud: Cloud, repository: str, source: Source) -> Manifest:
    """Return the manifest of an image of this code and model, built unless it is there already."""
    digest = cloud.image_digest(repository, source.tag)
    if digest is None:
        digest = _push(cloud, repository, source)
    return new(source.model, f"{repository}@{digest}", source.code)


def monitoring(cloud: Cloud, repository: str, code: str) -> str:
    """Return the monitoring image of this code by its digest, built unless it is there already."""
    tag = f"{MONITORING}-{code[:12]}"
    digest = cloud.image_digest(repository, tag)
    if digest is None:
        digest = _build_and_push(cloud, repository, tag, ["--target", MONITORING])
    return f"{repository}@{digest}"


def _push(cloud: Cloud, repository: str, source: Source) -> str:
    options = [
        *("--target", source.target),
        *("--build-arg", f"GIT_SHA={source.code}"),
        *("--build-arg", f"MODEL_VERSION={source.model.version}"),
    ]
    return _build_and_push(cloud, repository, source.tag, options)


def _build_and_push(cloud: Cloud, repository: str, tag: str, options: list[str]) -> str:
    name = f"{repository}:{tag}"
    where = ["--platform", PLATFORM, "--file", "deploy/Dockerfile", "--tag", name]
    run(["docker", "build", *where, *options, "."])
    run(["docker", "push", "--quiet", name])
    digest = cloud.image_digest(repository, tag)
    if digest is None:
        raise CloudError(f"{name} was pushed, but the registry does not know it")
    return digest

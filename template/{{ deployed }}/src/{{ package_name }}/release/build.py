"""Build the image once and push it; from then on it is only known by its digest."""

from dataclasses import dataclass

from .command import run
from .interface import Cloud, CloudError
from .manifest import Manifest, Model, new

PLATFORM = "linux/amd64"  # what both a laptop with another processor and CI must build


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


def _push(cloud: Cloud, repository: str, source: Source) -> str:
    name = f"{repository}:{source.tag}"
    run(words(name, source))
    run(["docker", "push", "--quiet", name])
    digest = cloud.image_digest(repository, source.tag)
    if digest is None:
        raise CloudError(f"{name} was pushed, but the registry does not know it")
    return digest


def words(name: str, source: Source) -> list[str]:
    """Return the command that builds the image."""
    return [
        *("docker", "build", "--platform", PLATFORM, "--file", "deploy/Dockerfile"),
        *("--target", source.target, "--tag", name),
        *("--build-arg", f"GIT_SHA={source.code}"),
        *("--build-arg", f"MODEL_VERSION={source.model.version}"),
        ".",
    ]

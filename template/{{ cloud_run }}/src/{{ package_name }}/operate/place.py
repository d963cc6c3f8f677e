"""Google Cloud's side: the state bucket, Terraform, and what can be looked up by gcloud."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from ..release.command import attempt, run_json
from ..release.variables import variable
from . import github, terraform
from .github import Repository, has_applied, repository
from .steps import Step, succeeds

# Terraform turns on the rest; these it needs to begin.
APIS = ("cloudresourcemanager.googleapis.com", "iam.googleapis.com", "serviceusage.googleapis.com")
LISTS = {
    "service": ("run", "services", "list"),
    "job": ("run", "jobs", "list"),
    "registry": ("artifacts", "repositories", "list"),
    "bucket": ("storage", "buckets", "list"),
    "secret": ("secrets", "list"),
    "account": ("iam", "service-accounts", "list"),
    "scheduled job": ("scheduler", "jobs", "list"),
}
# What no .tfvars may say, and what does.
INSTEAD = {
    "name": "change its default in variables.tf, as docs/deployment.md says",
    "project": "export GCP_PROJECT",
    "region": "export GCP_REGION",
    "environment": "say ENV",
    "github_repository_id": "work in a checkout of the repository that may deploy",
}


def _signed_in() -> bool:
    return succeeds("gcloud", "auth", "print-access-token")


@dataclass(frozen=True)
class Place:
    """One environment in one project, of one repository."""

    environment: str
    project: str
    region: str
    repository: Repository

    @classmethod
    def found(cls, environment: str) -> "Place":
        """Read the project from the environment and the repository from this folder."""
        terraform.refuse_settings(INSTEAD)
        region = variable("GCP_REGION", "europe-west1")
        return cls(environment, variable("GCP_PROJECT"), region, repository())

    @property
    def name(self) -> str:
        """What everything is called, as variables.tf has it."""
        return terraform.called(self.environment)

    @property
    def state(self) -> str:
        """The bucket of Terraform's state."""
        return f"{self.project}-terraform-state"

    @property
    def backend(self) -> list[str]:
        """Where Terraform keeps what it knows of the environment."""
        return [f"bucket={self.state}", f"prefix={self.name}"]

    def foundations(self) -> list[Step]:
        """Return what must exist before Terraform can run."""
        bucket, project = f"gs://{self.state}", f"--project={self.project}"
        create = [
            "gcloud", "storage", "buckets", "create", bucket, project,
            f"--location={self.region}", "--uniform-bucket-level-access",
            "--public-access-prevention",
        ]  # fmt: skip
        keep = ["gcloud", "storage", "buckets", "update", bucket, "--versioning"]
        return [
            Step("APIs that Terraform needs", self._apis_are_on,
                 [["gcloud", "services", "enable", *APIS, project]]),
            Step(f"state bucket {self.state}",
                 lambda: succeeds("gcloud", "storage", "buckets", "describe", bucket),
                 [create, keep]),
        ]  # fmt: skip

    def checks(self) -> list[Step]:
        """Return all that a release needs, with how to mend it."""
        env = f"ENV={self.environment}"
        apply = [["make", "apply", env]]
        return [
            Step("signed in to Google Cloud", _signed_in,
                 [["gcloud", "auth", "login", "--update-adc"]]),
            *self.foundations(),
            *github.checks(self.repository, self.environment),
            Step("trust in this repository's number", self._trusts_repository, apply),
            Step("deployer may be used from GitHub", self._deployer_is_bound, apply),
            Step("service", lambda: bool(self._named("service")), apply),
            Step("variables of the GitHub environment, as applied",
                 partial(has_applied, self.repository, self.environment, self.backend),
                 [["make", "github", env]]),
        ]  # fmt: skip

    def terraform(self, *words: str) -> None:
        """Run Terraform over the environment's own state."""
        given = [
            f"project={self.project}", f"region={self.region}", f"environment={self.environment}",
            f"github_repository_id={self.repository.number}",
        ]  # fmt: skip
        where = {"GCP_PROJECT": self.project, "GCP_REGION": self.region}
        known = github.known(self.repository, self.environment)
        terraform.refuse_elsewhere(self.environment, where, known)
        terraform.run(self.environment, self.backend, given, words, where)

    def survivors(self) -> list[str]:
        """Return what exists still that is called like this environment."""
        return [f"{kind} {name}" for kind in LISTS for name in self._named(kind)]

    def _named(self, kind: str) -> list[str]:
        found = self._list(*LISTS[kind])
        names = [str(each.get("name") or each["metadata"]["name"]) for each in found]
        short = [name.rsplit("/", 1)[-1] for name in names]
        return terraform.among(kind, short, self.environment)

    def _list(self, *words: str) -> Any:
        where = [f"--location={self.region}"] if words[0] in {"artifacts", "scheduler"} else []
        where += [f"--region={self.region}"] if words[0] == "run" else []
        return run_json(["gcloud", *words, *where, f"--project={self.project}", "--format=json"])

    def _apis_are_on(self) -> bool:
        words = ["gcloud", "services", "list", "--enabled", f"--project={self.project}"]
        done = attempt([*words, "--format=value(config.name)"])
        return set(APIS) <= set(done.stdout.split())

    def _trusts_repository(self) -> bool:
        done = attempt(
            ["gcloud", "iam", "workload-identity-pools", "providers", "describe", "github",
             f"--workload-identity-pool={self.name}", "--location=global",
             f"--project={self.project}", "--format=value(attributeCondition)"]
        )  # fmt: skip
        return f"repository_id == '{self.repository.number}'" in done.stdout

    def _deployer_is_bound(self) -> bool:
        account = f"{self.name}-cd@{self.project}.iam.gserviceaccount.com"
        done = attempt(
            ["gcloud", "iam", "service-accounts", "get-iam-policy", account,
             f"--project={self.project}", "--format=json"]
        )  # fmt: skip
        return f"attribute.environment/{self.environment}" in done.stdout

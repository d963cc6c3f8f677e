"""Google Cloud's side: the state bucket, Terraform, and what can be looked up by gcloud."""

import re
import subprocess
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import ProjectError
from ..release.command import attempt, run_json
from ..release.variables import variable
from ..settings import ROOT
from .github import Repository, repository, reviewed
from .steps import Step, succeeds

FOLDER = ROOT / "deploy" / "terraform"
# Terraform turns on the rest; these it needs to begin.
APIS = ("cloudresourcemanager.googleapis.com", "iam.googleapis.com", "serviceusage.googleapis.com")
VARIABLES = ("GCP_WORKLOAD_IDENTITY_PROVIDER", "RELEASE_BUCKET", "IMAGE_REPOSITORY")
LISTS = {
    "service": ("run", "services", "list"),
    "job": ("run", "jobs", "list"),
    "registry": ("artifacts", "repositories", "list"),
    "bucket": ("storage", "buckets", "list"),
    "secret": ("secrets", "list"),
    "account": ("iam", "service-accounts", "list"),
    "scheduled job": ("scheduler", "jobs", "list"),
}


def _signed_in() -> bool:
    return succeeds("gcloud", "auth", "print-access-token")


class TerraformFailedError(ProjectError):
    """Terraform did not do as asked; it has said why."""


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
        region = variable("GCP_REGION", "europe-west1")
        return cls(environment, variable("GCP_PROJECT"), region, repository())

    @property
    def name(self) -> str:
        """What everything is called, as variables.tf has it."""
        text = (FOLDER / "variables.tf").read_text(encoding="utf-8")
        found = re.search(r'variable "name" \{.*?default\s*=\s*"([^"]+)"', text, re.DOTALL)
        return f"{found[1] if found else ''}-{self.environment}"

    @property
    def state(self) -> str:
        """The bucket of Terraform's state."""
        return f"{self.project}-terraform-state"

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
        bootstrap, apply = [["make", "bootstrap", env, "ARGS=--yes"]], [["make", "apply", env]]
        return [
            Step("signed in to Google Cloud", _signed_in,
                 [["gcloud", "auth", "login", "--update-adc"]]),
            *self.foundations(),
            *(Step(f"GitHub environment {name} and its rules",
                   partial(reviewed, self.repository, name), bootstrap)
              for name in ("plan", self.environment)),
            Step("trust in this repository's number", self._trusts_repository, apply),
            Step("deployer may be used from GitHub", self._deployer_is_bound, apply),
            Step("service", lambda: bool(self._named("service")), apply),
            Step("variables of the GitHub environment", self._has_variables,
                 [["make", "github", env]]),
        ]  # fmt: skip

    def terraform(self, command: str, *options: str) -> None:
        """Run Terraform over the environment's own state.

        Raises
        ------
        TerraformFailedError
            It failed.
        """
        backend = [f"-backend-config=bucket={self.state}", f"-backend-config=prefix={self.name}"]
        given = [
            f"-var=project={self.project}", f"-var=region={self.region}",
            f"-var=environment={self.environment}",
            f"-var=github_repository_id={self.repository.number}",
        ]  # fmt: skip
        settings = FOLDER / f"{self.environment}.tfvars"
        if settings.is_file():
            given.append(f"-var-file={settings.name}")
        self._terraform("init", "-reconfigure", "-input=false", *backend)
        self._terraform(command, *given, *options)

    def outputs(self) -> dict[str, dict[str, str]]:
        """Return Terraform's outputs that hold variables."""
        found = run_json(["terraform", f"-chdir={FOLDER}", "output", "-json"])
        return {name: each["value"] for name, each in found.items() if name.endswith("variables")}

    def survivors(self) -> list[str]:
        """Return what exists still that is called like this environment."""
        return [f"{kind} {name}" for kind in LISTS for name in self._named(kind)]

    def _terraform(self, *words: str) -> None:
        done = subprocess.run(["terraform", f"-chdir={FOLDER}", *words], check=False)
        if done.returncode:
            raise TerraformFailedError(f"terraform {words[0]} failed with {done.returncode}")

    def _named(self, kind: str) -> list[str]:
        found = self._list(*LISTS[kind])
        names = [str(each.get("name") or each["metadata"]["name"]) for each in found]
        short = [name.rsplit("/", 1)[-1] for name in names]
        return [name for name in short if self.name in name]

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

    def _has_variables(self) -> bool:
        words = ["gh", "variable", "list", f"--env={self.environment}"]
        done = attempt([*words, f"--repo={self.repository.name}", "--json=name", "--jq=.[].name"])
        return set(VARIABLES) <= set(done.stdout.split())

"""AWS's side: the state bucket, trust in GitHub, and what can be looked up by aws."""

import json
from dataclasses import dataclass
from functools import partial

from ..release.command import attempt, run, run_json
from ..release.variables import variable
from . import github, terraform
from .github import Repository, has_applied, repository
from .steps import Step, succeeds

ISSUER = "token.actions.githubusercontent.com"
NO_CONSTRAINT = "us-east-1"  # the region that refuses to be named when a bucket is made
# What is billed, or would be in the way of a next apply: the command, and where the names are.
LISTS = {
    "bucket": ("s3api list-buckets", "Buckets[].Name"),
    "cluster": ("ecs list-clusters", "clusterArns[]"),
    "load balancer": ("elbv2 describe-load-balancers", "LoadBalancers[].LoadBalancerName"),
    "log": ("logs describe-log-groups", "logGroups[].logGroupName"),
    "network": ("ec2 describe-vpcs", "Vpcs[].Tags[?Key==`Name`].Value[]"),
    "registry": ("ecr describe-repositories", "repositories[].repositoryName"),
    "role": ("iam list-roles", "Roles[].RoleName"),
    "schedule": ("scheduler list-schedules", "Schedules[].Name"),
    "secret": ("secretsmanager list-secrets", "SecretList[].Name"),
    "stream": ("firehose list-delivery-streams", "DeliveryStreamNames[]"),
}
# What no .tfvars may say, and what does.
CHECKOUT = "work in a checkout of the repository that may deploy"
INSTEAD = {
    "name": "change its default in variables.tf, as docs/deployment.md says",
    "region": "export AWS_REGION",
    "environment": "say ENV",
    "github_repository": CHECKOUT,
    "github_owner_id": CHECKOUT,
    "github_repository_id": CHECKOUT,
    "state_bucket": "leave it to `make bootstrap`",
}


@dataclass(frozen=True)
class Place:
    """One environment in one account and region, of one repository."""

    environment: str
    account: str
    region: str
    repository: Repository

    @classmethod
    def found(cls, environment: str) -> "Place":
        """Read the account from whoever is signed in, and the repository from this folder."""
        terraform.refuse_settings(INSTEAD)
        region = variable("AWS_REGION", "eu-west-1")
        account = run(["aws", "sts", "get-caller-identity", "--query=Account", "--output=text"])
        return cls(environment, account.strip(), region, repository())

    @property
    def name(self) -> str:
        """What everything is called, as variables.tf has it."""
        return terraform.called(self.environment)

    @property
    def state(self) -> str:
        """The bucket of Terraform's state; an account has one per project."""
        return f"{terraform.name()}-terraform-state-{self.account}"

    @property
    def backend(self) -> list[str]:
        """Where Terraform keeps what it knows of the environment."""
        key = f"key={self.name}/terraform.tfstate"
        return [f"bucket={self.state}", key, f"region={self.region}"]

    @property
    def issuer(self) -> str:
        """What the account calls GitHub, once it trusts it."""
        return f"arn:aws:iam::{self.account}:oidc-provider/{ISSUER}"

    def foundations(self) -> list[Step]:
        """Return what must exist before Terraform can run."""
        bucket = f"--bucket={self.state}"
        create = self._aws("s3api", "create-bucket", bucket)
        if self.region != NO_CONSTRAINT:
            create.append(f"--create-bucket-configuration=LocationConstraint={self.region}")
        closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy",
                  "RestrictPublicBuckets")  # fmt: skip
        close = ",".join(f"{word}=true" for word in closed)
        return [
            Step(f"state bucket {self.state}",
                 lambda: succeeds(*self._aws("s3api", "head-bucket", bucket)),
                 [create,
                  self._aws("s3api", "put-bucket-versioning", bucket,
                            "--versioning-configuration=Status=Enabled"),
                  self._aws("s3api", "put-public-access-block", bucket,
                            f"--public-access-block-configuration={close}")]),
            Step("the account knows GitHub", self._knows_github,
                 [["aws", "iam", "create-open-id-connect-provider", f"--url=https://{ISSUER}",
                   "--client-id-list=sts.amazonaws.com"]]),
        ]  # fmt: skip

    def checks(self) -> list[Step]:
        """Return all that a release needs, with how to mend it; who asks is signed in."""
        env = f"ENV={self.environment}"
        apply = [["make", "apply", env]]
        return [
            *self.foundations(),
            *github.checks(self.repository, self.environment),
            Step("trust in this repository's number", self._trusts_repository, apply),
            Step("both services", self._has_services, apply),
            Step("variables of the GitHub environment, as applied",
                 partial(has_applied, self.repository, self.environment, self.backend),
                 [["make", "github", env]]),
        ]  # fmt: skip

    def terraform(self, *words: str) -> None:
        """Run Terraform over the environment's own state."""
        here = self.repository
        owner = run_json(["gh", "api", f"repos/{here.name}", "--jq", ".owner.id"])
        given = [
            f"region={self.region}", f"environment={self.environment}",
            f"github_repository={here.name}", f"github_owner_id={owner}",
            f"github_repository_id={here.number}", f"state_bucket={self.state}",
        ]  # fmt: skip
        where = {"AWS_REGION": self.region}
        known = github.known(self.repository, self.environment)
        terraform.refuse_elsewhere(self.environment, where, known)
        terraform.run(self.environment, self.backend, given, words, where)

    def survivors(self) -> list[str]:
        """Return what exists still that is called like this environment."""
        return [f"{kind} {name}" for kind in LISTS for name in self._named(kind)]

    def _named(self, kind: str) -> list[str]:
        command, query = LISTS[kind]
        names = run_json([*self._aws(*command.split()), f"--query={query}"]) or []
        return terraform.among(kind, names, self.environment)

    def _aws(self, service: str, operation: str, *rest: str) -> list[str]:
        return ["aws", service, operation, f"--region={self.region}", "--output=json", *rest]

    def _knows_github(self) -> bool:
        provider = f"--open-id-connect-provider-arn={self.issuer}"
        return succeeds("aws", "iam", "get-open-id-connect-provider", provider)

    def _trusts_repository(self) -> bool:
        role = f"--role-name={self.name}-deploy"
        done = attempt(self._aws("iam", "get-role", role))
        return f'@{self.repository.number}:environment:{self.environment}"' in done.stdout

    def _has_services(self) -> bool:
        done = attempt(
            [*self._aws("ecs", "describe-services", f"--cluster={self.name}", "--services"),
             "live", "candidate"]
        )  # fmt: skip
        found = json.loads(done.stdout)["services"] if done.returncode == 0 else []
        return [each["status"] for each in found] == ["ACTIVE", "ACTIVE"]

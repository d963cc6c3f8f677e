"""moto's AWS in a process of its own, with what it lacks of what the ECS stack uses.

    python tests/aws_server.py PORT

moto keeps a service's new task definition but never ends a deployment: here each completes at once.
The provider reads tags of autoscaling targets, and tags and subscribers of budgets,
and finds in moto's budgets a difference to update: moto has none of these calls.
"""

import json
import sys
from typing import Any

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.budgets.responses import BudgetsResponse
from moto.ecs.models import EC2ContainerServiceBackend, Service
from moto.server import main

tags: dict[str, dict[str, str]] = {}
budget_tags: dict[str, list[dict[str, str]]] = {}
plain_create = EC2ContainerServiceBackend.create_service
plain_update = EC2ContainerServiceBackend.update_service


def create_service(self: EC2ContainerServiceBackend, *words: Any, **named: Any) -> Service:
    """Create, and let the deployment complete."""
    return completed(self, plain_create(self, *words, **named))


def update_service(self: EC2ContainerServiceBackend, service_properties: dict[str, Any]) -> Service:
    """Update, and let the deployment complete."""
    return completed(self, plain_update(self, service_properties))


def completed(self: EC2ContainerServiceBackend, service: Service) -> Service:
    service.running_count, service.pending_count = service.desired_count, 0
    definition = self.describe_task_definition(str(service.task_definition))
    service.task_definition = definition.arn
    for deployment in service.deployments:
        deployment["taskDefinition"] = definition.arn
        deployment["runningCount"], deployment["rolloutState"] = service.desired_count, "COMPLETED"
    return service


def body(response: ApplicationAutoScalingResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(response.body or "{}")
    return found


def list_tags(self: ApplicationAutoScalingResponse) -> str:
    return json.dumps({"Tags": tags.get(body(self)["ResourceARN"], {})})


def tag(self: ApplicationAutoScalingResponse) -> str:
    tags.setdefault(body(self)["ResourceARN"], {}).update(body(self)["Tags"])
    return "{}"


def list_budget_tags(self: BudgetsResponse) -> str:
    return json.dumps({"ResourceTags": budget_tags.get(self._get_param("ResourceARN"), [])})


def tag_budget(self: BudgetsResponse) -> str:
    budget_tags[self._get_param("ResourceARN")] = self._get_param("ResourceTags")
    return "{}"


def subscribers(self: BudgetsResponse) -> str:
    account, name = self._get_param("AccountId"), self._get_param("BudgetName")
    wanted = self._get_param("Notification")["Threshold"]
    notifications = self.backend.budgets[account][name].notifications
    found = next(each for each in notifications if each.details["Threshold"] == wanted)
    return json.dumps({"Subscribers": found.subscribers})


def extend_moto() -> None:
    for owner, name, function in (
        (EC2ContainerServiceBackend, "create_service", create_service),
        (EC2ContainerServiceBackend, "update_service", update_service),
        (ApplicationAutoScalingResponse, "list_tags_for_resource", list_tags),
        (ApplicationAutoScalingResponse, "tag_resource", tag),
        (BudgetsResponse, "list_tags_for_resource", list_budget_tags),
        (BudgetsResponse, "tag_resource", tag_budget),
        (BudgetsResponse, "update_budget", lambda _: "{}"),
        (BudgetsResponse, "describe_subscribers_for_notification", subscribers),
    ):
        setattr(owner, name, function)


if __name__ == "__main__":
    extend_moto()
    main(["-H", "127.0.0.1", "-p", sys.argv[1]])

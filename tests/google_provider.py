"""A stand-in for the google provider: its real schema, and no cloud behind it.

Terraform validates, plans, applies and destroys with it. What only the cloud knows is unknown in a
plan, and invented by an apply. Terraform starts this file; PROVIDER_SCHEMA names the schema.
"""

import json
import os
from pathlib import Path
from typing import Any

import msgpack
import tf.provider
import tf.runner
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc

ADDRESS = "registry.terraform.io/hashicorp/google"
PROJECT = "stub-project"
UNKNOWN = msgpack.ExtType(0, b"\x00")
NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}
NAMING = (
    "name", "account_id", "repository_id", "secret_id", "workload_identity_pool_provider_id",
    "workload_identity_pool_id", "service", "display_name", "member",
)  # fmt: skip
NUMBER = "123456789012"


def block_message(block: dict[str, Any]) -> Any:
    attributes = [
        pb.Schema.Attribute(
            name=name,
            type=json.dumps(a["type"]).encode(),
            required=a["required"],
            optional=a["optional"],
            computed=_computed(a),
        )
        for name, a in sorted(block["attributes"].items())
    ]
    nested = [
        pb.Schema.NestedBlock(
            type_name=name,
            block=block_message(b["block"]),
            nesting=NESTING[b["nesting"]],
            min_items=b["min"],
            max_items=b["max"],
        )
        for name, b in sorted(block["blocks"].items())
    ]
    return pb.Schema.Block(attributes=attributes, block_types=nested)


def _computed(attribute: dict[str, Any]) -> bool:
    return bool(attribute["computed"] or not (attribute["required"] or attribute["optional"]))


def schema_message(block: dict[str, Any]) -> Any:
    return pb.Schema(version=0, block=block_message(block))


def decoded(value: Any) -> Any:
    if value.msgpack:
        return msgpack.unpackb(value.msgpack, raw=False, strict_map_key=False)
    return json.loads(value.json) if value.json else None


def encoded(value: Any) -> Any:
    return pb.DynamicValue(msgpack=msgpack.packb(value))


def planned(value: Any, block: dict[str, Any], prior: Any) -> Any:
    """Fill what the cloud computes: with what it was before, else as unknown."""
    if not isinstance(value, dict):
        return value
    before = prior if isinstance(prior, dict) else {}
    result = dict(value)
    for name, attribute in block["attributes"].items():
        if result.get(name) is None and _computed(attribute):
            result[name] = before[name] if before.get(name) is not None else UNKNOWN
    for name, nested in block["blocks"].items():
        earlier = before.get(name)
        if isinstance(result.get(name), list):
            known = earlier if isinstance(earlier, list) else []
            result[name] = [
                planned(each, nested["block"], known[i] if i < len(known) else None)
                for i, each in enumerate(result[name])
            ]
        else:
            result[name] = planned(result.get(name), nested["block"], earlier)
    return result


def applied(value: Any, block: dict[str, Any], identity: str) -> Any:
    """Invent what is unknown still."""
    if not isinstance(value, dict):
        return value
    result = dict(value)
    for name, attribute in block["attributes"].items():
        if isinstance(result.get(name), msgpack.ExtType):
            result[name] = invented(attribute["type"], name, identity)
    for name, nested in block["blocks"].items():
        if isinstance(result.get(name), list):
            result[name] = [applied(each, nested["block"], identity) for each in result[name]]
        else:
            result[name] = applied(result.get(name), nested["block"], identity)
    return result


def invented(kind: Any, name: str, identity: str) -> Any:
    last = identity.rsplit("/", 1)[-1]
    if kind == "string":
        account = f"{last}@{PROJECT}.iam.gserviceaccount.com"
        known = {
            "id": identity,
            "uri": f"https://{last}-stub.a.run.app",
            "email": account,
            "member": f"serviceAccount:{account}",
            "project": PROJECT,
            "writer_identity": f"serviceAccount:writer-of-{last}",
        }
        return known.get(name, f"stub-{name}")
    if kind in ("number", "bool"):
        return 1 if kind == "number" else False
    if isinstance(kind, list) and kind[0] == "object":
        return {key: invented(each, key, identity) for key, each in kind[1].items()}
    return {} if isinstance(kind, list) and kind[0] == "map" else []


def identity(kind: str, value: dict[str, Any]) -> str:
    name = next((value[key] for key in NAMING if isinstance(value.get(key), str)), "x")
    return f"projects/{PROJECT}/{kind}/{name}"


SCHEMA: dict[str, Any] = json.loads(Path(os.environ["PROVIDER_SCHEMA"]).read_text())
RESOURCES: dict[str, Any] = SCHEMA["resources"]
DATA: dict[str, Any] = SCHEMA["data"]
CAPABLE = pb.ServerCapabilities(plan_destroy=True)


class Servicer(rpc.ProviderServicer):  # type: ignore[misc]
    """Terraform's protocol; its names are not ours."""

    # ruff: noqa: N802, ARG002

    def __init__(self, app: Any) -> None:
        """Take no notice of the application that the runner brings."""

    def GetMetadata(self, request: Any, context: Any) -> Any:
        return pb.GetMetadata.Response(
            server_capabilities=CAPABLE,
            resources=[pb.GetMetadata.ResourceMetadata(type_name=name) for name in RESOURCES],
            data_sources=[pb.GetMetadata.DataSourceMetadata(type_name=name) for name in DATA],
        )

    def GetProviderSchema(self, request: Any, context: Any) -> Any:
        return pb.GetProviderSchema.Response(
            provider=schema_message(SCHEMA["provider"]),
            server_capabilities=CAPABLE,
            resource_schemas={name: schema_message(block) for name, block in RESOURCES.items()},
            data_source_schemas={name: schema_message(block) for name, block in DATA.items()},
        )

    def ValidateProviderConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request: Any, context: Any) -> Any:
        return pb.ConfigureProvider.Response()

    def UpgradeResourceState(self, request: Any, context: Any) -> Any:
        state = pb.DynamicValue(json=request.raw_state.json)
        return pb.UpgradeResourceState.Response(upgraded_state=state)

    def ReadResource(self, request: Any, context: Any) -> Any:
        return pb.ReadResource.Response(new_state=request.current_state)

    def PlanResourceChange(self, request: Any, context: Any) -> Any:
        wanted, prior = decoded(request.proposed_new_state), decoded(request.prior_state)
        state = request.proposed_new_state
        if wanted is not None:
            state = encoded(planned(wanted, RESOURCES[request.type_name], prior))
        return pb.PlanResourceChange.Response(planned_state=state, legacy_type_system=True)

    def ApplyResourceChange(self, request: Any, context: Any) -> Any:
        wanted, state = decoded(request.planned_state), request.planned_state
        if wanted is not None:
            name = identity(request.type_name, wanted)
            state = encoded(applied(wanted, RESOURCES[request.type_name], name))
        return pb.ApplyResourceChange.Response(new_state=state, legacy_type_system=True)

    def ReadDataSource(self, request: Any, context: Any) -> Any:
        value = decoded(request.config) or {}
        for name, attribute in DATA[request.type_name]["attributes"].items():
            if value.get(name) is None:
                found = invented(attribute["type"], name, "stub")
                value[name] = NUMBER if name == "number" else found
        return pb.ReadDataSource.Response(state=encoded(value))

    def GetFunctions(self, request: Any, context: Any) -> Any:
        return pb.GetFunctions.Response()

    def StopProvider(self, request: Any, context: Any) -> Any:
        return pb.StopProvider.Response()


class Application:
    """What the runner asks for the provider's address."""

    def full_name(self) -> str:
        return ADDRESS


if __name__ == "__main__":
    tf.provider.ProviderServicer = Servicer
    tf.runner.run_provider(Application())

"""A stand-in for the google provider: its real schema, and no cloud behind it.

Terraform validates, plans, applies and destroys with it. What only the cloud knows is unknown in a
plan, and invented by an apply. Terraform starts this file; PROVIDER_SCHEMA names the schema.

What is ephemeral or write-only is newer than the messages of PyPI's tf, so it is added to them as
the bytes that protocol 6.10 has for it.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
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
    for attribute in attributes:
        if write_only(attribute.name):
            attribute.MergeFromString(varint(11 << 3) + varint(1))
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


def write_only(name: str) -> bool:
    """Return whether a value is passed on and kept nowhere: the provider ends their names alike."""
    return name.endswith("_wo")


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def nested_field(number: int, content: bytes) -> bytes:
    """Return a field of a message that is a string or a message itself."""
    return varint(number << 3 | 2) + varint(len(content)) + content


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
        if write_only(name):
            result[name] = None
        elif result.get(name) is None and _computed(attribute):
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
EPHEMERAL: dict[str, Any] = SCHEMA.get("ephemeral", {})
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
        told = pb.GetProviderSchema.Response(
            provider=schema_message(SCHEMA["provider"]),
            server_capabilities=CAPABLE,
            resource_schemas={name: schema_message(block) for name, block in RESOURCES.items()},
            data_source_schemas={name: schema_message(block) for name, block in DATA.items()},
        )
        for name, block in EPHEMERAL.items():
            schema = nested_field(2, schema_message(block).SerializeToString())
            told.MergeFromString(nested_field(8, nested_field(1, name.encode()) + schema))
        return told

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
        return pb.ReadDataSource.Response(state=encoded(filled(request, DATA)))

    def GetFunctions(self, request: Any, context: Any) -> Any:
        return pb.GetFunctions.Response()

    def StopProvider(self, request: Any, context: Any) -> Any:
        return pb.StopProvider.Response()


def filled(request: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Return what a data source or an ephemeral resource finds."""
    value: dict[str, Any] = decoded(request.config) or {}
    for name, attribute in known[request.type_name]["attributes"].items():
        if value.get(name) is None and _computed(attribute):
            found = invented(attribute["type"], name, "stub")
            value[name] = NUMBER if name == "number" else found
    return value


def opened(request: Any, _: Any) -> bytes:
    """Open an ephemeral resource; what asks for it has the fields of what asks for data."""
    return nested_field(3, encoded(filled(request, EPHEMERAL)).SerializeToString())


def nothing(_request: Any, _: Any) -> bytes:
    """Answer with an empty message."""
    return b""


def handlers() -> Iterable[tuple[str, Any]]:
    answers: dict[str, Callable[[Any, Any], bytes]] = {
        "ValidateEphemeralResourceConfig": nothing,
        "OpenEphemeralResource": opened,
        "CloseEphemeralResource": nothing,
    }
    for name, answer in answers.items():
        yield (
            name,
            grpc.unary_unary_rpc_method_handler(
                answer, pb.ReadDataSource.Request.FromString, bytes
            ),
        )


def add_to_server(servicer: Any, server: Any) -> None:
    plain_add(servicer, server)
    more = grpc.method_handlers_generic_handler("tfplugin6.Provider", dict(handlers()))
    server.add_generic_rpc_handlers((more,))


class Application:
    """What the runner asks for the provider's address."""

    def full_name(self) -> str:
        return ADDRESS


plain_add = rpc.add_ProviderServicer_to_server

if __name__ == "__main__":
    tf.provider.ProviderServicer = Servicer
    rpc.add_ProviderServicer_to_server = add_to_server
    tf.runner.run_provider(Application())

"""The google provider's schema, read off the classes that cdktn generates from it (on PyPI).

The provider itself is only on HashiCorp's registry. The wheel holds one JavaScript class per
resource, which says for each attribute its type and whether it is required, optional or computed.
"""

import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Block = dict[str, Any]

TYPES: dict[str, Any] = {
    "any": "dynamic", "anyMap": ["map", "string"], "boolean": "bool", "booleanMap": ["map", "bool"],
    "number": "number", "numberList": ["list", "number"], "numberMap": ["map", "number"],
    "string": "string", "stringList": ["list", "string"], "stringMap": ["map", "string"],
}  # fmt: skip
GETTERS = {
    "getBooleanAttribute": "bool", "getListAttribute": ["list", "string"],
    "getNumberAttribute": "number", "getStringAttribute": "string",
}  # fmt: skip
NESTING = {"list": "list", "map": "map", "set": "set", "struct": "single"}
ROOTS = {"TerraformDataSource", "TerraformProvider", "TerraformResource"}

VALUES = re.compile(
    r"\n\s+(\w+): \{\n\s+value: .*?\n\s+isBlock: (\w+),\n\s+type: \"(\w+)\",\n"
    r"\s+storageClassType: \"(\w+)\"",
    re.DOTALL,
)
FLAGS = re.compile(
    r"// (\w+) - computed: (\w+), optional: (\w+), required: (\w+)\n"
    r"(.*?)(?=\n    // \w+ - computed|\Z)",
    re.DOTALL,
)
CLASSES = re.compile(r"\nclass (\w+) extends cdkt\w+\.(\w+) \{(.*?)\n\}", re.DOTALL)
STRUCTS = re.compile(
    r"function (\w+)ToHclTerraform\(struct\) \{.*?const attrs = \{(.*?)\n    \};", re.DOTALL
)
MAIN = re.compile(r"synthesizeHclAttributes\(\) \{\s*const attrs = \{(.*?)\n        \};", re.DOTALL)


def extract(wheel: Path, resources: Iterable[str], data: Iterable[str]) -> dict[str, Any]:
    """Return the schema of the provider and of what is named, with the provider's version."""
    source = zipfile.ZipFile(wheel)
    packed = next(name for name in source.namelist() if name.endswith(".tgz"))
    with tarfile.open(fileobj=io.BytesIO(source.read(packed))) as archive:
        wanted = {
            "provider": "provider",
            **{f"resource {name}": _folder(name) for name in resources},
            **{f"data {name}": f"data-google-{_folder(name)}" for name in data},
        }
        parsed = {}
        for name, folder in wanted.items():
            member = archive.extractfile(f"package/lib/{folder}/index.js")
            assert member, name
            parsed[name] = Generated.read(member.read().decode())
    provider = parsed["provider"].block
    provider["attributes"].pop("alias", None)
    for attribute in provider["attributes"].values():
        attribute.update(computed=False, optional=True, required=False)
    return {
        "version": parsed["provider"].version,
        "provider": provider,
        "resources": _named(parsed, "resource "),
        "data": _named(parsed, "data "),
    }


def _named(parsed: "dict[str, Generated]", kind: str) -> dict[str, Block]:
    return {k.removeprefix(kind): v.block for k, v in parsed.items() if k.startswith(kind)}


def _folder(name: str) -> str:
    return name.removeprefix("google_").replace("_", "-")


@dataclass
class Generated:
    """One generated file: its classes, and what each structure writes to HCL."""

    version: str
    classes: dict[str, tuple[str, str]]
    structs: dict[str, str]
    main: str

    @classmethod
    def read(cls, script: str) -> "Generated":
        main = MAIN.search(script)
        version = re.search(r"providerVersion: '([\d.]+)'", script)
        assert version
        return cls(
            version[1],
            {m[1]: (m[2], m[3]) for m in CLASSES.finditer(script)},
            {m[1].lower(): m[2] for m in STRUCTS.finditer(script)},
            main[1] if main else "",
        )

    @property
    def block(self) -> Block:
        root = next(name for name, (base, _) in self.classes.items() if base in ROOTS)
        return self._block(root, self.main)

    def _block(self, name: str, body: str) -> Block:
        script = self.classes.get(name, ("", ""))[1]
        flags = {m[1]: m.groups()[1:] for m in FLAGS.finditer(script)}
        values = {m[1]: m.groups()[1:] for m in VALUES.finditer(body)}
        single = set(re.findall(r"new \w+OutputReference\(this, \"(\w+)\"", script))
        lists = {m[2]: m[1] for m in re.finditer(r"new (\w+)\(this, \"(\w+)\"", script)}
        found: Block = {"attributes": {}, "blocks": {}}
        for key in flags.keys() | values.keys():
            computed, optional, required, code = flags.get(key, ("false", "true", "false", ""))
            needed = {
                "computed": computed == "true",
                "optional": optional == "true",
                "required": required == "true",
            }
            if key not in values:
                kind = self._computed_type(key, str(code), lists)
                found["attributes"][key] = {"type": kind, **needed}
                continue
            is_block, container, stored = values[key]
            if stored in TYPES:
                kind = TYPES[stored]
                if container == "set" and isinstance(kind, list):
                    kind = ["set", kind[1]]
                found["attributes"][key] = {"type": kind, **needed}
                continue
            nested = self._nested(stored)
            if is_block == "true":
                found["blocks"][key] = {
                    "nesting": NESTING[container],
                    "min": int(needed["required"] and container != "struct"),
                    "max": int(key in single and container == "list"),
                    "block": nested,
                }
            else:
                outer = container if container in {"list", "set"} else "list"
                found["attributes"][key] = {"type": [outer, _object(nested)], **needed}
        return found

    def _nested(self, stored: str) -> Block:
        name = re.sub(r"(List|Map)$", "", stored)
        return self._block(f"{name}OutputReference", self.structs.get(name.lower(), ""))

    def _computed_type(self, key: str, code: str, lists: dict[str, str]) -> Any:
        kind = lists.get(key, "")
        if kind.endswith("StringMap"):
            return ["map", "string"]
        if kind.endswith("List"):
            name = f"{kind.removesuffix('List')}OutputReference"
            known = name in self.classes
            return ["list", _object(self._block(name, "")) if known else "string"]
        getter = re.search(r"this\.(get\w+Attribute)\(", code)
        return GETTERS.get(getter[1] if getter else "", "string")


def _object(block: Block) -> Any:
    fields = {name: attribute["type"] for name, attribute in block["attributes"].items()}
    for name, nested in block["blocks"].items():
        outer = "list" if nested["nesting"] == "single" else nested["nesting"]
        fields[name] = [outer, _object(nested["block"])]
    return ["object", fields]


def save(schema: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(schema, sort_keys=True))

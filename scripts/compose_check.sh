#!/usr/bin/env bash
# Validates docker-compose.yml against the Compose specification's own schema, as its Go module carries it, and
# checks that every file it mounts is there.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jsonschema pyyaml
(cd "$work" && GOFLAGS=-mod=mod go mod download -json github.com/compose-spec/compose-go/v2@v2.16.2 >module.json)
"$work/venv/bin/python" - "$work/module.json" docker-compose.yml <<'PY'
import json, pathlib, sys
import jsonschema, yaml
module, path = sys.argv[1:]
schema = json.loads((pathlib.Path(json.load(open(module))["Dir"]) / "schema" / "compose-spec.json").read_text())
compose = yaml.safe_load(open(path))
errors = [f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
          for error in jsonschema.validators.validator_for(schema)(schema).iter_errors(compose)]
declared = set(compose.get("volumes", {}))
for name, service in compose["services"].items():
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            if not pathlib.Path(source).exists():
                errors.append(f"services.{name}: {source} does not exist")
        elif source not in declared:
            errors.append(f"services.{name}: volume {source} is not declared")
    for other in service.get("depends_on", {}):
        if other not in compose["services"]:
            errors.append(f"services.{name}: depends on {other}, which does not exist")
print("\n".join(errors) or f"{path}: {len(compose['services'])} services, valid")
sys.exit(bool(errors))
PY

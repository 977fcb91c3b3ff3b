"""Have `sio-gateway check-config` look at what `helm template` printed: run in the image, with that on standard input.

A Secret that the chart does not make has to follow there, as `kubectl get secret NAME -o yaml` prints it.
"""

import base64
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

MOUNTS = "/etc/sio-gateway"
documents = [each for each in yaml.safe_load_all(sys.stdin) if each]


def find(kind, name):
    """The object of the input; ends where there is none."""
    for each in documents:
        if (each["kind"], each["metadata"]["name"]) == (kind, name):
            return each
    sys.exit(
        f"the {kind} {name} is not in the input: append it as `kubectl get {kind.lower()} {name} -o yaml` prints it"
    )


def content(volume):
    """The files of a volume by name, as a pod finds them."""
    if "configMap" in volume:
        return find("ConfigMap", volume["configMap"]["name"])["data"]
    kept = find("Secret", volume["secret"]["secretName"])["data"]
    return {item["path"]: base64.b64decode(kept[item["key"]]).decode() for item in volume["secret"]["items"]}


component = "app.kubernetes.io/component"
deployments = [
    each
    for each in documents
    if each["kind"] == "Deployment" and each["metadata"]["labels"].get(component) == "gateway"
]
if len(deployments) != 1:
    sys.exit("the input is not what `helm template` prints for one release of this chart")
pod = deployments[0]["spec"]["template"]["spec"]
variables = {each["name"]: each.get("value", "") for each in pod["containers"][0]["env"]}
with tempfile.TemporaryDirectory() as folder:
    for volume in pod["volumes"]:
        if volume["name"] in {"config", "secrets"}:
            place = Path(folder, volume["name"])
            place.mkdir()
            for file, text in content(volume).items():
                (place / file).write_text(text.replace(MOUNTS, folder), encoding="utf-8")
    told = {
        name: value.replace(MOUNTS, folder)
        for name, value in variables.items()
        if name.startswith("GATEWAY_")
    }
    command = [sys.executable, "-m", "gateway", "check-config"]
    sys.exit(subprocess.run(command, env=os.environ | told, check=False).returncode)

"""Check the output of `helm template` with `sio-gateway check-config`.

Runs in the image and reads the objects from standard input. A Secret that the chart does not create must be
appended there, in the form in which `kubectl get secret NAME -o yaml` prints it.
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
    """Return the object of the input; exits with a sentence if the input lacks it."""
    for each in documents:
        if (each["kind"], each["metadata"]["name"]) == (kind, name):
            return each
    sys.exit(
        f"the {kind} {name} is not in the input: append it in the form of `kubectl get {kind.lower()} {name} -o yaml`"
    )


def content(volume):
    """Return the files of a volume: {name: text}, as in the container."""
    if "configMap" in volume:
        return find("ConfigMap", volume["configMap"]["name"])["data"]
    data = find("Secret", volume["secret"]["secretName"])["data"]
    return {item["path"]: base64.b64decode(data[item["key"]]).decode() for item in volume["secret"]["items"]}


component = "app.kubernetes.io/component"
deployments = [
    each
    for each in documents
    if each["kind"] == "Deployment" and each["metadata"]["labels"].get(component) == "gateway"
]
if len(deployments) != 1:
    sys.exit("the input is not the output of `helm template` for one release of this chart")
pod = deployments[0]["spec"]["template"]["spec"]
variables = {each["name"]: each.get("value", "") for each in pod["containers"][0]["env"]}
with tempfile.TemporaryDirectory() as folder:
    for volume in pod["volumes"]:
        if volume["name"] in {"config", "secrets"}:
            place = Path(folder, volume["name"])
            place.mkdir()
            for file, text in content(volume).items():
                (place / file).write_text(text.replace(MOUNTS, folder), encoding="utf-8")
    settings = {
        name: value.replace(MOUNTS, folder)
        for name, value in variables.items()
        if name.startswith("GATEWAY_")
    }
    command = [sys.executable, "-m", "gateway", "check-config"]
    sys.exit(subprocess.run(command, env=os.environ | settings, check=False).returncode)

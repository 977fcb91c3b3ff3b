"""The chart's Deployment as a pod of podman: the image with the settings, secrets and privileges of the chart.

podman's `kube play` differs from a kubelet. The objects are therefore changed before podman gets them:

- It supports ConfigMap and Deployment, in this order, and hardly any other kind.
- Release 4.3 mounts the content of a Secret without decoding it: the files are written into a folder, which is mounted.
- On the network of the host it publishes no ports.
- Its probes run `curl` in the container, which has no curl: tests send the requests from outside, like a kubelet.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from tests.support.ports import free_port
from tests.support.waiter import TIMEOUT_SECONDS
from tools.chart.rendering import Document, Values, render

KINDS = ("ConfigMap", "Deployment")


def podman() -> str:
    """Return the path of podman; fails with a sentence on how to install it."""
    found = shutil.which("podman")
    assert found is not None, (
        "podman is needed to run the image as the chart deploys it: Debian's packages podman, runc and catatonit"
    )
    return found


class Pod:
    """A pod of the Deployment that the chart renders for some values, on free ports of this machine."""

    def __init__(self, image: str, values: Values) -> None:
        repository, _, tag = image.rpartition(":")
        self._release = f"try{os.getpid()}"
        ports = {"client": free_port(), "ingest": free_port()}
        changed = {
            **values,
            "image": {"repository": repository, "tag": tag},
            "ports": ports,
            # `config.host` rejects a loopback address, because no client could reach a pod that listens there.
            "extraEnv": [{"name": "GATEWAY_HOST", "value": "127.0.0.1"}],
        }
        self.rendered = render(changed, release=self._release)
        self.deployment = self.rendered.one("Deployment")
        (self._spec,) = self.deployment["spec"]["template"]["spec"]["containers"]
        self.url = f"http://127.0.0.1:{ports['client']}"
        self.ingest_url = f"http://127.0.0.1:{ports['ingest']}"
        self._folder = Path(tempfile.mkdtemp(prefix="pod-"))
        self._folder.chmod(0o755)
        self._environment = os.environ | {"CONTAINERS_CONF": str(self._write_limits())}
        self._play()

    @property
    def grace_seconds(self) -> int:
        """The time between SIGTERM and SIGKILL, in seconds."""
        return int(self.deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])

    def probe(self, name: str) -> str:
        """Return the address of a probe (`startup`, `liveness`, `readiness`)."""
        request = self._spec[f"{name}Probe"]["httpGet"]
        port = {each["name"]: each["containerPort"] for each in self._spec["ports"]}[request["port"]]
        return f"http://127.0.0.1:{port}{request['path']}"

    def inspect(self, path: str) -> Any:
        """Return a property of the container from `podman inspect`, such as `.State.ExitCode`."""
        return json.loads(self._run("inspect", self._container, "--format", f"{{{{json {path}}}}}"))

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        return subprocess.run(
            [podman(), "exec", self._container, *command],
            check=False,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )

    def start_stopping(self) -> None:
        """Send SIGTERM and, after the grace period, SIGKILL, as a kubelet does. The container is not restarted."""
        self._stopping = subprocess.Popen(
            [podman(), "stop", "--time", str(self.grace_seconds), self._container],
            env=self._environment,
            stdout=subprocess.DEVNULL,
        )

    def wait_stopped(self) -> int:
        """Wait until the container has ended. Returns its exit status, 137 after SIGKILL."""
        assert self._stopping.wait(self.grace_seconds + TIMEOUT_SECONDS) == 0
        return int(self.inspect(".State.ExitCode"))

    def log(self) -> list[dict[str, Any]]:
        """Return every line so far; fails for a line that is not a JSON object."""
        output = subprocess.run(
            [podman(), "logs", self._container],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=True,
        )
        return [json.loads(line) for line in output.stdout.splitlines()]

    def wait_logged(self, event: str) -> dict[str, Any]:
        """Wait for a line of the log with this event, and return it."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            for line in self.log():
                if line["event"] == event:
                    return line
            assert time.monotonic() < deadline, f"{event} was not logged: {self.log()}"

    def remove(self) -> None:
        """Remove the pod, its volumes and its files."""
        for pod in self._run("pod", "ls", "--format", "{{.Name}}").split():
            if pod.startswith(self._release):
                self._run("pod", "rm", "--force", pod)
        for volume in self._run("volume", "ls", "--quiet").split():
            if volume.startswith(self._release):
                self._run("volume", "rm", "--force", volume)
        shutil.rmtree(self._folder)

    def _play(self) -> None:
        objects = [self._adapt(each) for kind in KINDS for each in self.rendered.of_kind(kind)]
        path = self._folder / "pod.yaml"
        path.write_text(yaml.safe_dump_all(objects), encoding="utf-8")
        try:
            self._run("kube", "play", "--network", "host", str(path))
            # Some releases of podman number the pods of a Deployment, others do not.
            name_filter = f"name={self.deployment['metadata']['name']}-pod.*-gateway"
            self._container = self._run(
                "ps", "--all", "--quiet", "--no-trunc", "--filter", name_filter
            ).strip()
            assert self._container, self._run("ps", "--all")
        except BaseException:
            self.remove()
            raise

    def _adapt(self, document: Document) -> Document:
        """Return a copy of the object that podman can play; see the head of this file."""
        document = copy.deepcopy(document)
        if document["kind"] == "Deployment":
            pod = document["spec"]["template"]["spec"]
            for container in pod["containers"]:
                for name in ("ports", "startupProbe", "livenessProbe", "readinessProbe"):
                    del container[name]
            for volume in pod["volumes"]:
                if secret := volume.pop("secret", None):
                    volume["hostPath"] = {
                        "path": self._write_secret(secret["secretName"]),
                        "type": "Directory",
                    }
        return document

    def _write_secret(self, name: str) -> str:
        """Write the files of a Secret into a folder that the user of the container can read. Returns its path."""
        folder = self._folder / name
        folder.mkdir()
        for file, value in self.rendered.one("Secret", name)["data"].items():
            (folder / file).write_bytes(base64.b64decode(value))
        folder.chmod(0o755)
        return str(folder)

    def _write_limits(self) -> Path:
        """Write a configuration with the limits of this process: within a container podman cannot set its defaults."""
        files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65_536)
        limits = [f"nofile={files}:{files}", "nproc=4096:4096"]
        path = self._folder / "containers.conf"
        path.write_text(f"[containers]\ndefault_ulimits = {json.dumps(limits)}\n")
        return path

    def _run(self, *arguments: str, seconds: float = TIMEOUT_SECONDS) -> str:
        done = subprocess.run(
            [podman(), *arguments],
            check=False,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
        return done.stdout

"""The chart's Deployment as a pod of podman: the image with the settings, secrets and rights that the chart gives it.

What podman's `kube play` does otherwise than a kubelet, and what is therefore changed before it sees the objects:

- it plays ConfigMap and Deployment, in this order, and hardly any other kind;
- its release 4.3 mounts what is in a Secret without decoding it: the files are put into a folder, which is mounted;
- on the network of the host it publishes no ports;
- its probes run `curl` in the container, where there is none: here a test asks from outside, as a kubelet does.
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

from tests.support.redis_server import free_port
from tools.chart.rendering import Document, Values, render

PLAYED = ("ConfigMap", "Deployment")
PATIENCE_SECONDS = 60.0


def podman() -> str:
    """The command; fails with a sentence on how to get it."""
    found = shutil.which("podman")
    assert found is not None, (
        "podman is needed to run the image as the chart deploys it: Debian's packages podman, runc and catatonit"
    )
    return found


class Pod:
    """One pod of the Deployment that the chart renders for these values, on free ports of this machine."""

    def __init__(self, image: str, values: Values) -> None:
        repository, _, tag = image.rpartition(":")
        self._release = f"try{os.getpid()}"
        ports = {"client": free_port(), "ingest": free_port()}
        chosen = {
            **values,
            "image": {"repository": repository, "tag": tag},
            "ports": ports,
            # The chart takes no such host, since a pod that listens there is reached by nobody.
            "extraEnv": [{"name": "GATEWAY_HOST", "value": "127.0.0.1"}],
        }
        self.rendered = render(chosen, release=self._release)
        self.deployment = self.rendered.one("Deployment")
        (self._spec,) = self.deployment["spec"]["template"]["spec"]["containers"]
        self.url = f"http://127.0.0.1:{ports['client']}"
        self.ingest_url = f"http://127.0.0.1:{ports['ingest']}"
        self._folder = Path(tempfile.mkdtemp(prefix="pod-"))
        self._folder.chmod(0o755)
        self._environment = os.environ | {"CONTAINERS_CONF": str(self._limits())}
        self._play()

    @property
    def grace_seconds(self) -> int:
        """How long a kubelet waits between SIGTERM and SIGKILL."""
        return int(self.deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])

    def probe(self, name: str) -> str:
        """The address that a kubelet asks for a probe (`startup`, `liveness`, `readiness`)."""
        asked = self._spec[f"{name}Probe"]["httpGet"]
        port = {each["name"]: each["containerPort"] for each in self._spec["ports"]}[asked["port"]]
        return f"http://127.0.0.1:{port}{asked['path']}"

    def inspect(self, path: str) -> Any:
        """What podman knows of the container, such as `.State.ExitCode`."""
        return json.loads(self._run("inspect", self._container, "--format", f"{{{{json {path}}}}}"))

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        return subprocess.run(
            [podman(), "exec", self._container, *command],
            check=False,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    def begin_stopping(self) -> None:
        """SIGTERM and, after the grace period, SIGKILL, as a kubelet does; the container is not started again."""
        self._stopping = subprocess.Popen(
            [podman(), "stop", "--time", str(self.grace_seconds), self._container],
            env=self._environment,
            stdout=subprocess.DEVNULL,
        )

    def stopped(self) -> int:
        """Its exit status, 137 if it had to be killed."""
        assert self._stopping.wait(self.grace_seconds + PATIENCE_SECONDS) == 0
        return int(self.inspect(".State.ExitCode"))

    def log(self) -> list[dict[str, Any]]:
        """Every line so far; fails for one that is no JSON object."""
        output = subprocess.run(
            [podman(), "logs", self._container],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=True,
        )
        return [json.loads(line) for line in output.stdout.splitlines()]

    def said(self, event: str) -> dict[str, Any]:
        """Wait for a line of the log."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            for line in self.log():
                if line["event"] == event:
                    return line
            assert time.monotonic() < deadline, f"{event} was not said: {self.log()}"

    def remove(self) -> None:
        """Nothing of it stays behind."""
        for pod in self._run("pod", "ls", "--format", "{{.Name}}").split():
            if pod.startswith(self._release):
                self._run("pod", "rm", "--force", pod)
        for volume in self._run("volume", "ls", "--quiet").split():
            if volume.startswith(self._release):
                self._run("volume", "rm", "--force", volume)
        shutil.rmtree(self._folder)

    def _play(self) -> None:
        objects = [self._for_podman(each) for kind in PLAYED for each in self.rendered.of_kind(kind)]
        path = self._folder / "pod.yaml"
        path.write_text(yaml.safe_dump_all(objects), encoding="utf-8")
        try:
            self._run("kube", "play", "--network", "host", str(path))
            # Some releases number the pods of a Deployment, and others do not.
            named = f"name={self.deployment['metadata']['name']}-pod.*-gateway"
            self._container = self._run("ps", "--all", "--quiet", "--no-trunc", "--filter", named).strip()
            assert self._container, self._run("ps", "--all")
        except BaseException:
            self.remove()
            raise

    def _for_podman(self, document: Document) -> Document:
        document = copy.deepcopy(document)
        if document["kind"] == "Deployment":
            pod = document["spec"]["template"]["spec"]
            for container in pod["containers"]:
                for name in ("ports", "startupProbe", "livenessProbe", "readinessProbe"):
                    del container[name]
            for volume in pod["volumes"]:
                if secret := volume.pop("secret", None):
                    volume["hostPath"] = {"path": self._written(secret["secretName"]), "type": "Directory"}
        return document

    def _written(self, name: str) -> str:
        """The folder with the files of a Secret, which the user of the container can read."""
        folder = self._folder / name
        folder.mkdir()
        for file, value in self.rendered.one("Secret", name)["data"].items():
            (folder / file).write_bytes(base64.b64decode(value))
        folder.chmod(0o755)
        return str(folder)

    def _limits(self) -> Path:
        """No more than this process may give: inside of a container podman's own limits cannot be set."""
        files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65_536)
        chosen = [f"nofile={files}:{files}", "nproc=4096:4096"]
        path = self._folder / "containers.conf"
        path.write_text(f"[containers]\ndefault_ulimits = {json.dumps(chosen)}\n")
        return path

    def _run(self, *arguments: str, seconds: float = PATIENCE_SECONDS) -> str:
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

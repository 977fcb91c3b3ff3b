"""The files and the environment of a container of the gateway, written into a folder."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from tests.integration.chart.sets import gateway
from tools.chart.rendering import Document, Rendered

MOUNTS = "/etc/sio-gateway"
# The Secret that exists in the cluster; its names are those of existing-secret.yaml.
EXISTING_SECRET = {
    "issuer.pem": "",  # set by the test: a real key
    "redis.url": "redis://redis.data.svc:6379/0",
    "ingest-shop": "an-existing-secret-of-this-test-000001\nan-existing-secret-of-this-test-000002\n",
    "ingest-reports.v2": "an-existing-secret-of-this-test-000003\n",
    "webhook-app": "whsec_YS13ZWJob29rLXNlY3JldC1vZi10aGlzLXRlc3QtMDAwMQ==\n",
    "not-for-the-gateway": "never to be mounted",
}


class PodFiles:
    """The mounts of a container, below ``folder`` instead of the root."""

    def __init__(self, rendered: Rendered, folder: Path, *, existing: dict[str, str] | None = None) -> None:
        self.folder = folder
        self._rendered = rendered
        self._existing = EXISTING_SECRET | (existing or {})
        spec = gateway(rendered)["spec"]["template"]["spec"]
        volumes = {each["name"]: each for each in spec["volumes"]}
        for mount in spec["containers"][0]["volumeMounts"]:
            if mount["mountPath"].startswith(MOUNTS):
                self._fill(self.inside(mount["mountPath"]), volumes[mount["name"]])

    def inside(self, path: str) -> Path:
        """Return the path below ``folder`` of a path in the container."""
        return self.folder / path.lstrip("/")

    def environment(self, container: Document) -> dict[str, str]:
        """Return the GATEWAY_ variables of a container, with paths below ``folder``."""
        mounts = str(self.inside(MOUNTS))
        return {
            name: value.replace(MOUNTS, mounts)
            for name, value in _variables(container)
            if name.startswith("GATEWAY_")
        }

    def _fill(self, folder: Path, volume: dict[str, Any]) -> None:
        folder.mkdir(parents=True)
        for name, content in self._content(volume).items():
            text = content.replace(MOUNTS, str(self.inside(MOUNTS)))
            (folder / name).write_text(text, encoding="utf-8")

    def _content(self, volume: dict[str, Any]) -> dict[str, str]:
        if "configMap" in volume:
            data: dict[str, str] = self._rendered.one("ConfigMap", volume["configMap"]["name"])["data"]
            return data
        source = volume["secret"]
        if volume["name"] == "redis-tls":
            return {"ca.crt": "certificates of this test"}
        data = self._secret(source["secretName"])
        # Kubernetes does not start a pod whose Secret lacks one of the items; this raises KeyError.
        return {item["path"]: data[item["key"]] for item in source["items"]}

    def _secret(self, name: str) -> dict[str, str]:
        own = [each for each in self._rendered.of_kind("Secret") if each["metadata"]["name"] == name]
        if not own:
            return self._existing
        return {key: base64.b64decode(value).decode() for key, value in own[0]["data"].items()}


def _variables(container: Document) -> list[tuple[str, str]]:
    return [(each["name"], each["value"]) for each in container.get("env", [])]

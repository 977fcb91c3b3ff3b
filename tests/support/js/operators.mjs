// Holds objects of operators to the schemas of their own resource definitions.
// stdin: a JSON list of objects. stdout: a JSON list, for each its findings as [path, sentence].
import * as gateway from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1";
import * as prometheus from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
import { readFileSync } from "node:fs";

const models = [...Object.values(gateway), ...Object.values(prometheus)];

function findings(object) {
  const model = models.find((each) => each.apiVersion === object.apiVersion && each.kind === object.kind);
  if (!model) return [["", `there is no schema for ${object.apiVersion} ${object.kind}`]];
  try {
    new model(object).validate();
    return [];
  } catch (error) {
    if (!error.errors) throw error;
    return error.errors.map((each) => [each.instancePath, each.message ?? `${each.keyword} ${JSON.stringify(each.params)}`]);
  }
}

console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(findings)));

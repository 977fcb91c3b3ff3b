{{/* Checks that values.schema.json cannot express: contradictions between values are rejected with a sentence. */}}

{{- define "sio-gateway.checks" -}}
{{- if not (regexMatch "^[a-z]" (include "sio-gateway.fullname" .)) -}}
{{- fail "The name of a Service must begin with a letter, and the name of this release does not: set fullnameOverride." -}}
{{- end -}}
{{- include "sio-gateway.nameChecks" . -}}
{{- include "sio-gateway.formChecks" . -}}
{{- $files := include "sio-gateway.secretFiles" . | fromYaml -}}
{{- if not (or (hasKey $files "jwt-secret") (hasKey $files "jwt-public-key") .Values.config.jwt_jwks_url .Values.config.issuers) -}}
{{- fail "No key to verify tokens with: set secrets.jwtSecret, secrets.jwtPublicKey, config.jwt_jwks_url or config.issuers, or name a Secret in existingSecret.name." -}}
{{- end -}}
{{- if and (hasKey $files "jwt-public-key") .Values.config.jwt_jwks_url -}}
{{- fail "config.jwt_jwks_url is set beside a public key: remove one of the two." -}}
{{- end -}}
{{- if not .Values.ingestKeys -}}
{{- fail "No backend can push: ingestKeys needs at least one {id, secrets}." -}}
{{- end -}}
{{- include "sio-gateway.secretChecks" . -}}
{{- include "sio-gateway.webhookChecks" . -}}
{{- include "sio-gateway.redisChecks" . -}}
{{- include "sio-gateway.portChecks" . -}}
{{- include "sio-gateway.configChecks" . -}}
{{- include "sio-gateway.policyChecks" . -}}
{{- end -}}

{{/* Names of other charts are rejected with ours; the schema allows them, because its own error would not name ours. */}}
{{- define "sio-gateway.nameChecks" -}}
{{- if kindIs "string" .Values.existingSecret -}}
{{- fail "existingSecret is not a name: the name of your Secret is existingSecret.name." -}}
{{- end -}}
{{- range $path, $sentence := .Files.Get "files/names.yaml" | fromYaml -}}
{{- $parts := splitList "." $path -}}
{{- $parent := $.Values -}}
{{- range initial $parts -}}
{{- $parent = get (default dict $parent) . -}}
{{- end -}}
{{- if and (kindIs "map" $parent) (hasKey $parent (last $parts)) -}}
{{- fail (printf "%s is not a value of this chart: %s." $path $sentence) -}}
{{- end -}}
{{- end -}}
{{- range $index, $host := .Values.ingress.hosts -}}
{{- if and (kindIs "map" $host) (gt (len $host) 1) -}}
{{- fail (printf "ingress.hosts[%d] has more than host: the path follows from config.socketio_path." $index) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Values in which a secret may be written by mistake. The error of the schema would quote it; no sentence here does. */}}
{{- define "sio-gateway.formChecks" -}}
{{- range $index, $key := .Values.ingestKeys -}}
{{- if not (regexMatch "^[A-Za-z0-9._-]{1,64}$" $key.id) -}}
{{- fail (printf "ingestKeys[%d].id is not 1 to 64 of A-Z a-z 0-9 . _ - (a secret belongs under secrets)." $index) -}}
{{- end -}}
{{- end -}}
{{- range $index, $webhook := .Values.webhooks -}}
{{- if not (regexMatch "^[A-Za-z0-9._-]{1,64}$" $webhook.id) -}}
{{- fail (printf "webhooks[%d].id is not 1 to 64 of A-Z a-z 0-9 . _ - (a secret belongs under secrets)." $index) -}}
{{- end -}}
{{- if not (regexMatch "^https?://[^/@\\s?#]+([/?][^\\s#]*)?$" $webhook.url) -}}
{{- fail (printf "webhooks[%d].url is not a URL that begins with https:// or http://, or it contains a user name, a password or a fragment." $index) -}}
{{- end -}}
{{- end -}}
{{- if not (regexMatch "^$|^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$" .Values.existingSecret.name) -}}
{{- fail "existingSecret.name is not a valid name of a Secret." -}}
{{- end -}}
{{- range $name, $key := .Values.existingSecret.keys -}}
{{- if not (regexMatch "^[A-Za-z0-9._-]{0,253}$" $key) -}}
{{- fail (printf "existingSecret.keys.%s is not a valid key of a Secret: the content belongs in the Secret itself." $name) -}}
{{- end -}}
{{- end -}}
{{- with .Values.config.jwt_jwks_url -}}
{{- if not (regexMatch "^https?://[^/@\\s]+(/\\S*)?$" .) -}}
{{- fail "config.jwt_jwks_url is not a URL that begins with https:// or http://, or it contains a user name or password." -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "sio-gateway.secretChecks" -}}
{{- $existing := .Values.existingSecret.name -}}
{{- $seen := dict -}}
{{- range $index, $key := .Values.ingestKeys -}}
{{- if hasKey $seen $key.id -}}
{{- fail (printf "ingestKeys[%d].id: two keys have the id %s." $index $key.id) -}}
{{- end -}}
{{- $_ := set $seen $key.id true -}}
{{- if and $existing $key.secrets -}}
{{- fail (printf "ingestKeys[%d].secrets is set beside existingSecret.name: put it into that Secret as ingest-%s." $index $key.id) -}}
{{- end -}}
{{- if not (or $existing $key.secrets) -}}
{{- fail (printf "ingestKeys[%d].secrets is missing: set a secret of 32 bytes or more, or name a Secret in existingSecret.name." $index) -}}
{{- end -}}
{{- end -}}
{{- /* Not in the schema, whose errors would quote the secrets. */ -}}
{{- $owners := dict -}}
{{- range $index, $key := .Values.ingestKeys -}}
{{- range $key.secrets -}}
{{- if hasKey $owners . -}}
{{- fail (printf "ingestKeys[%d].secrets: it has a secret of %s, so a signature would not identify the backend." $index (get $owners .)) -}}
{{- end -}}
{{- $_ := set $owners . $key.id -}}
{{- if or (ne . (trim .)) (regexMatch "[\\x00-\\x1f]" .) -}}
{{- fail (printf "ingestKeys[%d].secrets: one begins or ends with white space, or contains a line break." $index) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.secrets.redisUrl -}}
{{- if not (regexMatch "^rediss?([+]sentinel)?://[^\\s]+$" .) -}}
{{- fail "secrets.redisUrl is not an address of Redis: write it as redis://host:6379/0, rediss:// or redis+sentinel://host,host/name." -}}
{{- end -}}
{{- end -}}
{{- with .Values.secrets.jwtPublicKey -}}
{{- if not (contains "PUBLIC KEY-----" .) -}}
{{- fail "secrets.jwtPublicKey is not a public key in PEM (-----BEGIN PUBLIC KEY-----)." -}}
{{- end -}}
{{- end -}}
{{- if $existing -}}
{{- range $name, $secret := .Values.secrets -}}
{{- if $secret -}}
{{- fail (printf "secrets.%s is set beside existingSecret.name: put it into that Secret." $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "sio-gateway.webhookChecks" -}}
{{- $existing := .Values.existingSecret.name -}}
{{- $seen := dict -}}
{{- range $index, $webhook := .Values.webhooks -}}
{{- if hasKey $seen $webhook.id -}}
{{- fail (printf "webhooks[%d].id: two webhooks have the id %s." $index $webhook.id) -}}
{{- end -}}
{{- $_ := set $seen $webhook.id true -}}
{{- if and $existing $webhook.secrets -}}
{{- fail (printf "webhooks[%d].secrets is set beside existingSecret.name: put it into that Secret as webhook-%s." $index $webhook.id) -}}
{{- end -}}
{{- if not (or $existing $webhook.secrets) -}}
{{- fail (printf "webhooks[%d].secrets is missing: set a secret that begins with whsec_, or name a Secret in existingSecret.name." $index) -}}
{{- end -}}
{{- range $webhook.secrets -}}
{{- /* 32 to 88 characters are 24 to 64 bytes. */ -}}
{{- if not (regexMatch "^whsec_[A-Za-z0-9+/]{30,86}[A-Za-z0-9+/=]{2}$" .) -}}
{{- fail (printf "webhooks[%d].secrets: one is not whsec_ and the base64 of 24 to 64 bytes." $index) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "sio-gateway.redisChecks" -}}
{{- $redis := include "sio-gateway.redis" . -}}
{{- if and .Values.redis.bundled.enabled .Values.secrets.redisUrl -}}
{{- fail "redis.bundled.enabled and secrets.redisUrl name two Redis: remove one of them." -}}
{{- end -}}
{{- if and (not $redis) (gt (int .Values.replicaCount) 1) -}}
{{- fail (printf "replicaCount is %d, and without Redis a second replica would not know the clients of the first one: set secrets.redisUrl." (int .Values.replicaCount)) -}}
{{- end -}}
{{- if and (not $redis) .Values.autoscaling.enabled -}}
{{- fail "autoscaling.enabled requires a Redis that replicas share: set secrets.redisUrl." -}}
{{- end -}}
{{- end -}}

{{- define "sio-gateway.portChecks" -}}
{{- if and .Values.ports.split (eq (int .Values.ports.client) (int .Values.ports.ingest)) -}}
{{- fail "ports.client and ports.ingest are the same: set ports.split to false to serve everything on one port." -}}
{{- end -}}
{{- $service := .Values.clientService -}}
{{- range $name := list "nodePort" "externalTrafficPolicy" "loadBalancerClass" "loadBalancerSourceRanges" -}}
{{- if and (eq $service.type "ClusterIP") (get $service $name) -}}
{{- fail (printf "clientService.%s requires another clientService.type than ClusterIP." $name) -}}
{{- end -}}
{{- end -}}
{{- $scale := .Values.autoscaling -}}
{{- if and $scale.enabled $scale.targetCPUPercent (not (dig "requests" "cpu" "" .Values.resources)) -}}
{{- fail "autoscaling.targetCPUPercent is a share of resources.requests.cpu, which is missing." -}}
{{- end -}}
{{- if and $scale.enabled (gt (int $scale.minReplicas) (int $scale.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas." -}}
{{- end -}}
{{- if and $scale.enabled (not (or $scale.targetCPUPercent $scale.targetConnections)) -}}
{{- fail "autoscaling.enabled requires autoscaling.targetCPUPercent or autoscaling.targetConnections." -}}
{{- end -}}
{{- end -}}

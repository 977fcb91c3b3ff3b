{{/* Settings of the gateway: its YAML file, the files of secrets, the times that follow from `drain`. */}}

{{/* Location of the state: `bundled`, `secret` (the Secret has the address), or empty for memory. */}}
{{- define "sio-gateway.redis" -}}
{{- if .Values.redis.bundled.enabled -}}
bundled
{{- else if ternary .Values.existingSecret.keys.redisUrl .Values.secrets.redisUrl (not (empty .Values.existingSecret.name)) -}}
secret
{{- end -}}
{{- end -}}

{{/* The URLs of all key sets of issuers, each on a line. */}}
{{- define "sio-gateway.keySets" -}}
{{- with .Values.config.jwt_jwks_url }}{{ println . }}{{ end -}}
{{- range .Values.config.issuers }}{{ with .jwks_url }}{{ println . }}{{ end }}{{ end -}}
{{- end -}}

{{/* YAML of {file in the mount: key in the Secret}. */}}
{{- define "sio-gateway.secretFiles" -}}
{{- $files := dict -}}
{{- $keys := .Values.existingSecret.keys -}}
{{- $existing := .Values.existingSecret.name -}}
{{- if ternary $keys.jwtSecret .Values.secrets.jwtSecret (not (empty $existing)) -}}
{{- $_ := set $files "jwt-secret" (ternary $keys.jwtSecret "jwt-secret" (not (empty $existing))) -}}
{{- end -}}
{{- if ternary $keys.jwtPublicKey .Values.secrets.jwtPublicKey (not (empty $existing)) -}}
{{- $_ := set $files "jwt-public-key" (ternary $keys.jwtPublicKey "jwt-public-key" (not (empty $existing))) -}}
{{- end -}}
{{- if eq (include "sio-gateway.redis" .) "secret" -}}
{{- $_ := set $files "redis-url" (ternary $keys.redisUrl "redis-url" (not (empty $existing))) -}}
{{- end -}}
{{- range .Values.ingestKeys -}}
{{- $_ := set $files (printf "ingest-%s" .id) (printf "ingest-%s" .id) -}}
{{- end -}}
{{- range .Values.webhooks -}}
{{- $_ := set $files (printf "webhook-%s" .id) (printf "webhook-%s" .id) -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}

{{/* YAML of the chart's own Secret. Each secret of a key or of a webhook is on a line of its own. */}}
{{- define "sio-gateway.secretData" -}}
{{- $data := dict -}}
{{- with .Values.secrets.jwtSecret }}{{ $_ := set $data "jwt-secret" (b64enc .) }}{{ end -}}
{{- with .Values.secrets.jwtPublicKey }}{{ $_ := set $data "jwt-public-key" (b64enc .) }}{{ end -}}
{{- with .Values.secrets.redisUrl }}{{ $_ := set $data "redis-url" (b64enc .) }}{{ end -}}
{{- range .Values.ingestKeys -}}
{{- $_ := set $data (printf "ingest-%s" .id) (join "\n" .secrets | b64enc) -}}
{{- end -}}
{{- range .Values.webhooks -}}
{{- $_ := set $data (printf "webhook-%s" .id) (join "\n" .secrets | b64enc) -}}
{{- end -}}
{{- toYaml $data -}}
{{- end -}}

{{/* The YAML file that GATEWAY_CONFIG names. */}}
{{- define "sio-gateway.settings" -}}
{{- $files := include "sio-gateway.secretFiles" . | fromYaml -}}
{{- $mount := "/etc/sio-gateway/secrets/" -}}
{{- $settings := deepCopy .Values.config -}}
{{- $_ := set $settings "port" .Values.ports.client -}}
{{- if .Values.ports.split -}}
{{- $_ := set $settings "ingest_port" .Values.ports.ingest -}}
{{- end -}}
{{- $_ := set $settings "shutdown_delay_seconds" .Values.drain.shutdownDelaySeconds -}}
{{- $_ := set $settings "drain_seconds" .Values.drain.seconds -}}
{{- range list "jwt-secret" "jwt-public-key" "redis-url" -}}
{{- if hasKey $files . -}}
{{- $_ := set $settings (printf "%s_file" (replace "-" "_" .)) (print $mount .) -}}
{{- end -}}
{{- end -}}
{{- if eq (include "sio-gateway.redis" .) "bundled" -}}
{{- $_ := set $settings "redis_url" (printf "redis://%s:6379/0" (include "sio-gateway.redisName" .)) -}}
{{- end -}}
{{- $ingestKeys := list -}}
{{- range .Values.ingestKeys -}}
{{- $ingestKeys = append $ingestKeys (merge (dict "secret_file" (printf "%singest-%s" $mount .id)) (omit . "secrets")) -}}
{{- end -}}
{{- $_ := set $settings "ingest_keys" $ingestKeys -}}
{{- if .Values.events -}}
{{- $_ := set $settings "events_file" "/etc/sio-gateway/config/events.yaml" -}}
{{- end -}}
{{- $webhooks := list -}}
{{- range .Values.webhooks -}}
{{- $webhooks = append $webhooks (merge (dict "secret_file" (printf "%swebhook-%s" $mount .id)) (omit . "secrets")) -}}
{{- end -}}
{{- if $webhooks -}}
{{- $_ := set $settings "webhooks" $webhooks -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{/* The event catalogue as text. A mapping becomes JSON, which is YAML: as YAML, Helm would write 1000000 as 1e+06. */}}
{{- define "sio-gateway.events" -}}
{{- if .Values.events -}}
{{- ternary .Values.events (toPrettyJson .Values.events) (kindIs "string" .Values.events) -}}
{{- end -}}
{{- end -}}

{{/* The content of the ConfigMap, for its checksum. */}}
{{- define "sio-gateway.configData" -}}
{{- include "sio-gateway.settings" . -}}
{{- include "sio-gateway.events" . -}}
{{- end -}}

{{/* SHUTDOWN_DELAY_SECONDS and DRAIN_SECONDS together: how long a stopping pod still has clients. */}}
{{- define "sio-gateway.drainTotalSeconds" -}}
{{- add .Values.drain.shutdownDelaySeconds .Values.drain.seconds -}}
{{- end -}}

{{/* After that the gateway takes at most 15 s to stop; 5 s more are for the kubelet. */}}
{{- define "sio-gateway.gracePeriodSeconds" -}}
{{- add (include "sio-gateway.drainTotalSeconds" .) 20 -}}
{{- end -}}

{{- define "sio-gateway.socketioPath" -}}
{{- printf "%s/" (trimSuffix "/" (default "/socket.io/" .Values.config.socketio_path)) -}}
{{- end -}}

{{/* Port of the container for REST, health and metrics. */}}
{{- define "sio-gateway.ingestPortName" -}}
{{- ternary "ingest" "client" .Values.ports.split -}}
{{- end -}}

{{/* Whether each client must be routed to one replica, because polling is offered. */}}
{{- define "sio-gateway.needsAffinity" -}}
{{- if and .Values.cookieAffinity.enabled (has "polling" (default (list "polling") .Values.config.transports)) -}}
true
{{- end -}}
{{- end -}}

{{/* The seconds of a duration, which is a number or a text such as 25s, 2m or 500ms. */}}
{{- define "sio-gateway.seconds" -}}
{{- $units := dict "" 1.0 "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0 -}}
{{- $unit := regexFind "[a-z]*$" (toString .) -}}
{{- mulf (toString . | trimSuffix $unit | float64) (get $units $unit) -}}
{{- end -}}

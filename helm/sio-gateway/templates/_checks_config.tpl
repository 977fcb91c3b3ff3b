{{/* Contradictions between two values that the gateway would reject when it starts (gateway/settings/checks.py). */}}

{{- define "sio-gateway.configChecks" -}}
{{- include "sio-gateway.sizeChecks" . -}}
{{- include "sio-gateway.algorithmChecks" . -}}
{{- $config := .Values.config -}}
{{- $first := include "sio-gateway.socketioPath" . | trimPrefix "/" | splitList "/" | first -}}
{{- if has $first (list "emit" "broadcast" "presence" "disconnect" "health" "healthz" "metrics" "openapi.yaml" "dev") -}}
{{- fail (printf "config.socketio_path: /%s is reserved for another part of the gateway." $first) -}}
{{- end -}}
{{- if and (has "*" $config.cors_origins) (gt (len $config.cors_origins) 1) -}}
{{- fail "config.cors_origins: * allows every origin already: use it alone or remove it." -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if has .name (list "GATEWAY_CONFIG" "GATEWAY_PORT" "GATEWAY_INGEST_PORT" "GATEWAY_SHUTDOWN_DELAY_SECONDS" "GATEWAY_DRAIN_SECONDS") -}}
{{- fail (printf "extraEnv: %s is set by the chart, which derives other objects from it, too: set ports or drain." .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "sio-gateway.sizeChecks" -}}
{{- $config := .Values.config -}}
{{- $body := int64 (default 1048576 $config.max_body_bytes) -}}
{{- if lt (int64 (default 4194304 $config.send_buffer_bytes)) (mul 2 $body) -}}
{{- fail (printf "config.send_buffer_bytes must be at least twice config.max_body_bytes, which is %d." $body) -}}
{{- end -}}
{{- if lt (int64 (default 67108864 $config.history_bytes)) $body -}}
{{- fail (printf "config.history_bytes must be at least config.max_body_bytes, which is %d." $body) -}}
{{- end -}}
{{- if and (include "sio-gateway.redis" .) (gt $body 16777216) -}}
{{- fail "config.max_body_bytes must be at most 16777216 with a Redis, which executes each push as one command." -}}
{{- end -}}
{{- end -}}

{{- define "sio-gateway.algorithmChecks" -}}
{{- $files := include "sio-gateway.secretFiles" . | fromYaml -}}
{{- $published := or (hasKey $files "jwt-public-key") .Values.config.jwt_jwks_url -}}
{{- range .Values.config.jwt_algorithms -}}
{{- if and (hasPrefix "HS" .) (not (hasKey $files "jwt-secret")) -}}
{{- fail (printf "config.jwt_algorithms: %s needs secrets.jwtSecret." .) -}}
{{- end -}}
{{- if not (or (hasPrefix "HS" .) $published) -}}
{{- fail (printf "config.jwt_algorithms: %s needs secrets.jwtPublicKey or config.jwt_jwks_url." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Every replica would wait in vain for a Redis or a key set that the policy blocks. No sentence quotes an address, which may contain a password. */}}
{{- define "sio-gateway.policyChecks" -}}
{{- $policy := .Values.networkPolicy -}}
{{- $url := .Values.secrets.redisUrl -}}
{{- if $url -}}
{{- $default := ternary "26379" "6379" (contains "+sentinel://" $url) -}}
{{- $hosts := regexReplaceAll "^[^:]+://" $url "" | regexFind "^[^/?#]*" | splitList "@" | last -}}
{{- range splitList "," $hosts -}}
{{- $port := default $default (regexFind ":[0-9]+$" . | trimPrefix ":") | atoi -}}
{{- if or (lt $port 1) (gt $port 65535) -}}
{{- fail "secrets.redisUrl has an invalid port." -}}
{{- end -}}
{{- include "sio-gateway.portIsAllowed" (dict "policy" $policy "port" $port) -}}
{{- end -}}
{{- end -}}
{{- $keySets := dict -}}
{{- with .Values.config.jwt_jwks_url }}{{ $_ := set $keySets "config.jwt_jwks_url" . }}{{ end -}}
{{- range $index, $issuer := .Values.config.issuers -}}
{{- with $issuer.jwks_url }}{{ $_ := set $keySets (printf "config.issuers[%d].jwks_url" $index) . }}{{ end -}}
{{- end -}}
{{- range $name, $keySet := $keySets -}}
{{- $default := ternary "443" "80" (hasPrefix "https:" $keySet) -}}
{{- $host := regexReplaceAll "^[^:]+://" $keySet "" | regexFind "^[^/?#]*" -}}
{{- $port := default $default (regexFind ":[0-9]+$" $host | trimPrefix ":") | atoi -}}
{{- if and $policy.enabled (ne $port (int $policy.jwksPort)) -}}
{{- fail (printf "networkPolicy.jwksPort is %d, and %s is at port %d." (int $policy.jwksPort) $name $port) -}}
{{- end -}}
{{- end -}}
{{- $ports := dict -}}
{{- range $policy.webhookPorts -}}
{{- $_ := set $ports (toString (int .)) true -}}
{{- end -}}
{{- range $index, $webhook := .Values.webhooks -}}
{{- $default := ternary "443" "80" (hasPrefix "https:" $webhook.url) -}}
{{- $host := regexReplaceAll "^[^:]+://" $webhook.url "" | regexFind "^[^/?#]*" -}}
{{- $port := default $default (regexFind ":[0-9]+$" $host | trimPrefix ":") | atoi -}}
{{- if and $policy.enabled (not (hasKey $ports (toString $port))) -}}
{{- fail (printf "networkPolicy.webhookPorts lacks %d, the port in webhooks[%d].url." $port $index) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Takes {policy, port}. */}}
{{- define "sio-gateway.portIsAllowed" -}}
{{- $allowed := dict -}}
{{- range .policy.redisPorts -}}
{{- $_ := set $allowed (toString (int .)) true -}}
{{- end -}}
{{- if and .policy.enabled (not (hasKey $allowed (toString .port))) -}}
{{- fail (printf "networkPolicy.redisPorts lacks %d, the port in secrets.redisUrl." .port) -}}
{{- end -}}
{{- end -}}

{{/* Names and labels. */}}

{{- define "sio-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 52 characters, so that the name with the longest suffix is still a DNS label (RFC 1035: 63 characters, no dots). */}}
{{- define "sio-gateway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "sio-gateway.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "sio-gateway.ingestName" -}}
{{- include "sio-gateway.fullname" . }}-ingest
{{- end -}}

{{- define "sio-gateway.metricsName" -}}
{{- include "sio-gateway.fullname" . }}-metrics
{{- end -}}

{{- define "sio-gateway.redisName" -}}
{{- include "sio-gateway.fullname" . }}-redis
{{- end -}}

{{/* With a checksum of the content: running pods keep their settings when an upgrade brings settings that the gateway rejects. */}}
{{- define "sio-gateway.configName" -}}
{{- include "sio-gateway.fullname" . }}-{{ include "sio-gateway.configData" . | sha256sum | trunc 8 }}
{{- end -}}

{{- define "sio-gateway.secretName" -}}
{{- if .Values.existingSecret.name -}}
{{- .Values.existingSecret.name -}}
{{- else -}}
{{- include "sio-gateway.fullname" . }}-{{ include "sio-gateway.secretData" . | sha256sum | trunc 8 }}
{{- end -}}
{{- end -}}

{{- define "sio-gateway.serviceAccountName" -}}
{{- $default := ternary (include "sio-gateway.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $default .Values.serviceAccount.name -}}
{{- end -}}

{{- define "sio-gateway.image" -}}
{{- $registry := default .Values.image.registry (.Values.global).imageRegistry -}}
{{- $repository := include "sio-gateway.withRegistry" (list $registry .Values.image.repository) -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "sio-gateway.bundledRedisImage" -}}
{{- include "sio-gateway.withRegistry" (list (.Values.global).imageRegistry .Values.redis.bundled.image) -}}
{{- end -}}

{{/* An image in a registry, or as it is without one. A first part with a dot or a port is a registry, which is replaced. */}}
{{- define "sio-gateway.withRegistry" -}}
{{- $image := index . 1 -}}
{{- with index . 0 -}}
{{- $image = printf "%s/%s" . (regexReplaceAll "^[^/]*[.:][^/]*/" $image "") -}}
{{- end -}}
{{- $image -}}
{{- end -}}

{{/* A list of {name}, in YAML; empty without a Secret. */}}
{{- define "sio-gateway.imagePullSecrets" -}}
{{- $found := list -}}
{{- range concat .Values.imagePullSecrets (default list (.Values.global).imagePullSecrets) -}}
{{- $found = append $found (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- with uniq $found -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* The host of an entry of ingress.hosts, which is a name or {host}. */}}
{{- define "sio-gateway.ingressHost" -}}
{{- ternary . (get (ternary dict . (kindIs "string" .)) "host") (kindIs "string" .) -}}
{{- end -}}

{{/* Selector of Deployment and Services; it never changes in the life of a release. Takes {root, component}. */}}
{{- define "sio-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sio-gateway.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Takes {root, component}. */}}
{{- define "sio-gateway.labels" -}}
{{ include "sio-gateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

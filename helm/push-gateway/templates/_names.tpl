{{/* Names and labels. */}}

{{- define "push-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 52 characters, so that the longest suffix still gives a DNS label (RFC 1035: 63), in which there are no dots. */}}
{{- define "push-gateway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "push-gateway.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "push-gateway.ingestName" -}}
{{- include "push-gateway.fullname" . }}-ingest
{{- end -}}

{{- define "push-gateway.metricsName" -}}
{{- include "push-gateway.fullname" . }}-metrics
{{- end -}}

{{- define "push-gateway.redisName" -}}
{{- include "push-gateway.fullname" . }}-redis
{{- end -}}

{{/* With a checksum of the content: what runs keeps its own settings when an upgrade brings others that it cannot use. */}}
{{- define "push-gateway.configName" -}}
{{- include "push-gateway.fullname" . }}-{{ include "push-gateway.settings" . | sha256sum | trunc 8 }}
{{- end -}}

{{- define "push-gateway.secretName" -}}
{{- if .Values.existingSecret.name -}}
{{- .Values.existingSecret.name -}}
{{- else -}}
{{- include "push-gateway.fullname" . }}-{{ include "push-gateway.secretData" . | sha256sum | trunc 8 }}
{{- end -}}
{{- end -}}

{{- define "push-gateway.serviceAccountName" -}}
{{- $otherwise := ternary (include "push-gateway.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $otherwise .Values.serviceAccount.name -}}
{{- end -}}

{{- define "push-gateway.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What Deployment and Services select by; never changes in the life of a release. Takes {root, component}. */}}
{{- define "push-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "push-gateway.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Takes {root, component}. */}}
{{- define "push-gateway.labels" -}}
{{ include "push-gateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Parts of every pod that runs the image: that of the gateway and that of `helm test`. */}}

{{- define "sio-gateway.volumes" -}}
- name: config
  configMap:
    name: {{ include "sio-gateway.configName" . }}
- name: secrets
  secret:
    secretName: {{ include "sio-gateway.secretName" . | quote }}
    optional: false
    # The files belong to root, and the user of the image must read them.
    defaultMode: 0444
    items:
      {{- range $file, $key := include "sio-gateway.secretFiles" . | fromYaml }}
      - key: {{ $key | quote }}
        path: {{ $file | quote }}
      {{- end }}
{{- end -}}

{{/* Whole folders, because a file that is mounted by itself is never updated in a running container. */}}
{{- define "sio-gateway.volumeMounts" -}}
- name: config
  mountPath: /etc/sio-gateway/config
  readOnly: true
- name: secrets
  mountPath: /etc/sio-gateway/secrets
  readOnly: true
{{- end -}}

{{/* Takes {root, name}. */}}
{{- define "sio-gateway.probe" -}}
{{- $values := get .root.Values.probes .name -}}
httpGet:
  path: {{ ternary "/health/ready" "/health/live" (eq .name "readiness") }}
  port: {{ include "sio-gateway.ingestPortName" .root }}
{{ toYaml $values }}
{{- end -}}

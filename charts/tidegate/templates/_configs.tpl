{{- define "tidegate.reconcilerConfig" -}}
cluster: {{ .Values.clusterName | quote }}
state_dir: /var/lib/tidegate
keys: /etc/tidegate/keys
listen: "[::]:7443"
{{- if .Values.metrics.enabled }}
metrics: {{ printf "[::]:%v" .Values.metrics.reconcilerPort | quote }}
{{- end }}
{{- if .Values.reconciler.webhook.enabled }}
webhook:
  listen: "[::]:9443"
  secret: /etc/tidegate/webhook/hmac
  {{- if .Values.reconciler.webhook.tls }}
  certificate: /etc/tidegate/webhook/tls.crt
  key: /etc/tidegate/webhook/tls.key
  {{- end }}
{{- end }}
{{- end -}}

{{- define "tidegate.agentConfig" -}}
state_dir: /var/lib/tidegate-agent
bpffs: /sys/fs/bpf/tidegate
socket: /run/tidegate/agent.sock
kubernetes:
  cluster: {{ .Values.clusterName | quote }}
  {{- with .Values.agent.criSocket }}
  runtime: {{ . | quote }}
  {{- end }}
reconciler:
  address: {{ printf "%s:7443" .Values.reconciler.serverName | quote }}
  bootstrap: {{ printf "%s:7444" .Values.reconciler.serverName | quote }}
tls:
  ca: /etc/tidegate/trust/ca.pem
  token: /run/secrets/tidegate/token
trust:
  root: /etc/tidegate/trust/root.json
{{- if .Values.agent.cni.enabled }}
cni:
  socket: /run/tidegate/cni.sock
{{- end }}
{{- with .Values.agent.envoy }}
{{- if .enabled }}
envoy:
  apart: true
  workers: {{ .workers }}
  first_port: {{ .firstPort }}
  last_port: {{ .lastPort }}
  {{- if .secrets }}
  secrets_dir: /etc/tidegate/secrets
  {{- end }}
{{- end }}
{{- end }}
admit_local_host: {{ .Values.agent.admitLocalHost }}
pod_interfaces: {{ toJson .Values.agent.podInterfaces }}
{{- if .Values.agent.datapath }}
datapath: {{ toJson .Values.agent.datapath }}
{{- end }}
{{- if .Values.metrics.enabled }}
metrics: {{ printf "[::]:%v" .Values.metrics.agentPort | quote }}
{{- end }}
{{- end -}}

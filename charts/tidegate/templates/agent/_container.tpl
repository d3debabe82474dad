{{- /* What the agent may do and see: docs/operating/permissions.md says why, line by line. */ -}}
{{- define "tidegate.agentContainer" -}}
env:
  - name: NODE_NAME
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
securityContext:
  runAsUser: 0
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
    add: {{ concat (list "NET_ADMIN" "SYS_ADMIN") .Values.agent.extraCapabilities | toJson }}
volumeMounts:
  - {name: config, mountPath: /etc/tidegate/agent.yaml, subPath: agent.yaml, readOnly: true}
  - {name: trust, mountPath: /etc/tidegate/trust, readOnly: true}
  - {name: token, mountPath: /run/secrets/tidegate, readOnly: true}
  - {name: state, mountPath: /var/lib/tidegate-agent}
  - {name: settings, mountPath: /host/proc/sys/net}
  - {name: run, mountPath: /run/tidegate}
  - {name: bpffs, mountPath: /sys/fs/bpf, mountPropagation: HostToContainer}
  - {name: netns, mountPath: /run/netns, mountPropagation: HostToContainer, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- if .Values.agent.criSocket }}
  - {name: cri, mountPath: {{ dir .Values.agent.criSocket }}, readOnly: true}
  {{- end }}
  {{- if and .Values.agent.envoy.enabled (not .Values.cleanup) }}
  - {name: requests, mountPath: /var/lib/tidegate-agent/envoy/requests}
  {{- end }}
  {{- range .Values.agent.envoy.secrets }}
  - {name: {{ include "tidegate.envoySecret" . }}, mountPath: /etc/tidegate/secrets/{{ .namespace }}/{{ .name }}, readOnly: true}
  {{- end }}
  {{- if .Values.agent.trace.enabled }}
  - {name: modules, mountPath: /lib/modules, readOnly: true}
  - {name: headers, mountPath: /usr/src, readOnly: true}
  - {name: tracing, mountPath: /sys/kernel/tracing}
  {{- end }}
{{- end -}}

{{- /* Envoy: sockets with the pods' addresses (NET_ADMIN), and the folder where the agent lays down its files. */ -}}
{{- define "tidegate.envoyContainer" -}}
env:
  - name: NODE_NAME
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
securityContext:
  runAsUser: 0
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL], add: [NET_ADMIN]}
volumeMounts:
  - {name: config, mountPath: /etc/tidegate/agent.yaml, subPath: agent.yaml, readOnly: true}
  - {name: envoy, mountPath: /var/lib/tidegate-agent/envoy}
  - {name: requests, mountPath: /var/lib/tidegate-agent/envoy/requests}
{{- end -}}

{{- /* The volume of a secret that policies name; by its place, as the place is told apart by a slash. */ -}}
{{- define "tidegate.envoySecret" -}}
envoy-{{ printf "%s/%s" .namespace .name | sha256sum | trunc 12 }}
{{- end -}}

{{- define "tidegate.cniContainer" -}}
securityContext:
  runAsUser: 0
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: cni-bin, mountPath: /host/cni/bin}
  - {name: cni-conf, mountPath: /host/cni/conf}
{{- end -}}

{{- /* Names are fixed: diagnostics, certificates and policies of other people refer to them. */ -}}
{{- define "tidegate.namespace" -}}
{{- if ne .Release.Namespace "tidegate-system" -}}
{{- fail "install into the namespace tidegate-system: --namespace tidegate-system --create-namespace" -}}
{{- end -}}
tidegate-system
{{- end -}}

{{- define "tidegate.labels" -}}
app.kubernetes.io/part-of: tidegate
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* A digest names one image for ever; a tag is for those who have none. */ -}}
{{- define "tidegate.image" -}}
{{- $image := index . 0 -}}
{{- $root := index . 1 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

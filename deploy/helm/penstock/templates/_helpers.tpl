{{- define "penstock.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end -}}

{{- define "penstock.labels" -}}
app.kubernetes.io/name: penstock
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "penstock.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "penstock.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "penstock.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* The volume with the CA of the servers, and the certificates that they ask for. */ -}}
{{- define "penstock.tlsVolume" -}}
{{- if .Values.secrets.tls -}}
- name: tls
  secret: {secretName: {{ .Values.secrets.tls }}, defaultMode: 288} # 0440
{{- end -}}
{{- end -}}

{{- define "penstock.tlsMount" -}}
{{- if .Values.secrets.tls -}}
- {name: tls, mountPath: /etc/penstock/tls, readOnly: true}
{{- end -}}
{{- end -}}

{{- /* The pod of a role. It is called with a dict of root, role and values. */ -}}
{{- define "penstock.pod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "penstock.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
  {{- if or .values.podAnnotations (not $root.Values.kustomize) }}
  annotations:
    {{- if not $root.Values.kustomize }}
    checksum/settings: {{ toYaml $root.Values.settings | sha256sum }}
    {{- end }}
    {{- with .values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
spec:
  serviceAccountName: {{ include "penstock.name" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # SIGTERM starts the drain: /readyz answers 503 at once, and the listener goes on for drain-delay.
  # So no preStop hook with a sleep is needed. All times of the shutdown together are below this
  # value.
  terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- include "penstock.podSecurity" $root | nindent 4 }}
  {{- with .values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: DoNotSchedule
      matchLabelKeys: [pod-template-hash]
      labelSelector:
        matchLabels:
          {{- include "penstock.labels" $root | nindent 10 }}
          app.kubernetes.io/component: {{ .role }}
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: ScheduleAnyway
      matchLabelKeys: [pod-template-hash]
      labelSelector:
        matchLabels:
          {{- include "penstock.labels" $root | nindent 10 }}
          app.kubernetes.io/component: {{ .role }}
  containers:
    - name: penstock
      image: {{ include "penstock.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [{{ .role }}, --config, /etc/penstock/penstock.yaml]
      env:
        - {name: GOMEMLIMIT, value: {{ .values.goMemoryLimit }}}
        {{- range list "PENSTOCK_DATABASE" "PENSTOCK_ADMIN_TOKEN" }}
        - name: {{ . }}
          valueFrom: {secretKeyRef: {name: {{ $root.Values.secrets.processes }}, key: {{ . }}}}
        {{- end }}
        {{- range list "PENSTOCK_REDIS_PASSWORD" "PENSTOCK_REDIS_SENTINEL_PASSWORD" "PENSTOCK_KAFKA_PASSWORD" "PENSTOCK_SECRETS_KEY" "PENSTOCK_OIDC_CLIENT_SECRET" }}
        - name: {{ . }}
          valueFrom: {secretKeyRef: {name: {{ $root.Values.secrets.processes }}, key: {{ . }}, optional: true}}
        {{- end }}
      ports:
        {{- if eq .role "gateway" }}
        - {name: http, containerPort: 8080}
        {{- end }}
        - {name: admin, containerPort: 8081}
      # A process that has no catalog yet, or waits for a server that is away, is alive and not
      # ready: a restart would not help.
      startupProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 5
        timeoutSeconds: 4
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: {{ if eq .role "gateway" }}http{{ else }}admin{{ end }}}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      securityContext:
        {{- include "penstock.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - {name: settings, mountPath: /etc/penstock/penstock.yaml, subPath: penstock.yaml, readOnly: true}
        - {name: data, mountPath: /data}
        {{- with include "penstock.tlsMount" $root }}
        {{- . | nindent 8 }}
        {{- end }}
  volumes:
    - name: settings
      configMap: {name: {{ include "penstock.name" $root }}-settings}
    # It survives a restart of the container, so the new process finds the catalog in it.
    - name: data
      emptyDir: {sizeLimit: {{ .values.dataSize }}}
    {{- with include "penstock.tlsVolume" $root }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

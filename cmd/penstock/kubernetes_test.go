package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/penstock/penstock/internal/node"
	"github.com/penstock/penstock/internal/proof/servers"
)

// kubernetesVersions are the oldest and the newest version that the manifests are checked against.
var kubernetesVersions = []string{"1.31.0", "1.37.0"}

// podSpec has the parts of a pod that the tests read. encoding/json ignores the case of its keys.
type podSpec struct {
	AutomountServiceAccountToken  *bool
	TerminationGracePeriodSeconds int
	SecurityContext               struct {
		RunAsNonRoot   bool
		SeccompProfile struct{ Type string }
	}
	TopologySpreadConstraints []struct{ TopologyKey string }
	Containers                []container
}

// container has the parts of a container that the tests read.
type container struct {
	Image string
	Args  []string
	Env   []struct {
		Name, Value string
		ValueFrom   struct {
			SecretKeyRef struct{ Name, Key string }
		}
	}
	Ports []struct {
		Name          string
		ContainerPort int
	}
	StartupProbe, LivenessProbe, ReadinessProbe struct {
		HTTPGet struct{ Path, Port string }
	}
	Resources       struct{ Requests, Limits map[string]string }
	SecurityContext struct {
		AllowPrivilegeEscalation *bool
		ReadOnlyRootFilesystem   bool
		Capabilities             struct{ Drop, Add []string }
	}
}

// workload has the parts of a Deployment or a Job that the tests read.
type workload struct {
	Metadata struct{ Name string }
	Spec     struct {
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     podSpec
		}
	}
}

// decoded decodes a tree into a type.
func decoded[T any](t *testing.T, tree any) (out T) {
	t.Helper()
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// manifests are all objects of deploy/kubernetes.
func manifests(t *testing.T) []map[string]any {
	t.Helper()
	var all []map[string]any
	for _, file := range manifestFiles(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, objects(t, string(text))...)
	}
	return all
}

// manifestFiles are the files of deploy/kubernetes that have objects.
func manifestFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.yaml", "migrate/*.yaml"} {
		found, err := filepath.Glob(filepath.Join(deployDir, "kubernetes", pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	return slices.DeleteFunc(files, func(file string) bool {
		return filepath.Base(file) == "kustomization.yaml" || filepath.Base(file) == "penstock.yaml"
	})
}

// workloads are the manifests' Deployments and Jobs by the command that they run.
func workloads(t *testing.T) map[string]workload {
	t.Helper()
	all := make(map[string]workload)
	for _, one := range manifests(t) {
		if kind := one["kind"]; kind == "Deployment" || kind == "Job" {
			w := decoded[workload](t, one)
			all[w.Spec.Template.Spec.Containers[0].Args[0]] = w
		}
	}
	return all
}

// TestKubernetes_Schemas: Kubernetes knows every field of the manifests and of the chart's objects.
func TestKubernetes_Schemas(t *testing.T) {
	files := manifestFiles(t)
	c := newChart(t)
	for name, text := range chartCases {
		var over map[string]any
		if err := yaml.Unmarshal([]byte(text), &over); err != nil {
			t.Fatal(err)
		}
		all := ""
		for _, rendered := range c.render(t, over) {
			all += "---\n" + rendered
		}
		file := filepath.Join(t.TempDir(), strings.ReplaceAll(name, " ", "-")+".yaml")
		if err := os.WriteFile(file, []byte(all), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	for _, version := range kubernetesVersions {
		if output, failed := servers.KubernetesValidate(t, version, files...); failed {
			t.Errorf("Kubernetes %s:\n%s", version, output)
		}
	}
}

// TestKubernetes_Settings: the binary understands the settings of the pods. Each secret is mounted
// where it belongs and nowhere else. A stop has as much time as the settings give it.
func TestKubernetes_Settings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "penstock.yaml")
	cert, _ := selfSigned(t, t.TempDir())
	settings := strings.ReplaceAll(readDeploy(t, "kubernetes/penstock.yaml"), "/etc/penstock/tls/ca.crt", cert)
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := map[string]bool{"PENSTOCK_DATABASE": true} // it has a password in it
	for _, s := range allSettings() {
		if s.secret {
			secret[s.env()] = true
		}
	}
	all := workloads(t)
	for _, role := range []string{"gateway", "worker"} {
		pod := all[role].Spec.Template.Spec
		if len(pod.Containers) != 1 {
			t.Fatalf("%s: %d containers", role, len(pod.Containers))
		}
		c := pod.Containers[0]
		environ := dockerEnvironment(t)
		got := make(map[string]bool)
		for _, e := range c.Env {
			if e.Name == "GOMEMLIMIT" {
				continue
			}
			environ[e.Name] = strings.Repeat("x", 32)
			got[e.Name] = true
			if ref := e.ValueFrom.SecretKeyRef; ref.Name != "penstock-secrets" || ref.Key != e.Name || !secret[e.Name] {
				t.Errorf("%s: %s is %q of %q", role, e.Name, ref.Key, ref.Name)
			}
		}
		if len(got) != len(secret) {
			t.Errorf("%s: the secrets are %v, and it is handed %v", role, secret, got)
		}
		environ["PENSTOCK_DATABASE"] = "postgres://penstock_app@db/penstock?sslmode=verify-full"
		environ["PENSTOCK_REDIS_SENTINEL_PASSWORD"] = ""                                 // without Sentinels
		environ["PENSTOCK_OIDC_CLIENT_SECRET"] = ""                                      // without OpenID Connect
		environ["PENSTOCK_SECRETS_KEY"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" // 32 bytes in base64
		config := understood(t, swapped(c.Args, "/etc/penstock/penstock.yaml", file), environ)
		if !config.Real() || config.DataDir != "/data" || config.LogFormat != "json" || !config.KeepSchema || len(config.Exposed()) != 0 {
			t.Errorf("%s: settings %+v, exposed %q", role, config, config.Exposed())
		}
		grace := time.Duration(pod.TerminationGracePeriodSeconds) * time.Second
		if grace < config.ShutdownTimeout+5*time.Second || config.ShutdownTimeout < config.Gateway.DrainDelay+10*time.Second {
			t.Errorf("%s: grace %v, shutdown-timeout %v, drain-delay %v", role, grace, config.ShutdownTimeout, config.Gateway.DrainDelay)
		}
	}
	job := all["migrate"].Spec.Template.Spec.Containers[0]
	cmd, rest, err := rootCommand().Find(job.Args)
	if err != nil || cmd.Name() != "migrate" || cmd.ParseFlags(rest) != nil {
		t.Errorf("the Job's %q is not understood", job.Args)
	}
	if ref := job.Env[0].ValueFrom.SecretKeyRef; len(job.Env) != 1 || ref.Name != "penstock-owner" || ref.Key != "PENSTOCK_DATABASE" {
		t.Errorf("the Job's database is of %+v", ref)
	}
}

// swapped returns a command line with another file.
func swapped(args []string, from, to string) []string {
	args = slices.Clone(args)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], from, to)
	}
	return args
}

// dockerEnvironment returns the variables that the image sets.
func dockerEnvironment(t *testing.T) map[string]string {
	t.Helper()
	environ := make(map[string]string)
	for _, m := range regexp.MustCompile(`(PENSTOCK_\w+)=(\S+)`).FindAllStringSubmatch(readDeploy(t, "Dockerfile"), -1) {
		environ[m[1]] = m[2]
	}
	return environ
}

// TestKubernetes_Probes: the probes ask a listener that answers, and the image listens on each
// port.
func TestKubernetes_Probes(t *testing.T) {
	config := defaultConfig()
	config.Listen, config.AdminListen, config.DataDir = "127.0.0.1:0", "127.0.0.1:0", t.TempDir()
	config.AdminToken = strings.Repeat("x", 32)
	config.Gateway.DrainDelay = 0
	p, err := node.Start(t.Context(), config.Config, node.RoleGateway|node.RoleWorker, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	ours := map[string]struct{ url, env string }{
		"http": {p.PublicURL(), "PENSTOCK_LISTEN"}, "admin": {p.AdminURL(), "PENSTOCK_ADMIN_LISTEN"},
	}
	environ := dockerEnvironment(t)
	all := workloads(t)
	for role, ready := range map[string]string{"gateway": "http", "worker": "admin"} {
		c := all[role].Spec.Template.Spec.Containers[0]
		for _, port := range c.Ports {
			if _, listens, _ := strings.Cut(environ[ours[port.Name].env], ":"); listens == "" || listens != decoded[json.Number](t, port.ContainerPort).String() {
				t.Errorf("%s: port %s is %d, and the image listens on %q", role, port.Name, port.ContainerPort, listens)
			}
		}
		for _, probe := range []struct{ path, port, wantPath, wantPort string }{
			{c.StartupProbe.HTTPGet.Path, c.StartupProbe.HTTPGet.Port, "/livez", "admin"},
			{c.LivenessProbe.HTTPGet.Path, c.LivenessProbe.HTTPGet.Port, "/livez", "admin"},
			{c.ReadinessProbe.HTTPGet.Path, c.ReadinessProbe.HTTPGet.Port, "/readyz", ready},
		} {
			if probe.path != probe.wantPath || probe.port != probe.wantPort {
				t.Errorf("%s: probe %+v", role, probe)
			}
			answer, err := http.Get(ours[probe.port].url + probe.path)
			if err != nil {
				t.Fatal(err)
			}
			if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusOK {
				t.Errorf("%s: %s on %s answers %s (%v)", role, probe.path, probe.port, answer.Status, err)
			}
		}
	}
}

// TestKubernetes_Closed: the pods have no unneeded rights, the admin listener is closed by default,
// and only one pod at a time may be evicted.
func TestKubernetes_Closed(t *testing.T) {
	all := workloads(t)
	if len(all) != 3 {
		t.Fatalf("workloads: %v", all)
	}
	for role, w := range all {
		pod, c := w.Spec.Template.Spec, w.Spec.Template.Spec.Containers[0]
		if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken || !pod.SecurityContext.RunAsNonRoot ||
			pod.SecurityContext.SeccompProfile.Type != "RuntimeDefault" {
			t.Errorf("%s: the pod may too much: %+v", role, pod.SecurityContext)
		}
		s := c.SecurityContext
		if !s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
			!slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || len(s.Capabilities.Add) != 0 {
			t.Errorf("%s: the container may too much: %+v", role, s)
		}
		if c.Resources.Requests["cpu"] == "" || c.Resources.Requests["memory"] == "" || c.Resources.Limits["memory"] == "" {
			t.Errorf("%s: resources %+v", role, c.Resources)
		}
		if _, tag, ok := strings.Cut(c.Image, ":"); !ok || tag == "latest" {
			t.Errorf("%s: image %s has no version", role, c.Image)
		}
		if role != "migrate" && (len(pod.TopologySpreadConstraints) != 2 || pod.TopologySpreadConstraints[0].TopologyKey != "kubernetes.io/hostname") {
			t.Errorf("%s: spread over %v", role, pod.TopologySpreadConstraints)
		}
	}
	budgets, scaled, public := 0, 0, 0
	for _, one := range manifests(t) {
		spec := one["spec"]
		switch one["kind"] {
		case "PodDisruptionBudget":
			budgets++
		case "HorizontalPodAutoscaler":
			scaled++
			if name := dig(spec, "scaleTargetRef", "name"); name != all["gateway"].Metadata.Name {
				t.Errorf("%v is scaled", name)
			}
		case "NetworkPolicy":
			for _, rule := range dig(spec, "ingress").([]any) {
				text, err := json.Marshal(rule)
				if err != nil {
					t.Fatal(err)
				}
				_, limited := rule.(map[string]any)["from"]
				switch {
				case strings.Contains(string(text), "8080"):
					public++
				case !strings.Contains(string(text), "8081") || !limited:
					t.Errorf("%s: open to all: %s", nameOf(one), text)
				}
			}
		}
	}
	if budgets != 2 || scaled != 1 || public != 1 {
		t.Errorf("%d budgets, %d scaled, %d rules of the public listener", budgets, scaled, public)
	}
}

// TestKubernetes_Kustomize: if kubectl is installed, kustomize joins the files.
func TestKubernetes_Kustomize(t *testing.T) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("no kubectl")
	}
	for folder, want := range map[string]int{"kubernetes": 12, "kubernetes/migrate": 1} {
		out, err := exec.Command(kubectl, "kustomize", filepath.Join(deployDir, folder)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		all := objects(t, string(out))
		if len(all) != want {
			t.Errorf("%s has %d objects, want %d", folder, len(all), want)
		}
		for _, one := range all {
			if one["kind"] != "Namespace" && dig(one, "metadata", "namespace") != "penstock" {
				t.Errorf("%s is in no namespace", nameOf(one))
			}
		}
	}
}

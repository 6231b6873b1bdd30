package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"

	"github.com/pb33f/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

// Building Helm takes minutes and a hundred megabytes. Its templates are Go's with additional
// functions. This file has those that the chart uses. If helm is installed, the test compares this
// output with Helm's.

const chartDir = deployDir + "/helm/penstock"

// chart is a Helm chart that can be rendered.
type chart struct {
	templates *template.Template
	meta      map[string]any
	values    map[string]any
}

func newChart(t *testing.T) *chart {
	t.Helper()
	c := &chart{meta: make(map[string]any), values: make(map[string]any)}
	for name, into := range map[string]map[string]any{"Chart.yaml": c.meta, "values.yaml": c.values} {
		if err := yaml.Unmarshal([]byte(readDeploy(t, "helm/penstock/"+name)), &into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	c.templates = template.New("chart").Option("missingkey=error")
	c.templates.Funcs(c.functions())
	files, err := filepath.Glob(chartDir + "/templates/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no templates: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.templates.New(filepath.Base(file)).Parse(string(text)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// functions are the functions of Helm that the chart uses.
func (c *chart) functions() template.FuncMap {
	return template.FuncMap{
		"include": func(name string, data any) (string, error) {
			var out strings.Builder
			err := c.templates.ExecuteTemplate(&out, name, data)
			return out.String(), err
		},
		"toYaml": func(v any) (string, error) {
			var out bytes.Buffer
			encoder := yaml.NewEncoder(&out)
			encoder.SetIndent(2)
			err := errors.Join(encoder.Encode(v), encoder.Close())
			return strings.TrimSuffix(out.String(), "\n"), err
		},
		"nindent": func(n int, text string) string {
			pad := "\n" + strings.Repeat(" ", n)
			return pad + strings.ReplaceAll(text, "\n", pad)
		},
		"default": func(otherwise, v any) any {
			if v == nil || reflect.ValueOf(v).IsZero() {
				return otherwise
			}
			return v
		},
		"dict": func(pairs ...any) map[string]any {
			m := make(map[string]any)
			for i := 0; i+1 < len(pairs); i += 2 {
				m[pairs[i].(string)] = pairs[i+1]
			}
			return m
		},
		"list":       func(items ...any) []any { return items },
		"quote":      func(v string) string { return strconv.Quote(v) },
		"trunc":      func(n int, v string) string { return v[:min(n, len(v))] },
		"trimSuffix": func(suffix, v string) string { return strings.TrimSuffix(v, suffix) },
		"sha256sum": func(v string) string {
			sum := sha256.Sum256([]byte(v))
			return hex.EncodeToString(sum[:])
		},
	}
}

// render renders the templates, with values over the chart's own. It returns the texts by file.
func (c *chart) render(t *testing.T, over map[string]any) map[string]string {
	t.Helper()
	version := c.meta["appVersion"].(string)
	data := map[string]any{
		"Values":  merged(c.values, over),
		"Chart":   map[string]any{"AppVersion": version},
		"Release": map[string]any{"Name": "penstock", "Namespace": "penstock"},
	}
	out := make(map[string]string)
	for _, one := range c.templates.Templates() {
		if filepath.Ext(one.Name()) != ".yaml" {
			continue
		}
		var text strings.Builder
		if err := one.Execute(&text, data); err != nil {
			t.Fatal(err)
		}
		if rendered := strings.TrimSpace(text.String()); rendered != "" {
			out[one.Name()] = rendered + "\n"
		}
	}
	return out
}

// merged returns a tree of values, overridden by another one.
func merged(under, over map[string]any) map[string]any {
	out := make(map[string]any, len(under))
	for key, value := range under {
		out[key] = value
	}
	for key, value := range over {
		below, isTree := out[key].(map[string]any)
		if tree, ok := value.(map[string]any); ok && isTree {
			value = merged(below, tree)
		}
		out[key] = value
	}
	return out
}

// objects decodes the documents of a text.
func objects(t *testing.T, text string) []map[string]any {
	t.Helper()
	var all []map[string]any
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var one map[string]any
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		if one != nil {
			all = append(all, one)
		}
	}
}

// TestHelmChart_Values: the schema accepts the chart's own values, and refuses common mistakes.
func TestHelmChart_Values(t *testing.T) {
	c := newChart(t)
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(readDeploy(t, "helm/penstock/values.schema.json")))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("values.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(over map[string]any) error {
		text, err := json.Marshal(merged(c.values, over))
		if err != nil {
			t.Fatal(err)
		}
		values, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(values)
	}
	if err := validate(nil); err != nil {
		t.Errorf("its own values: %v", err)
	}
	for name, over := range map[string]map[string]any{
		"a misspelt key":            {"gatewey": map[string]any{}},
		"a misspelt key below":      {"gateway": map[string]any{"replica": 2}},
		"no replicas":               {"worker": map[string]any{"replicas": 0}},
		"the latest tag":            {"image": map[string]any{"tag": "latest"}},
		"a digest that is none":     {"image": map[string]any{"digest": "sha256:12"}},
		"a secret among settings":   {"settings": map[string]any{"redis-password": "s3cret"}},
		"settings by their env":     {"settings": map[string]any{"PENSTOCK_REDIS": "r:6379"}},
		"a count that is a text":    {"gateway": map[string]any{"replicas": "3"}},
		"a type of service of none": {"service": map[string]any{"type": "ExternalName"}},
	} {
		if err := validate(over); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// chartCases are values under which the chart is rendered.
var chartCases = map[string]string{
	"as it is":  "{}",
	"kustomize": "{kustomize: true}",
	"the least": "{secrets: {tls: ''}, gateway: {autoscaling: {enabled: false}}, networkPolicy: {enabled: false}, migrate: {enabled: false}}",
	"the most": `
image: {repository: registry.example.com/penstock, digest: "sha256:` + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" + `"}
imagePullSecrets: [pull]
service: {type: LoadBalancer, annotations: {a: b}}
gateway:
  nodeSelector: {pool: sale}
  tolerations: [{key: sale, operator: Exists}]
  podAnnotations: {a: b}
  autoscaling: {metrics: [{type: Pods, pods: {metric: {name: penstock_http_in_flight_requests}, target: {type: AverageValue, averageValue: "1000"}}}]}
networkPolicy:
  public: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress}}}]
  admin: []
`,
}

// TestHelmChart_Renders: with all these values, the chart makes objects with unique names. If helm
// is installed, it makes the same objects.
func TestHelmChart_Renders(t *testing.T) {
	c := newChart(t)
	helm, noHelm := exec.LookPath("helm")
	for name, text := range chartCases {
		t.Run(name, func(t *testing.T) {
			var over map[string]any
			if err := yaml.Unmarshal([]byte(text), &over); err != nil {
				t.Fatal(err)
			}
			ours := make(map[string]map[string]any)
			for _, rendered := range c.render(t, over) {
				for _, one := range objects(t, rendered) {
					if ours[nameOf(one)] != nil {
						t.Errorf("%s is there twice", nameOf(one))
					}
					ours[nameOf(one)] = one
				}
			}
			if noHelm != nil {
				return
			}
			values := filepath.Join(t.TempDir(), "values.yaml")
			if err := os.WriteFile(values, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			run := exec.Command(helm, "template", "penstock", chartDir, "--namespace", "penstock", "--kube-version", "1.34", "-f", values)
			out, err := run.Output()
			if err != nil {
				t.Fatal(err)
			}
			theirs := make(map[string]map[string]any)
			for _, one := range objects(t, string(out)) {
				theirs[nameOf(one)] = one
			}
			withoutChecksums(ours, theirs) // toYaml sorts and wraps the text in its own way
			if !reflect.DeepEqual(ours, theirs) {
				t.Errorf("helm renders\n%v\nand the test\n%v", theirs, ours)
			}
		})
	}
}

// withoutChecksums removes the settings' checksums and their text from objects.
func withoutChecksums(all ...map[string]map[string]any) {
	for _, objects := range all {
		for _, one := range objects {
			if annotations, ok := dig(one, "spec", "template", "metadata", "annotations").(map[string]any); ok {
				delete(annotations, "checksum/settings")
			}
			if data, ok := one["data"].(map[string]any); ok {
				var settings any
				if err := yaml.Unmarshal([]byte(data["penstock.yaml"].(string)), &settings); err == nil {
					data["penstock.yaml"] = settings
				}
			}
		}
	}
}

// nameOf is the kind and name of an object.
func nameOf(object map[string]any) string {
	name, _ := dig(object, "metadata", "name").(string)
	kind, _ := object["kind"].(string)
	return kind + "/" + name
}

// dig follows keys into a tree. It returns nil if a key is missing.
func dig(tree any, keys ...string) any {
	for _, key := range keys {
		m, ok := tree.(map[string]any)
		if !ok {
			return nil
		}
		tree = m[key]
	}
	return tree
}

// TestKubernetes_IsTheChart: the plain manifests are the chart's output.
func TestKubernetes_IsTheChart(t *testing.T) {
	c := newChart(t)
	want := make(map[string]string)
	for name, text := range c.render(t, map[string]any{"kustomize": true}) {
		if name == "migrate.yaml" {
			name = "migrate/job.yaml" // it is applied before the others, and can't be changed
		}
		want[name] = "# Written from deploy/helm/penstock by a test: go test ./cmd/penstock -run TestKubernetes -update\n" + text
	}
	settings, err := c.functions()["toYaml"].(func(any) (string, error))(c.values["settings"])
	if err != nil {
		t.Fatal(err)
	}
	want["penstock.yaml"] = "# Settings, as docs/reference/settings.md has them: change them to your own.\n" + settings + "\n"
	for name, text := range want {
		path := filepath.Join(deployDir, "kubernetes", name)
		if *updatePages {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Errorf("deploy/kubernetes/%s is not what the chart makes (%v): go test ./cmd/penstock -run TestKubernetes -update", name, err)
		}
	}
	for folder, own := range map[string]string{".": "namespace.yaml", "migrate": ""} {
		var kustomization struct {
			Resources []string
		}
		if err := yaml.Unmarshal([]byte(readDeploy(t, "kubernetes/"+folder+"/kustomization.yaml")), &kustomization); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(deployDir, "kubernetes", folder, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			name := filepath.Base(file)
			if name == "kustomization.yaml" || name == "penstock.yaml" {
				continue
			}
			if _, rendered := want[filepath.Join(folder, name)]; !rendered && name != own {
				t.Errorf("%s comes from no template", file)
			}
			if !slices.Contains(kustomization.Resources, name) {
				t.Errorf("%s is in no kustomization", file)
			}
		}
	}
}

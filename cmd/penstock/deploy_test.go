package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// These tests use no container engine. Without one, they can check that the binary understands the
// settings in these files.

const deployDir = "../../deploy"

// understood loads the configuration from a command line and an environment, as the command would.
func understood(t *testing.T, args []string, environ map[string]string) Config {
	t.Helper()
	cmd, rest, err := rootCommand().Find(args)
	if err != nil {
		t.Fatalf("penstock %q: %v", args, err)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Fatalf("penstock %q: %v", args, err)
	}
	for name := range environ {
		if strings.HasPrefix(name, "PENSTOCK_") && !slices.ContainsFunc(allSettings(), func(s setting) bool { return s.env() == name }) {
			t.Errorf("penstock %q: no setting is %s", args, name)
		}
	}
	config, err := loadConfig(cmd.Flags(), func(name string) string { return environ[name] })
	if err != nil {
		t.Errorf("penstock %q with %v: %v", args, environ, err)
	}
	return config
}

func readDeploy(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// composeService has the parts of a service of compose.yaml that the test reads.
type composeService struct {
	Image       string                           `yaml:"image"`
	Build       struct{ Args map[string]string } `yaml:"build"`
	Command     []string                         `yaml:"command"`
	Environment map[string]string                `yaml:"environment"`
	Volumes     []string                         `yaml:"volumes"`
	DependsOn   map[string]any                   `yaml:"depends_on"`
	Healthcheck map[string]any                   `yaml:"healthcheck"`
	ReadOnly    bool                             `yaml:"read_only"`
}

// TestCompose: compose starts the servers first, then two gateways and two workers, with settings
// that the binary understands.
func TestCompose(t *testing.T) {
	var file struct {
		Services map[string]composeService `yaml:"services"`
		Volumes  map[string]any            `yaml:"volumes"`
	}
	if err := yaml.Unmarshal([]byte(readDeploy(t, "compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	others, roles := otherImages(t), make(map[string]int)
	for name, s := range file.Services {
		for _, volume := range s.Volumes {
			if volume, _, _ := strings.Cut(volume, ":"); !slices.Contains(keysOf(file.Volumes), volume) {
				t.Errorf("%s: volume %s is not declared", name, volume)
			}
		}
		if s.Image != "penstock" {
			if image := others[strings.Trim(s.Image, "${}")]; image == "" {
				t.Errorf("%s: image %s is not of deploy/.env", name, s.Image)
			}
			if s.Healthcheck == nil {
				t.Errorf("%s: nobody knows when it is ready", name)
			}
			continue
		}
		roles[s.Command[0]]++
		for name, value := range s.Environment {
			if strings.HasPrefix(value, "${") { // a variable of the user who starts compose
				s.Environment[name] = strings.Repeat("x", 32)
			}
		}
		config := understood(t, s.Command, s.Environment)
		if !config.Real() || config.AdminToken == "" || !s.ReadOnly {
			t.Errorf("%s: %+v", name, config)
		}
		for _, server := range []string{"redis", "kafka", "postgres"} {
			if _, ok := s.DependsOn[server]; !ok {
				t.Errorf("%s doesn't wait for %s", name, server)
			}
		}
		for _, addr := range append(config.Redis, config.Kafka...) {
			if host, _, _ := strings.Cut(addr, ":"); file.Services[host].Image == "" {
				t.Errorf("%s: no service is %s", name, addr)
			}
		}
	}
	if roles["gateway"] != 2 || roles["worker"] != 2 || len(roles) != 2 {
		t.Errorf("services by role: %v", roles)
	}
}

// otherImages returns the images of deploy/.env, by their variables.
func otherImages(t *testing.T) map[string]string {
	t.Helper()
	images := make(map[string]string)
	for _, m := range regexp.MustCompile(`(?m)^([A-Z]+_IMAGE)=(.*)$`).FindAllStringSubmatch(readDeploy(t, ".env"), -1) {
		images[m[1]] = m[2]
	}
	return images
}

// TestImages: every foreign image has a version or a digest, and is named in one place.
func TestImages(t *testing.T) {
	images := otherImages(t)
	pinned := regexp.MustCompile(`^[a-z./]+:\d[\w.-]*(@sha256:[0-9a-f]{64})?$`)
	for name, image := range images {
		if !pinned.MatchString(image) {
			t.Errorf("%s: %s has no version", name, image)
		}
		used := strings.Contains(readDeploy(t, "compose.yaml"), "${"+name+"}")
		if !used {
			t.Errorf("compose.yaml uses no %s", name)
		}
	}
	if len(images) != 4 {
		t.Errorf("images: %v", images)
	}
	if !strings.Contains(readDeploy(t, "Dockerfile"), "\nARG GOLANG_IMAGE="+images["GOLANG_IMAGE"]+"\n") {
		t.Error("the Dockerfile and .env differ about Go's image")
	}
}

// TestPinImages: the script writes digests behind the tags, in both files. A second run writes them
// again. A wrong answer of a registry changes nothing.
func TestPinImages(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"pin-images", ".env", "Dockerfile"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(readDeploy(t, name)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	registry := func(answer string) {
		t.Helper()
		script := "#!/bin/sh\ncase \"$*\" in\n*version) ;;\n*@*) echo asked for a digest >&2; exit 1 ;;\n*inspect*) echo " + answer + " ;;\nesac\n"
		if err := os.WriteFile(filepath.Join(bin, "docker"), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	pin := func(args ...string) error {
		run := exec.Command(filepath.Join(dir, "pin-images"), args...)
		run.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		return run.Run()
	}
	read := func() string {
		t.Helper()
		var all string
		for _, name := range []string{".env", "Dockerfile"} {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			all += string(text)
		}
		return all
	}
	first, second := "sha256:"+strings.Repeat("1", 64), "sha256:"+strings.Repeat("2", 64)
	for _, digest := range []string{first, second} {
		registry(digest)
		if err := pin(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(read(), "@"+digest+"\n"); got != 5 {
			t.Errorf("%d images have the digest, want 4 in .env and 1 in the Dockerfile:\n%s", got, read())
		}
		if err := pin("check"); err != nil {
			t.Errorf("pinned images: %v", err)
		}
	}
	before := read()
	registry("Unauthorized")
	if err := pin(); err == nil || read() != before {
		t.Errorf("a registry that refuses: %v, %s", err, read())
	}
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("REDIS_IMAGE=redis:7.4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := pin("check"); err == nil {
		t.Error("an image without a digest passes the check")
	}
}

func keysOf(m map[string]any) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	return keys
}

// TestDockerfile: it is built with the Go version of go.mod. It runs as an unprivileged user, with
// only its own files. The binary understands its command and its health check.
func TestDockerfile(t *testing.T) {
	text := strings.ReplaceAll(readDeploy(t, "Dockerfile"), "\\\n", " ")
	module, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(module)[1]
	var stages []string
	environ, last := make(map[string]string), make(map[string]string)
	for _, line := range strings.Split(text, "\n") {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		switch word {
		case "FROM":
			stages, last = append(stages, rest), make(map[string]string)
		case "ENV":
			for _, pair := range strings.Fields(rest) {
				key, value, _ := strings.Cut(pair, "=")
				environ[key] = value
			}
		case "COPY":
			if source, ok := strings.CutPrefix(rest, "--from="); ok && !strings.HasPrefix(source, "build ") {
				t.Errorf("COPY from %s", source)
			}
		}
		last[word] = rest
	}
	golang := regexp.MustCompile(`^golang:` + regexp.QuoteMeta(string(version)) + `\.\d+-`)
	if !golang.MatchString(otherImages(t)["GOLANG_IMAGE"]) {
		t.Errorf("built with %s, and go.mod asks for Go %s", otherImages(t)["GOLANG_IMAGE"], version)
	}
	if !slices.Equal(stages, []string{"${GOLANG_IMAGE} AS build", "scratch"}) {
		t.Errorf("stages %q", stages)
	}
	if last["USER"] != "65532:65532" || last["STOPSIGNAL"] != "SIGTERM" || last["EXPOSE"] != "8080 8081" {
		t.Errorf("the last stage: %v", last)
	}
	words := func(list string) []string {
		t.Helper()
		var out []string
		if err := yaml.Unmarshal([]byte(list), &out); err != nil { // a list in JSON is one in YAML
			t.Fatalf("%s: not in exec form: %v", list, err)
		}
		return out
	}
	if entry := words(last["ENTRYPOINT"]); !slices.Equal(entry, []string{"/penstock"}) {
		t.Errorf("entry point %q", entry)
	}
	config := understood(t, words(last["CMD"]), environ)
	if config.Listen != "0.0.0.0:8080" || config.AdminListen != "0.0.0.0:8081" || config.DataDir != "/data" {
		t.Errorf("settings %+v", config)
	}
	_, probe, _ := strings.Cut(last["HEALTHCHECK"], "CMD ")
	args := words(probe)
	cmd, rest, err := rootCommand().Find(args[1:])
	if err != nil || cmd.Name() != "healthcheck" {
		t.Fatalf("health check %q: %v", args, err)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Error(err)
	}
}

// TestDockerfile_HasTheSources: no source file of the binary is excluded from the build, and the
// variables that the linker sets exist.
func TestDockerfile_HasTheSources(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-f", "{{if .Module}}{{if .Module.Main}}{{.Dir}}{{end}}{{end}}", ".")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	ignored := strings.Fields(readDeploy(t, "Dockerfile.dockerignore"))
	for dir := range strings.FieldsSeq(string(out)) {
		name, err := filepath.Rel(root, dir)
		if err != nil {
			t.Fatal(err)
		}
		if first, _, _ := strings.Cut(filepath.ToSlash(name), "/"); slices.Contains(ignored, first) {
			t.Errorf("the build needs %s, and Dockerfile.dockerignore leaves %s out", name, first)
		}
	}
	main, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`-X main\.(\w+)=`).FindAllStringSubmatch(readDeploy(t, "Dockerfile"), -1) {
		if !regexp.MustCompile(`(?m)^var (\w+, )*` + m[1] + `(, \w+)* string$`).Match(main) {
			t.Errorf("the Dockerfile sets main.%s, which is no variable", m[1])
		}
	}
}

// TestSystemdUnits: the binary understands their commands. If systemd is installed, it understands
// the units.
func TestSystemdUnits(t *testing.T) {
	for _, role := range []string{"gateway", "worker"} {
		t.Run(role, func(t *testing.T) {
			const binary = "/usr/local/bin/penstock"
			text := readDeploy(t, "systemd/penstock-"+role+".service")
			start := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(text)
			if start == nil || !strings.HasPrefix(start[1], binary+" "+role+" ") {
				t.Fatalf("ExecStart %q", start)
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "penstock.yaml")
			settings := "redis: r:6379\nkafka: k:9092\ndatabase: postgres://d/penstock?sslmode=verify-full\n"
			if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
				t.Fatal(err)
			}
			args := strings.Fields(strings.Replace(start[1], "/etc/penstock/penstock.yaml", file, 1))
			if config := understood(t, args[1:], nil); !config.Real() || config.DataDir != "/var/lib/penstock-"+role {
				t.Errorf("settings %+v", config)
			}
			analyze, err := exec.LookPath("systemd-analyze")
			if err != nil {
				return
			}
			self, err := os.Executable() // systemd checks that the program exists
			if err != nil {
				t.Fatal(err)
			}
			unit := filepath.Join(dir, "penstock-"+role+".service")
			if err := os.WriteFile(unit, []byte(strings.ReplaceAll(text, binary, self)), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(analyze, "verify", unit).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("systemd-analyze verify: %v\n%s", err, out)
			}
		})
	}
}

// TestDebianPackage: the files that it installs exist, its example of settings is valid, and its
// services start the installed binary.
func TestDebianPackage(t *testing.T) {
	var file struct {
		Contents []struct{ Src, Dst, Type string }
		Scripts  map[string]string
	}
	if err := yaml.Unmarshal([]byte(readDeploy(t, "deb/nfpm.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	installed := make(map[string]string)
	for _, c := range file.Contents {
		installed[c.Dst] = c.Src
		if staged, ok := strings.CutPrefix(c.Src, "${STAGE}/"); ok {
			if staged != "penstock" && !fileExists(filepath.Join(deployDir, "systemd", staged)) {
				t.Errorf("%s is made of nothing", c.Dst)
			}
		} else if !fileExists(filepath.Join("../..", c.Src)) {
			t.Errorf("%s: there is no %s", c.Dst, c.Src)
		}
	}
	for name, script := range file.Scripts {
		if !fileExists(filepath.Join("../..", script)) {
			t.Errorf("%s: there is no %s", name, script)
		}
	}
	for _, path := range []string{"/usr/bin/penstock", "/etc/penstock/penstock.yaml", "/etc/penstock/secrets"} {
		if installed[path] == "" {
			t.Errorf("%s is not installed", path)
		}
	}
	environ := make(map[string]string)
	for _, m := range regexp.MustCompile(`(?m)^#(PENSTOCK_\w+)=`).FindAllStringSubmatch(readDeploy(t, "deb/secrets"), -1) {
		environ[m[1]] = strings.Repeat("x", 32)
	}
	environ["PENSTOCK_DATABASE"] = "postgres://penstock_app@db/penstock?sslmode=verify-full"
	environ["PENSTOCK_KAFKA_PASSWORD"] = "" // without a user
	settings := strings.NewReplacer("# redis:", "redis:", "# kafka:", "kafka:", "# listen:", "listen:").Replace(readDeploy(t, "deb/penstock.yaml"))
	path := filepath.Join(t.TempDir(), "penstock.yaml")
	if err := os.WriteFile(path, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	if config := understood(t, []string{"gateway", "--config", path}, environ); !config.Real() || config.Listen != "0.0.0.0:8080" || !config.KeepSchema {
		t.Errorf("settings %+v", config)
	}
}

// TestRelease: the chart, the manifests and the pages have the newest version of the changelog.
func TestRelease(t *testing.T) {
	newest := regexp.MustCompile(`(?m)^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$`).FindStringSubmatch(readDeploy(t, "../CHANGELOG.md"))
	if newest == nil {
		t.Fatal("the changelog has no released version")
	}
	c := newChart(t)
	if c.meta["version"] != newest[1] || c.meta["appVersion"] != newest[1] {
		t.Errorf("the chart is %v of %v, the changelog %s", c.meta["version"], c.meta["appVersion"], newest[1])
	}
	for _, name := range []string{"../docs/deploy.md", "Dockerfile"} {
		for _, m := range regexp.MustCompile(`(?:\?ref=|newTag: |VERSION=|penstock:)v?(\d+\.\d+\.\d+)`).FindAllStringSubmatch(readDeploy(t, name), -1) {
			if m[1] != newest[1] {
				t.Errorf("%s names %s, the changelog %s", name, m[0], newest[1])
			}
		}
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// selfSigned makes a self-signed certificate, and returns its file and the file of its key.
func selfSigned(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "test.crt"), filepath.Join(dir, "test.key")
	for _, f := range []struct {
		path, kind string
		der        []byte
	}{{cert, "CERTIFICATE", der}, {key, "PRIVATE KEY", pkcs8}} {
		if err := os.WriteFile(f.path, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestProductionPage: the configuration file of docs/production.md is valid, and every setting and
// flag that the pages name exists.
func TestProductionPage(t *testing.T) {
	dir := t.TempDir()
	cert, key := selfSigned(t, dir)
	page := readDeploy(t, "../docs/production.md")
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(page)
	if block == nil {
		t.Fatal("no settings in docs/production.md")
	}
	text := strings.NewReplacer("/etc/penstock/ca.pem", cert, "/etc/penstock/client.pem", cert, "/etc/penstock/client.key", key).Replace(block[1])
	file := filepath.Join(dir, "penstock.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config := understood(t, []string{"worker", "--config", file}, map[string]string{
		"PENSTOCK_KAFKA_PASSWORD": "s3cret", "PENSTOCK_REDIS_PASSWORD": "s3cret",
	})
	if exposed := config.Exposed(); len(exposed) != 0 || !config.Real() || !config.KeepSchema {
		t.Errorf("%+v: %q", config, exposed)
	}
	known := make(map[string]bool)
	for _, s := range allSettings() {
		known[s.key], known[s.env()] = true, true
	}
	_, equal, _ := strings.Cut(page, "## What must be equal")
	equal, _, _ = strings.Cut(equal, "\n## ")
	for _, m := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(equal, -1) {
		for _, name := range strings.Split(m[1], ", ") {
			if name = strings.Trim(name, "`"); !strings.Contains(name, " ") && !known[name] {
				t.Errorf("docs/production.md: no setting is %s", name)
			}
		}
	}
	for _, name := range []string{"production.md", "deploy.md", "events.md"} {
		page := readDeploy(t, "../docs/"+name)
		for _, word := range regexp.MustCompile("`(--[a-z-]+)[ `]|(PENSTOCK_[A-Z_]+)").FindAllStringSubmatch(page, -1) {
			if flag, env := strings.TrimPrefix(word[1], "--"), word[2]; !known[flag] && !known[env] {
				t.Errorf("docs/%s: no setting is %s%s", name, word[1], env)
			}
		}
	}
}

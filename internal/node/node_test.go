package node

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var keyHash = sha256.Sum256([]byte("k-1"))

// testConfig returns the configuration of a node on free ports, in its own directory.
func testConfig(t testing.TB) Config {
	t.Helper()
	c := DefaultConfig()
	c.Listen, c.AdminListen, c.DataDir = "127.0.0.1:0", "127.0.0.1:0", t.TempDir()
	c.Gateway.DrainDelay = 0
	return c
}

// start starts a node that stops when the test ends.
func start(t testing.TB, c Config, role Role) *Node {
	t.Helper()
	n, err := Start(t.Context(), c, role, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, n) })
	return n
}

func stop(t testing.TB, n *Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// get asks a node.
func get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer k-1")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// TestNode_EmbeddedWithoutItsDatabase: when the database was removed, or copied without its log,
// the node doesn't silently start a new one.
func TestNode_EmbeddedWithoutItsDatabase(t *testing.T) {
	c := testConfig(t)
	stop(t, start(t, c, RoleGateway|RoleWorker))
	files, err := filepath.Glob(filepath.Join(c.DataDir, "penstock.db*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	_, err = Start(t.Context(), c, RoleGateway|RoleWorker, slog.New(slog.DiscardHandler))
	if fault, ok := errors.AsType[*FaultError](err); !ok || !strings.Contains(fault.Error(), "the database is gone") {
		t.Errorf("started without the database: %v", err)
	}
	if files, err = filepath.Glob(filepath.Join(c.DataDir, "penstock.db*")); err != nil || len(files) != 0 {
		t.Errorf("a database was made: %v, %v", files, err)
	}
}

func TestNode_Embedded(t *testing.T) {
	c := testConfig(t)
	tokens := 0
	c.OnFirstToken = func(string) { tokens++ }
	n := start(t, c, RoleGateway|RoleWorker)
	for _, url := range []string{n.PublicURL(), n.AdminURL()} {
		if status, body := get(t, url+"/livez"); status != 200 {
			t.Errorf("livez: %d %s", status, body)
		}
		status, body := get(t, url+"/readyz?verbose")
		var doc report
		if err := json.Unmarshal([]byte(body), &doc); err != nil || status != 200 || !doc.Ready || doc.Draining || !doc.Shards.allOpen() {
			t.Errorf("readyz: %d %s (%v)", status, body, err)
		}
	}
	if tokens != 1 {
		t.Errorf("%d first tokens were made", tokens)
	}
	stop(t, n)
	again := start(t, c, RoleGateway|RoleWorker)
	if shards, err := again.lookAtShards(t.Context(), 4); err != nil || shards.Open != 4 {
		t.Errorf("after a restart: %+v, %v", shards, err)
	}
	if tokens != 1 {
		t.Errorf("%d first tokens were made in two lives", tokens)
	}
}

// nowhere has addresses of servers that don't answer.
func nowhere(c *Config) {
	c.Redis, c.Kafka, c.Database = []string{"127.0.0.1:1"}, []string{"127.0.0.1:1"}, "postgres://u@127.0.0.1:1/x?sslmode=disable"
}

// keepSettings writes the file of a gateway that knows: no limits and switches were ever set.
func keepSettings(t *testing.T, dir string) {
	t.Helper()
	const content = "{}"
	text := fmt.Sprintf(`{"Sum":"%x","Content":%s}`, sha256.Sum256([]byte(content)), content)
	if err := os.WriteFile(filepath.Join(dir, "settings.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A process starts while all servers are away. It lives, and is ready when it has a catalog and
// settings.
func TestNode_StartsWithoutServers(t *testing.T) {
	c := testConfig(t)
	nowhere(&c)
	t.Run("and without a catalog it isn't ready", func(t *testing.T) {
		n := start(t, c, RoleGateway)
		if status, body := get(t, n.PublicURL()+"/livez"); status != 200 {
			t.Errorf("livez: %d %s", status, body)
		}
		if status, body := get(t, n.PublicURL()+"/readyz"); status != 503 || !strings.Contains(body, "no catalog") {
			t.Errorf("readyz: %d %s", status, body)
		}
	})
	t.Run("and with a kept one it is", func(t *testing.T) {
		k := keptNode{keptCatalog(t), keptRows(16), 8}
		if err := writeKept(filepath.Join(c.DataDir, keptFile), &k); err != nil {
			t.Fatal(err)
		}
		keepSettings(t, c.DataDir)
		n := start(t, c, RoleGateway)
		if status, body := get(t, n.PublicURL()+"/readyz"); status != 200 {
			t.Errorf("readyz: %d %s", status, body)
		}
		if status, body := get(t, n.PublicURL()+"/v1/activities/a"); status != 200 || !strings.Contains(body, `"sku":"x"`) {
			t.Errorf("the activity's page: %d %s", status, body)
		}
		var doc report
		for len(doc.Servers) == 0 { // the first look is in progress
			_, body := get(t, n.PublicURL()+"/readyz?verbose")
			if err := json.Unmarshal([]byte(body), &doc); err != nil || !doc.Ready {
				t.Fatalf("%s: %v", body, err)
			}
		}
		states := map[string]string{}
		for _, s := range doc.Servers {
			states[s.Server] = s.State
		}
		if states["redis"] != serverAway || states["kafka"] == serverOK || states["database"] != serverAway || states["catalog"] != serverOK {
			t.Errorf("%v", states)
		}
	})
}

func TestNode_TakenPort(t *testing.T) {
	c := testConfig(t)
	n := start(t, c, RoleGateway|RoleWorker)
	other := testConfig(t)
	other.Listen = strings.TrimPrefix(n.PublicURL(), "http://")
	if _, err := Start(t.Context(), other, RoleGateway|RoleWorker, slog.New(slog.DiscardHandler)); err == nil || !strings.HasPrefix(err.Error(), "listen:") {
		t.Errorf("a taken port: %v", err)
	}
}

// During the drain delay a node is unready and goes on serving.
func TestNode_DrainDelay(t *testing.T) {
	c := testConfig(t)
	c.Gateway.DrainDelay = 300 * time.Millisecond
	n := start(t, c, RoleGateway|RoleWorker)
	get(t, n.PublicURL()+"/livez") // is answered once it serves
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop(t, n)
	}()
	for !n.health.draining.Load() {
		<-time.After(time.Millisecond)
	}
	if status, body := get(t, n.PublicURL()+"/readyz"); status != 503 || !strings.Contains(body, "draining") {
		t.Errorf("readyz: %d %s", status, body)
	}
	if status, body := get(t, n.AdminURL()+"/readyz?verbose"); status != 503 || !strings.Contains(body, `"draining":true`) {
		t.Errorf("readyz of the admin listener: %d %s", status, body)
	}
	<-stopped
}

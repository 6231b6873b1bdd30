package e2e

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/servers"
)

// contractCases bounds the test: a few cases for each operation are enough to find what a change
// breaks.
var contractCases = flag.Int("contract.cases", 3, "how many requests Schemathesis makes up for each operation")

// TestContract_Schemathesis sends both listeners requests that their contracts allow, forbid and
// link, and checks the answers against the contracts. Rules beyond JSON Schema are in
// testdata/schemathesis/hooks.py.
func TestContract_Schemathesis(t *testing.T) {
	n := start(t, "serve", "--data-dir", t.TempDir())
	s := foundShop(n, "m1", "618-phones")
	n.admin(200, "PUT", "/admin/v1/activities/"+s.activity, s.draft(time.Now().Add(-time.Hour), terms{quantity: 1_000_000, window: "15m"}))
	n.admin(200, "POST", "/admin/v1/activities/"+s.activity+"/publish", "")
	key := n.admin(201, "POST", "/admin/v1/merchants/m1/callers", `{"name":"contract","rights":["buy","merchant"]}`).field("key")
	for _, listener := range []struct{ name, url, token string }{{"public", n.public, key}, {"admin", n.private, adminToken}} {
		t.Run(listener.name, func(t *testing.T) {
			env := []string{"PYTHONPATH=.", "PYTHONDONTWRITEBYTECODE=1", "PENSTOCK_PAYMENT_SECRET=" + s.secret,
				"HYPOTHESIS_STORAGE_DIRECTORY=" + t.TempDir()}
			// A stream of events has no end, and Schemathesis waits for one.
			output, failed := servers.Schemathesis(t, "testdata/schemathesis", env, "run", listener.url+"/openapi.yaml",
				"--header", "Authorization: Bearer "+listener.token, "--checks", "all", "--continue-on-failure", "--no-color", "--no-shrink",
				"--max-examples", fmt.Sprint(*contractCases), "--seed", "1", "--generation-database", "none", "--request-timeout", "30",
				"--exclude-path", "/admin/v1/events")
			if failed {
				t.Errorf("%s", output)
			}
		})
	}
}

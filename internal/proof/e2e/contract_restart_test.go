package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// shell runs the program to its end and returns its output. admin is the listener that its commands
// ask.
func shell(t testing.TB, want int, admin string, args ...string) (stdout, stderr string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var out, messages bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "PENSTOCK_ADMIN_TOKEN="+adminToken, "PENSTOCK_ADMIN="+admin)
	cmd.Stdout, cmd.Stderr = &out, &messages
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != want {
		t.Fatalf("penstock %v: want exit code %d, got %d\n%s%s", args, want, code, out.String(), messages.String())
	}
	return out.String(), messages.String()
}

// TestContractAcrossKills: the answers before a kill -9 and after it are the same, and no other
// user of the machine can read the data.
func TestContractAcrossKills(t *testing.T) {
	dir := t.TempDir()
	n := serve(t, dir)
	s := openShop(n, terms{quantity: 10, perUser: 2, window: "10m"})
	again := []string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", dir}
	if _, stderr := shell(t, 2, "", again...); !strings.Contains(stderr, "data-dir") || !strings.Contains(stderr, "in use") {
		t.Errorf("a second process on the same data: %s", stderr)
	}
	open, paid, cancelled, refund := s.mustBuy(n, "u1", "open"), s.mustBuy(n, "u2", "paid"), s.mustBuy(n, "u3", "cancelled"), s.mustBuy(n, "u4", "refund")
	s.pay(n, "p1", paid, price)
	s.cancel(n, cancelled)
	s.cancel(n, refund)
	s.pay(n, "p2", refund, price)
	const restock = "/admin/v1/activities/618/items/phone-x/restock"
	n.admin(200, "POST", restock, `{"delta":2,"reason":"r"}`, "Idempotency-Key", "r1")
	gone := n.admin(201, "POST", "/admin/v1/merchants/acme/callers", `{"name":"gone","rights":["buy"]}`).field("key")
	n.admin(200, "DELETE", "/admin/v1/merchants/acme/callers/gone", "")
	n.admin(200, "PUT", "/admin/v1/switches/orders", `{"value":"off","scope":{"caller":"acme/gone"},"reason":"r"}`)
	changes := string(n.admin(200, "GET", "/admin/v1/changes?limit=100", "").body)
	accepted, err := s.buy(n, "u5", "k", 1) // and killed at once
	if err != nil || accepted.status != 202 {
		t.Fatalf("%v, %v", accepted, err)
	}
	for range 2 {
		n.kill()
		n = serve(t, dir)
		eventually(t, "ready", func() bool { a, err := call("GET", n.public+"/readyz", ""); return err == nil && a.status == 200 })
		for id, status := range map[string]string{open: "pending_payment", paid: "paid", cancelled: "cancelled", refund: "refund_due"} {
			if a := s.order(n, id); a.field("status") != status {
				t.Errorf("want %s: %v", status, a)
			}
		}
		if a, err := s.buy(n, "u5", "k", 1, "Prefer", "wait=10"); err != nil || a.field("order") != accepted.field("order") || a.status != 201 {
			t.Errorf("accepted before the kill: %v, %v", a, err)
		}
		if a, err := s.buy(n, "u1", "open", 2); err != nil || a.field("code") != "idempotency-key-reused" {
			t.Errorf("a key of before the kill: %v, %v", a, err)
		}
		if a := s.pay(n, "p1", open, price); a.status != 422 {
			t.Errorf("a payment of before the kill: %v", a)
		}
		if a := n.admin(200, "POST", restock, `{"delta":2,"reason":"r"}`, "Idempotency-Key", "r1"); a.header.Get("Idempotent-Replayed") != "true" || a.field("total") != "12" {
			t.Errorf("a restock of before the kill: %v", a)
		}
		if a, err := call("GET", n.public+"/v1/activities/618", "", as(gone)...); err != nil || a.status != 401 {
			t.Errorf("revoked before the kill: %v, %v", a, err)
		}
		if a := n.admin(200, "GET", "/admin/v1/changes?limit=100", ""); string(a.body) != changes {
			t.Errorf("changes: want %s, got %s", changes, a.body)
		}
		if a := n.admin(200, "GET", "/admin/v1/switches", ""); !strings.Contains(string(a.body), "acme/gone") {
			t.Errorf("switches: %v", a)
		}
		if got := s.settled(n); got != (stock{Total: 12, Available: 9, Held: 2, Sold: 1, Balanced: true}) {
			t.Errorf("%+v", got)
		}
	}
	if code := n.end(15); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	if err := os.WriteFile(filepath.Join(dir, "format"), []byte("penstock 99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr := shell(t, 2, "", again...); !strings.Contains(stderr, "data-dir") || !strings.Contains(stderr, "newer version") {
		t.Errorf("data of a newer version: %s", stderr)
	}
}

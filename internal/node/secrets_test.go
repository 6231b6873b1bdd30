package node

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/vault"
	"github.com/penstock/penstock/seckill"
)

// putSecret puts a merchant with a payment secret by the admin API.
func putSecret(t *testing.T, n *Node, merchant, secret string) {
	t.Helper()
	body := strings.NewReader(`{"name":"Shop","payment_secret":"` + secret + `"}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, n.AdminURL()+"/admin/v1/merchants/"+merchant, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+n.cfg.AdminToken)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("put the merchant: %d, %v", response.StatusCode, err)
	}
}

// opened returns a merchant's payment secret as the desk reads it.
func opened(t *testing.T, n *Node, merchant string) string {
	t.Helper()
	secret, err := n.vault.Open(n.sale.Desk.Catalog().Merchant(seckill.MerchantID(merchant)).PaymentSecret, merchant)
	if err != nil {
		t.Error(err)
	}
	return secret
}

func refusedAs(t *testing.T, c Config, want ...string) {
	t.Helper()
	n, err := Start(t.Context(), c, RoleGateway|RoleWorker, slog.New(slog.DiscardHandler))
	if err == nil {
		stop(t, n)
		t.Fatal("it started")
	}
	fault, ok := errors.AsType[*FaultError](err)
	if !ok || !fault.Settings {
		t.Errorf("not a mistake in the settings: %v", err)
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %q", err, text)
		}
	}
}

func TestSecrets_AreEncryptedAtRest(t *testing.T) {
	c := testConfig(t)
	c.AdminToken = "token-of-this-test-0123456789"
	const secret = "whsec-at-rest-0123456789"
	n := start(t, c, RoleGateway|RoleWorker)
	putSecret(t, n, "m1", secret)
	if got := opened(t, n, "m1"); got != secret {
		t.Errorf("opened %q", got)
	}
	stop(t, n)
	err := filepath.WalkDir(c.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s has the secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.DataDir, keyFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("a lost key is told at the start, and not replaced", func(t *testing.T) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		refusedAs(t, c, keyFile+" is missing", "put the file back")
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("there is another key: %v", err)
		}
	})
	t.Run("another key is told at the start", func(t *testing.T) {
		other := c
		other.SecretsKey = vault.NewKey()
		refusedAs(t, other, "secrets-key: payment secrets in the database are encrypted with the key ")
	})
	t.Run("the key may come from the settings, with a newer one in front", func(t *testing.T) {
		other := c
		other.SecretsKey = vault.NewKey() + "\n" + string(key)
		n := start(t, other, RoleGateway|RoleWorker)
		if got := opened(t, n, "m1"); got != secret {
			t.Errorf("opened %q", got)
		}
		putSecret(t, n, "m2", "whsec-two-0123456789")
		stop(t, n)
		other.SecretsKey = string(key) // m2 can't be read any more, and m1 can
		again := start(t, other, RoleGateway|RoleWorker)
		if got := opened(t, again, "m1"); got != secret {
			t.Errorf("opened %q", got)
		}
		if _, err := again.vault.Open(again.sale.Desk.Catalog().Merchant("m2").PaymentSecret, "m2"); !errors.Is(err, vault.ErrNoKey) {
			t.Errorf("the other one: %v", err)
		}
	})
}

func TestConfig_SecretsKeys(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct{ name, key, file, wrong string }{
		{"none", "", "", ""},
		{"a key", vault.NewKey(), "", ""},
		{"a file", "", file("good", vault.NewKey()+"\n"), ""},
		{"both", vault.NewKey(), file("good", vault.NewKey()), "secrets-key-file: secrets-key is set, too"},
		{"no key", "c2hvcnQ=", "", "secrets-key: key 1 is not 32 bytes"},
		{"an empty file", "", file("empty", "# nothing\n"), "secrets-key-file: has no key"},
		{"a missing file", "", filepath.Join(dir, "missing"), "secrets-key-file: open "},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := testConfig(t)
			config.SecretsKey, config.SecretsKeyFile = c.key, c.file
			err := config.Validate()
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%v, want %q", err, c.wrong)
			}
		})
	}
}

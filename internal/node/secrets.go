package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/penstock/penstock/internal/atomicfile"
	"github.com/penstock/penstock/internal/vault"
	"github.com/penstock/penstock/seckill"
)

// keyFile is the name of the key in the data directory of the embedded parts.
const keyFile = "secrets.key"

// openVault opens the keys that encrypt payment secrets at rest, from the settings. Without a key
// the embedded parts make one, and with real servers secrets are stored unencrypted.
func (n *Node) openVault(ctx context.Context) (err error) {
	text, source, err := n.cfg.secretsKeys()
	if err != nil {
		return badSetting(err)
	}
	if source == "" && !n.cfg.Real() {
		source = filepath.Join(n.cfg.DataDir, keyFile)
		if text, err = n.ownKey(ctx, source); err != nil {
			return err
		}
	}
	if source == "" {
		n.log.Warn("not for production", "what", "payment secrets are stored unencrypted: set secrets-key-file")
		return nil
	}
	if n.vault, err = vault.Parse(text); err != nil {
		return badSetting(fmt.Errorf("%s: %w", source, err))
	}
	return nil
}

// secretsKeys returns the keys in the settings, and the name of the setting; both are "" if there
// are none.
func (c *Config) secretsKeys() (text, source string, err error) {
	switch {
	case c.SecretsKey != "" && c.SecretsKeyFile != "":
		return "", "", errors.New("secrets-key-file: secrets-key is set, too: give one of them")
	case c.SecretsKey != "":
		return c.SecretsKey, "secrets-key", nil
	case c.SecretsKeyFile == "":
		return "", "", nil
	}
	raw, err := os.ReadFile(c.SecretsKeyFile)
	if err != nil {
		return "", "", fmt.Errorf("secrets-key-file: %w", err)
	}
	return string(raw), "secrets-key-file", nil
}

// checkSecretsKeys returns the mistake in these settings, or nil.
func (c *Config) checkSecretsKeys() error {
	text, source, err := c.secretsKeys()
	if err == nil && source != "" {
		if _, wrong := vault.Parse(text); wrong != nil {
			err = fmt.Errorf("%s: %w", source, wrong)
		}
	}
	return err
}

// ownKey reads the key of the embedded parts, or makes it. It doesn't replace a lost key, because
// secrets that were encrypted with it could not be read.
func (n *Node) ownKey(ctx context.Context, path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		return string(raw), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("data-dir: %w", err)
	}
	locked, err := lockedSecrets(ctx, n.servers.database, nil)
	if err != nil {
		return "", fmt.Errorf("look for payment secrets: %w", err)
	}
	if len(locked.keys) > 0 {
		return "", badSetting(fmt.Errorf("data-dir: %s is missing, but payment secrets are encrypted with the key %s that was in it: "+
			"put the file back, or set secrets-key-file", path, strings.Join(locked.keys, ", ")))
	}
	key := vault.NewKey()
	text := "# Encrypts the payment secrets in this directory. Keep a copy somewhere else.\n" + key + "\n"
	if err := atomicfile.Write(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("data-dir: %s: %w", path, err)
	}
	return key, nil
}

// locked says which secrets a vault can't decrypt.
type locked struct {
	keys   []string // the keys with which they are encrypted
	opened int      // how many of them it can decrypt
}

func (l *locked) look(m *seckill.Merchant, v *vault.Vault) {
	for _, sealed := range []string{m.PaymentSecret, m.FormerSecret} {
		switch key := vault.KeyOf(sealed); {
		case key == "":
		case slices.Contains(v.Keys(), key):
			l.opened++
		case !slices.Contains(l.keys, key):
			l.keys = append(l.keys, key)
		}
	}
}

// lockedSecrets reads the merchants of a store.
func lockedSecrets(ctx context.Context, store seckill.CatalogStore, v *vault.Vault) (l locked, err error) {
	_, err = store.LoadCatalog(ctx, seckill.CatalogVersion{}, func(bool) {}, func(change seckill.CatalogChange) error {
		if change.Merchant != nil {
			l.look(change.Merchant, v)
		}
		return nil
	})
	return l, err
}

// checkSecrets returns an error if none of the encrypted payment secrets can be read: the process
// has no key, or the key of another installation. If only some can't be read, it logs an error, so
// that the other merchants can work.
func (n *Node) checkSecrets() error {
	var l locked
	for m := range n.sale.Desk.Catalog().Merchants() {
		l.look(m, n.vault)
	}
	switch missing := strings.Join(l.keys, ", "); {
	case len(l.keys) == 0:
		return nil
	case l.opened == 0 && n.vault == nil:
		return badSetting(fmt.Errorf("secrets-key-file: payment secrets in the database are encrypted with the key %s, and this process "+
			"has no key: set secrets-key-file or secrets-key", missing))
	case l.opened == 0:
		return badSetting(fmt.Errorf("%s: payment secrets in the database are encrypted with the key %s, and this process has %s",
			n.cfg.secretsSource(), missing, strings.Join(n.vault.Keys(), ", ")))
	default:
		n.log.Error("some payment secrets can't be read: payment notices for their merchants are answered 503", "missing_keys", missing,
			"known_keys", strings.Join(n.vault.Keys(), ", "))
		return nil
	}
}

// secretsSource is the name of the setting that has the keys.
func (c *Config) secretsSource() string {
	switch {
	case c.SecretsKey != "":
		return "secrets-key"
	case c.SecretsKeyFile != "":
		return "secrets-key-file"
	}
	return "data-dir: " + keyFile
}

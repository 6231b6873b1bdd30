// Package vault encrypts secrets at rest, so that a copy of the database alone doesn't reveal them.
//
//	v, err := vault.Parse(text)          // the content of the key file
//	sealed := v.Seal("whsec-…", "m1")    // what is kept
//	secret, err := v.Open(sealed, "m1")
//
// It is envelope encryption: each secret is encrypted with its own key, and that key with the
// vault's first key. The vault's other keys only decrypt. To change the key, put a new one first,
// and call Rewrap for all sealed texts. Both steps use AES-256-GCM with random nonces. A text that
// is sealed for one owner can't be opened for another.
//
// A nil Vault has no keys: it leaves secrets unencrypted, and can only open such secrets. Vaults
// are safe for concurrent use.
package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Prefix begins every sealed text. A text without it was never sealed.
const Prefix = "sealed:1:"

// keySize is the size of every key, in bytes.
const keySize = 32

// Answers of a vault.
var (
	// ErrNoKey means that a secret is sealed with a key that the vault doesn't have.
	ErrNoKey = errors.New("no key")
	// ErrDamaged means that a sealed text is damaged, or was sealed for another owner.
	ErrDamaged = errors.New("can't be opened: it is damaged, or of another owner")
)

// Vault has the keys.
type Vault struct{ keys []key }

type key struct {
	id    string
	block cipher.AEAD
}

// NewKey returns a random key, in the form that Parse reads.
func NewKey() string {
	raw := make([]byte, keySize)
	rand.Read(raw) // never fails
	return base64.StdEncoding.EncodeToString(raw)
}

// Parse reads keys, one on each line, or separated by commas: 32 bytes each, in base64 or hex. The
// first one seals. Empty lines and those that begin with # are ignored. The error never has a key.
func Parse(text string) (*Vault, error) {
	v := new(Vault)
	number := 0
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == ',' || r == '\r' }) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		number++
		raw, err := hex.DecodeString(line)
		if err != nil {
			raw, err = base64.StdEncoding.DecodeString(line)
		}
		if err != nil || len(raw) != keySize {
			return nil, fmt.Errorf("key %d is not %d bytes in base64 or hex: make one by openssl rand -base64 %d", number, keySize, keySize)
		}
		k := key{id: idOf(raw), block: newBlock(raw)}
		for _, other := range v.keys {
			if other.id == k.id {
				return nil, fmt.Errorf("key %d is there twice", number)
			}
		}
		v.keys = append(v.keys, k)
	}
	if len(v.keys) == 0 {
		return nil, errors.New("has no key: make one by openssl rand -base64 32")
	}
	return v, nil
}

// idOf names a key by a digest, which reveals nothing about a random key.
func idOf(raw []byte) string {
	sum := sha256.Sum256(append([]byte("penstock secrets key "), raw...))
	return hex.EncodeToString(sum[:4])
}

// newBlock makes AES-256-GCM from a key of keySize bytes.
func newBlock(raw []byte) cipher.AEAD {
	block, err := aes.NewCipher(raw)
	if err == nil {
		var aead cipher.AEAD
		if aead, err = cipher.NewGCMWithRandomNonce(block); err == nil {
			return aead
		}
	}
	panic("vault: " + err.Error())
}

// Keys returns the ids of the keys; the first one seals.
func (v *Vault) Keys() []string {
	if v == nil {
		return nil
	}
	ids := make([]string, len(v.keys))
	for i := range v.keys {
		ids[i] = v.keys[i].id
	}
	return ids
}

// IsSealed reports whether text was sealed.
func IsSealed(text string) bool { return strings.HasPrefix(text, Prefix) }

// KeyOf returns the id of the key with which text is sealed, or "" if it was never sealed.
func KeyOf(text string) string {
	rest, ok := strings.CutPrefix(text, Prefix)
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, ":")
	return id
}

// Seal encrypts an owner's secret with a new key of its own.
func (v *Vault) Seal(secret, owner string) string {
	if v == nil {
		return secret
	}
	own := make([]byte, keySize)
	rand.Read(own) // never fails
	data := newBlock(own).Seal(nil, nil, []byte(secret), []byte(owner))
	return v.wrap(own, base64.RawURLEncoding.EncodeToString(data), owner)
}

// wrap puts the secret's own key, encrypted, before the secret.
func (v *Vault) wrap(own []byte, data, owner string) string {
	k := &v.keys[0]
	wrapped := k.block.Seal(nil, nil, own, []byte("key of "+owner))
	return Prefix + k.id + ":" + base64.RawURLEncoding.EncodeToString(wrapped) + ":" + data
}

// Open decrypts a sealed text; a text that was never sealed is returned unchanged.
func (v *Vault) Open(text, owner string) (string, error) {
	if !IsSealed(text) {
		return text, nil
	}
	own, data, err := v.unwrap(text, owner)
	if err != nil {
		return "", err
	}
	sealed, err := base64.RawURLEncoding.DecodeString(data)
	if err != nil {
		return "", ErrDamaged
	}
	secret, err := newBlock(own).Open(nil, nil, sealed, []byte(owner))
	if err != nil {
		return "", ErrDamaged
	}
	return string(secret), nil
}

// unwrap returns a secret's own key, and the secret in the form that this key encrypted.
func (v *Vault) unwrap(text, owner string) (own []byte, data string, err error) {
	parts := strings.Split(strings.TrimPrefix(text, Prefix), ":")
	if len(parts) != 3 {
		return nil, "", ErrDamaged
	}
	wrapped, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, "", ErrDamaged
	}
	if v != nil {
		for i := range v.keys {
			if v.keys[i].id != parts[0] {
				continue
			}
			own, err := v.keys[i].block.Open(nil, nil, wrapped, []byte("key of "+owner))
			if err != nil || len(own) != keySize {
				return nil, "", ErrDamaged
			}
			return own, parts[2], nil
		}
	}
	return nil, "", fmt.Errorf("%w %s: it is not in secrets-key or secrets-key-file", ErrNoKey, parts[0])
}

// Rewrap returns text sealed with the first key. A text that is sealed with it already is returned
// unchanged; a text that was never sealed is sealed. The secret itself is not decrypted.
func (v *Vault) Rewrap(text, owner string) (string, error) {
	switch {
	case v == nil || text == "" || KeyOf(text) == v.keys[0].id:
		return text, nil
	case !IsSealed(text):
		return v.Seal(text, owner), nil
	}
	own, data, err := v.unwrap(text, owner)
	if err != nil {
		return "", err
	}
	return v.wrap(own, data, owner), nil
}

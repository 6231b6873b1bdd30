package settings

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// secretMember is the member of a document, at any depth, whose value must not be recorded.
const secretMember = "secret"

// Recorded returns the bodies before and after a change as the record of changes has them: without
// secrets. Each secret is replaced by a mark, which shows only whether both sides have the same
// secret. It is an HMAC with a key that is thrown away.
func Recorded(before, after []byte) (was, is string, err error) {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	var out [2]string
	for i, body := range [][]byte{before, after} {
		if !bytes.Contains(body, []byte(`"`+secretMember+`"`)) {
			out[i] = string(body)
			continue
		}
		var document any
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.UseNumber()
		if err := decoder.Decode(&document); err != nil {
			return "", "", fmt.Errorf("record a change: %w", err)
		}
		markSecrets(document, key)
		text, err := json.Marshal(document)
		if err != nil {
			return "", "", fmt.Errorf("record a change: %w", err)
		}
		out[i] = string(text)
	}
	return out[0], out[1], nil
}

// markSecrets replaces secrets by marks.
func markSecrets(value any, key []byte) {
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			markSecrets(element, key)
		}
	case map[string]any:
		for name, member := range v {
			if secret, ok := member.(string); ok && name == secretMember {
				mac := hmac.New(sha256.New, key)
				mac.Write([]byte(secret))
				v[name] = "not recorded " + hex.EncodeToString(mac.Sum(nil)[:8])
				continue
			}
			markSecrets(member, key)
		}
	}
}

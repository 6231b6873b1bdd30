package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// TestKeys_RolledUnderLoad: a caller's key is rolled three times while buyers press. No request
// fails; one that a busy machine refuses is sent again, as its answer says. The caller stays the
// same. Each later key can read an order of the first key, a repeat of its Idempotency-Key finds
// that order, and the last key cancels it.
func TestKeys_RolledUnderLoad(t *testing.T) {
	const buyers, rolls = 4, 3
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 1_000_000, perUser: 0, window: "10m"})
	first := s.mustBuy(n, "u-first", "k-first")
	keys := "/admin/v1/merchants/" + s.merchant + "/callers/web/keys"

	var current atomic.Pointer[string] // the key that requests are sent with
	current.Store(&s.key)
	var sent [buyers]atomic.Pointer[string] // the key of each buyer's request in progress
	var bought atomic.Int64
	stop := make(chan struct{})
	var crowd sync.WaitGroup
	halt := sync.OnceFunc(func() {
		close(stop)
		crowd.Wait()
	})
	defer halt()
	for b := range buyers {
		crowd.Go(func() {
			for done := 0; ; {
				select {
				case <-stop:
					return
				default:
				}
				buyer := *s // with the key of now
				key := current.Load()
				sent[b].Store(key)
				buyer.key = *key
				user := fmt.Sprintf("u-%d-%d", b, done)
				switch a, err := buyer.buy(n, user, fmt.Sprintf("k-%d-%d", b, done), 1); {
				case err == nil && a.status == http.StatusServiceUnavailable:
				case err == nil && (a.status == http.StatusAccepted || a.status == http.StatusCreated):
					bought.Add(1)
					done++
				default:
					t.Errorf("buyer %d, purchase %d: %v, %v", b, done, a, err)
					return
				}
			}
		})
	}
	oldID := keyIDs(n, keys)[0]
	for roll := range rolls {
		before := bought.Load()
		made := n.admin(201, "POST", keys, "")
		fresh := made.field("key")
		current.Store(&fresh)
		// The old key is revoked when no request uses it any more, as its owner would do it.
		eventually(t, "all requests carry the new key", func() bool {
			for b := range sent {
				if sent[b].Load() != &fresh {
					return t.Failed()
				}
			}
			return true
		})
		everywhere(t, n.admin(200, "DELETE", keys+"/"+oldID, ""), 1)
		old := *s
		eventually(t, "the old key is refused", func() bool { return old.order(n, first).status == http.StatusUnauthorized })
		eventually(t, "buyers go on", func() bool { return bought.Load() >= before+100 || t.Failed() })
		s.key, oldID = fresh, made.field("key_id")

		if a := s.order(n, first); a.status != http.StatusOK || a.field("order") != first || a.field("status") != "pending_payment" {
			t.Fatalf("roll %d: the order of the first key reads %v", roll, a)
		}
		a, err := s.buy(n, "u-first", "k-first", 1)
		if err != nil || a.field("order") != first || a.header.Get("Idempotent-Replayed") != "true" {
			t.Fatalf("roll %d: the repeat is answered %v, %v", roll, a, err)
		}
	}
	halt()
	if a := s.cancel(n, first); a.status != http.StatusOK || a.field("status") != "cancelled" {
		t.Fatalf("cancel with the last key: %v", a)
	}
	if got, want := s.settled(n), int(bought.Load()); got.Held != want || got.Rejected != 0 {
		t.Fatalf("%d were bought: %+v", want, got)
	}
}

// keyIDs returns the ids of a caller's keys.
func keyIDs(n *node, path string) (ids []string) {
	n.t.Helper()
	var doc struct {
		Keys []struct {
			ID string `json:"key_id"`
		}
	}
	if a := n.admin(200, "GET", path, ""); json.Unmarshal(a.body, &doc) != nil || len(doc.Keys) == 0 {
		n.t.Fatalf("keys: %v", a)
	}
	for _, key := range doc.Keys {
		ids = append(ids, key.ID)
	}
	return ids
}

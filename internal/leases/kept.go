package leases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"

	"github.com/penstock/penstock/internal/atomicfile"
	"github.com/penstock/penstock/limiter"
)

// Kept is a pool that remembers in a file how much of its day's quota each key has used, for a
// Redis that forgets with its process. It is safe for concurrent use.
type Kept struct {
	pool limiter.Pool // fixed
	path string       // fixed

	mu    sync.Mutex
	days  map[string]limiter.DayUse // guarded by mu
	fresh bool                      // days has changes that the file doesn't have; guarded by mu
	last  int64                     // the latest day; guarded by mu
	swept int64                     // the latest day on which older ones were dropped; guarded by mu
	full  int64                     // keys that found no room; guarded by mu
}

// MaxKept is how many keys are remembered. Other keys begin at zero when the process starts.
const MaxKept = 1 << 16

// maxKeptBytes bounds the file that is read.
const maxKeptBytes = 64 << 20

// Keep returns a pool that goes on where the file was written last. There may be none yet.
func Keep(pool limiter.Pool, path string) (*Kept, error) {
	k := &Kept{pool: pool, path: path, days: make(map[string]limiter.DayUse)}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil && info.Size() > maxKeptBytes {
		err = fmt.Errorf("%d bytes are more than it can have", info.Size())
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err == nil {
		err = json.Unmarshal(text, &k.days)
	}
	if err != nil {
		return nil, fmt.Errorf("read the days' quotas: %w", err)
	}
	for _, u := range k.days {
		k.last = max(k.last, u.Day)
	}
	return k, nil
}

// Exchange implements limiter.Pool.
func (k *Kept) Exchange(ctx context.Context, asks []limiter.Ask) error {
	k.mu.Lock()
	for i := range asks {
		a := &asks[i]
		if u := k.days[a.Key]; a.Quota > 0 && u.Newer(a.Known) {
			a.Known = u
		}
	}
	k.mu.Unlock()
	if err := k.pool.Exchange(ctx, asks); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range asks {
		if a := &asks[i]; a.Quota > 0 {
			k.remember(a.Key, a.Usage)
		}
	}
	return nil
}

// remember records a key's day. The caller holds mu.
func (k *Kept) remember(key string, u limiter.DayUse) {
	before, known := k.days[key]
	if known && before == u || !known && u.Granted == 0 {
		return
	}
	k.last = max(k.last, u.Day)
	if !known && len(k.days) >= MaxKept && k.swept < k.last {
		k.swept = k.last
		// Zones are at most a day apart.
		maps.DeleteFunc(k.days, func(_ string, old limiter.DayUse) bool { return old.Day < k.last-1 })
	}
	if !known && len(k.days) >= MaxKept {
		k.full++
		return
	}
	k.days[key], k.fresh = u, true
}

// Len is how many keys are remembered.
func (k *Kept) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.days)
}

// Full is how often a key found no room.
func (k *Kept) Full() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.full
}

// Save writes the changes since the last Save. After a crash of the process or machine, the file is
// the old one or the new one.
func (k *Kept) Save() error {
	k.mu.Lock()
	fresh, days := k.fresh, k.days
	if fresh {
		days, k.fresh = maps.Clone(days), false
	}
	k.mu.Unlock()
	if !fresh {
		return nil
	}
	if err := k.write(days); err != nil {
		k.mu.Lock()
		k.fresh = true
		k.mu.Unlock()
		return fmt.Errorf("keep the days' quotas: %w", err)
	}
	return nil
}

func (k *Kept) write(days map[string]limiter.DayUse) error {
	text, err := json.Marshal(days)
	if err != nil {
		return err
	}
	return atomicfile.Write(k.path, text, 0o600)
}

package leases

import (
	"bytes"
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

// Kept is a pool that remembers in a file how much of its day's quota each key has used. It is for
// the embedded Redis, which forgets when its process ends. It is safe for concurrent use, but only
// one Save may run at a time.
//
// The file has lines of JSON, each with the changed keys; the first line has all keys. When the
// other lines together are longer than the first, the whole file is written again.
type Kept struct {
	pool limiter.Pool // fixed
	path string       // fixed

	first, others int64 // bytes of the file's first line (0: write it again) and of its other lines; used only by Save

	mu    sync.Mutex
	days  map[string]limiter.DayUse // guarded by mu
	fresh map[string]limiter.DayUse // the entries of days that the file doesn't have yet; guarded by mu
	last  int64                     // the latest day; guarded by mu
	swept int64                     // the latest day on which old days were dropped; guarded by mu
	full  int64                     // keys for which there was no room; guarded by mu
}

// MaxKept is how many keys are remembered. Other keys begin at zero when the process starts.
const MaxKept = 1 << 16

// maxKeptBytes bounds the file that is read.
const maxKeptBytes = 64 << 20

// Keep returns a pool that continues with the data of the file, if there is one. The pool is usable
// even after an error: it lacks what could not be read, and the next Save writes the file again.
func Keep(pool limiter.Pool, path string) (*Kept, error) {
	k := &Kept{pool: pool, path: path, days: make(map[string]limiter.DayUse), fresh: make(map[string]limiter.DayUse)}
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
		err = k.read(text)
	}
	for _, u := range k.days {
		k.last = max(k.last, u.Day)
	}
	if len(k.days) > MaxKept {
		k.sweep()
	}
	if err != nil {
		return k, fmt.Errorf("read the days' quotas: %w", err)
	}
	return k, nil
}

// read takes the lines of a file. The last line may be incomplete, because the process was killed.
// A damaged line is left out. In both cases the file is not continued, but written again.
func (k *Kept) read(text []byte) error {
	var damage error
	number, whole := 0, true
	for line := range bytes.Lines(text) {
		number++
		ended := line[len(line)-1] == '\n'
		var days map[string]limiter.DayUse
		err := json.Unmarshal(line, &days)
		switch {
		case err == nil:
			maps.Copy(k.days, days)
		case number == 1 || ended:
			damage = errors.Join(damage, fmt.Errorf("line %d: %w", number, err))
		}
		whole = whole && ended && err == nil
		if number == 1 {
			k.first = int64(len(line))
		} else {
			k.others += int64(len(line))
		}
	}
	if !whole {
		k.first = 0
	}
	return damage
}

// sweep drops the data of days that are over. Time zones differ by at most a day.
func (k *Kept) sweep() {
	maps.DeleteFunc(k.days, func(_ string, old limiter.DayUse) bool { return old.Day < k.last-1 })
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
		k.sweep()
	}
	if !known && len(k.days) >= MaxKept {
		k.full++
		return
	}
	k.days[key], k.fresh[key] = u, u
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

// Save writes the changes since the last Save. After a crash of the process, the file has them or
// not. A loss of power may take the lines that were added since the file was written whole.
func (k *Kept) Save() error {
	k.mu.Lock()
	fresh := k.fresh
	if len(fresh) > 0 {
		k.fresh = make(map[string]limiter.DayUse)
	}
	k.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	write := k.add
	if k.first == 0 || k.others > max(k.first, leastOthers) {
		write = k.replace
	}
	if err := write(fresh); err != nil {
		k.first = 0 // an incomplete line may be there
		k.mu.Lock()
		maps.Copy(fresh, k.fresh) // the newer entries
		k.fresh = fresh
		k.mu.Unlock()
		return fmt.Errorf("keep the days' quotas: %w", err)
	}
	return nil
}

// leastOthers is the least number of bytes that are added to a file before it is written again.
const leastOthers = 1 << 20

// add adds a line to the file.
func (k *Kept) add(fresh map[string]limiter.DayUse) error {
	text, err := json.Marshal(fresh)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(k.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	n, err := file.Write(append(text, '\n'))
	k.others += int64(n)
	return errors.Join(err, file.Close())
}

// replace writes the whole file again.
func (k *Kept) replace(map[string]limiter.DayUse) error {
	k.mu.Lock()
	days := maps.Clone(k.days)
	k.mu.Unlock()
	text, err := json.Marshal(days)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(k.path, append(text, '\n'), 0o600); err != nil {
		return err
	}
	k.first, k.others = int64(len(text)+1), 0
	return nil
}

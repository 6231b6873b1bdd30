package limiter

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// History counts the purchases that came to the limits, by caller and second, for as long as
// HistorySpan: Preview uses it to find out what other limits would have refused. Its memory is
// fixed: it has room for maxHistories callers, and a new caller replaces the least busy one. It is
// safe for concurrent use. Count takes no lock, and allocates only for a new caller.
type History struct {
	began time.Time // fixed

	rows atomic.Pointer[map[historyKey]*historyRow]
	mu   sync.Mutex    // guards changes of rows
	next atomic.Uint64 // the second from which a caller may replace another one
}

type historyKey struct{ merchant, caller string }

// historyRow has a value for each second: the upper half is the second, the lower half is the
// count.
type historyRow [historySeconds]atomic.Uint64

const (
	// HistorySpan is how far back a History goes.
	HistorySpan    = historySeconds * time.Second
	historySeconds = 900
	maxHistories   = 64 // 7 KiB each
)

// NewHistory makes an empty History. now is a time of the clock from which all other times come,
// too.
func NewHistory(now time.Time) *History {
	h := &History{began: now.Add(-HistorySpan)}
	h.rows.Store(&map[historyKey]*historyRow{})
	return h
}

// Count counts a purchase at now.
func (h *History) Count(merchant, caller string, now time.Time) {
	second := h.second(now)
	row := (*h.rows.Load())[historyKey{merchant, caller}]
	if row == nil {
		if row = h.add(merchant, caller, second); row == nil {
			return
		}
	}
	row.add(second)
}

func (h *History) second(now time.Time) uint64 { return uint64(max(now.Sub(h.began)/time.Second, 0)) }

func (r *historyRow) add(second uint64) {
	at := &r[second%historySeconds]
	for {
		old := at.Load()
		next := old + 1
		if old>>32 != second {
			if old>>32 > second {
				return // the time is a quarter of an hour too old
			}
			next = second<<32 + 1
		}
		if at.CompareAndSwap(old, next) {
			return
		}
	}
}

// before returns the counts of the seconds before the given one, oldest first, and their sum.
func (r *historyRow) before(second uint64) (counts []uint32, sum uint64) {
	counts = make([]uint32, historySeconds)
	for i := range counts {
		s := second - historySeconds + uint64(i)
		if v := r[s%historySeconds].Load(); v>>32 == s {
			counts[i] = uint32(v)
			sum += uint64(counts[i])
		}
	}
	return counts, sum
}

// replaceEvery is how often a caller takes the place of another, in seconds.
const replaceEvery = 5

// add makes the row of a caller that comes for the first time. If the history is full, it replaces
// the least busy caller, or has to wait until it may.
func (h *History) add(merchant, caller string, second uint64) *historyRow {
	if second < h.next.Load() {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	old := *h.rows.Load()
	key := historyKey{merchant, caller}
	if row := old[key]; row != nil {
		return row
	}
	next := maps.Clone(old)
	if len(next) >= maxHistories {
		var least historyKey
		low := uint64(1) << 63
		for k, row := range next {
			if _, sum := row.before(second + 1); sum < low {
				low, least = sum, k
			}
		}
		delete(next, least)
		h.next.Store(second + replaceEvery)
	}
	row := new(historyRow)
	next[historyKey{strings.Clone(merchant), strings.Clone(caller)}] = row
	h.rows.Store(&next)
	return row
}

// Series has the purchases of one caller for each second.
type Series struct {
	Merchant string   `json:"m"`
	Caller   string   `json:"c"`
	Counts   []uint32 `json:"n"` // oldest first, up to now
}

// Series returns the purchases of all callers, without the current second.
func (h *History) Series(now time.Time) []Series {
	out := []Series{}
	second := h.second(now)
	for key, row := range *h.rows.Load() {
		if counts, sum := row.before(second); sum > 0 {
			out = append(out, Series{key.merchant, key.caller, counts})
		}
	}
	return out
}

package sim

import "sync"

// hands are goroutines that do one thing after another. A run begins a thousand steps, and a new
// goroutine would grow its stack for each of them.
type hands struct {
	mu    sync.Mutex
	idle  []chan func() // guarded by mu: those that have nothing to do, by where they are told
	ended bool          // guarded by mu
}

// do has an idle hand do something, or a new one if there is none.
func (h *hands) do(what func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.idle)
	if n == 0 {
		go h.work(what)
		return
	}
	h.idle[n-1] <- what
	h.idle = h.idle[:n-1]
}

// work is a hand.
func (h *hands) work(what func()) {
	told := make(chan func(), 1)
	for ok := true; ok; what, ok = <-told {
		what()
		if !h.rest(told) {
			return
		}
	}
}

// rest makes a hand idle, and reports whether there may be more to do.
func (h *hands) rest(told chan func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ended {
		h.idle = append(h.idle, told)
	}
	return !h.ended
}

// end lets all hands go. They have nothing to do any more.
func (h *hands) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, told := range h.idle {
		close(told)
	}
	h.idle, h.ended = nil, true
}

package batch

// ring is a queue that grows, and from which any item can be removed. An item's ticket is its
// place: the item with ticket t is in slots[t mod len(slots)] while head <= t < tail, and has left
// when t < head. An item that is removed out of turn leaves a gap (nil).
//
// A linked list would do the same. But handing over 400 items of a list held the lock for 4 µs,
// because it follows pointers through memory that another core has just written. With consecutive
// slots it takes 1 µs.
type ring[In, Out any] struct {
	slots      []*item[In, Out] // length is 0 or a power of two
	head, tail uint64
	n          int // items, gaps not counted
}

func (r *ring[In, Out]) slot(ticket uint64) **item[In, Out] {
	return &r.slots[ticket&uint64(len(r.slots)-1)]
}

// push appends the item.
func (r *ring[In, Out]) push(it *item[In, Out]) {
	if r.tail-r.head == uint64(len(r.slots)) {
		r.makeRoom()
	}
	it.ticket = r.tail
	*r.slot(r.tail) = it
	r.tail++
	r.n++
}

// makeRoom doubles the slots, or only closes the gaps if these are at least half of the slots. So
// there are at most four slots for each item of the largest queue so far. The new tickets are above
// all old ones, so items that have left still count as gone.
func (r *ring[In, Out]) makeRoom() {
	size := len(r.slots)
	if 2*r.n > size || size == 0 {
		size = max(8, 2*size)
	}
	old := *r
	r.slots, r.head, r.n = make([]*item[In, Out], size), r.tail, 0
	for t := old.head; t < old.tail; t++ {
		if it := *old.slot(t); it != nil {
			r.push(it)
		}
	}
}

// popTo moves up to limit items, the oldest first, to the end of dst and returns it.
func (r *ring[In, Out]) popTo(dst []*item[In, Out], limit int) []*item[In, Out] {
	limit = min(limit, r.n)
	r.n -= limit
	for ; limit > 0; r.head++ {
		slot := r.slot(r.head)
		if *slot != nil {
			dst = append(dst, *slot)
			*slot = nil
			limit--
		}
	}
	return dst
}

// remove takes the item out and reports whether it was still there. It must have been pushed.
func (r *ring[In, Out]) remove(it *item[In, Out]) bool {
	if it.ticket < r.head {
		return false
	}
	*r.slot(it.ticket) = nil
	r.n--
	return true
}

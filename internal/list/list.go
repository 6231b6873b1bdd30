// Package list is a doubly linked list whose elements have their own links, so that adding one
// allocates nothing. container/list allocates an element for each value, and that would be too slow
// for a line through which every purchase goes.
//
//	type seat struct {
//		links list.Links[seat]
//		…
//	}
//
//	func (s *seat) Links() *list.Links[seat] { return &s.links }
//
//	var waiting list.List[seat, *seat]
//	waiting.Push(s)
//
// It promises that only First, Last and iterating depend on the length of the list. It is not safe
// for concurrent use: the owner of a list must lock it.
//
// Invariants: an element is in at most one list; an element outside of a list has no neighbours.
package list

// Links are the places of an element in a list. The zero value is in no list.
type Links[T any] struct{ prev, next *T }

// Element is a pointer to a value that can be in a list.
type Element[T any] interface {
	*T
	// Links returns the element's links, always the same.
	Links() *Links[T]
}

// List is a list of elements. The zero value is empty.
type List[T any, E Element[T]] struct {
	first, last *T
	n           int
}

// Len returns how many elements there are.
func (l *List[T, E]) Len() int { return l.n }

// First returns the first element, or nil if there is none.
func (l *List[T, E]) First() *T { return l.first }

// Last returns the last element, or nil if there is none.
func (l *List[T, E]) Last() *T { return l.last }

// Next returns the element after e, or nil after the last one.
func (l *List[T, E]) Next(e *T) *T { return E(e).Links().next }

// Prev returns the element before e, or nil before the first one.
func (l *List[T, E]) Prev(e *T) *T { return E(e).Links().prev }

// Push adds an element at the end. It must be in no list.
func (l *List[T, E]) Push(e *T) { l.Insert(e, l.last) }

// Insert adds an element after another one, or at the beginning if before is nil. It must be in no
// list.
func (l *List[T, E]) Insert(e, before *T) {
	links := E(e).Links()
	links.prev = before
	if before == nil {
		links.next, l.first = l.first, e
	} else {
		other := E(before).Links()
		links.next, other.next = other.next, e
	}
	if links.next == nil {
		l.last = e
	} else {
		E(links.next).Links().prev = e
	}
	l.n++
}

// Remove takes an element out of the list.
func (l *List[T, E]) Remove(e *T) {
	links := E(e).Links()
	if links.prev == nil {
		l.first = links.next
	} else {
		E(links.prev).Links().next = links.next
	}
	if links.next == nil {
		l.last = links.prev
	} else {
		E(links.next).Links().prev = links.prev
	}
	*links = Links[T]{}
	l.n--
}

package sim

import (
	"hash/fnv"
	"slices"
	"sync"

	"penstock/seckill"
)

// partitions is how many the log has: two, so that orders overtake each other and members share.
const partitions = 2

// log is the queue's far side: a log in partitions, a group of members that share them, and the group's committed offsets.
type log struct {
	mu        sync.Mutex
	records   [partitions][][]byte
	committed [partitions]int64
	owner     [partitions]*member // nil: nobody's until the next rebalance
}

// member is a worker's membership of the group.
type member struct {
	pending []seckill.Message // polled and not committed
	next    [partitions]int64 // where the next poll begins
	ends    map[int32]int64   // what committing pending means
	fenced  bool              // it has lost a partition that it polled from, and doesn't know yet
}

// append writes a record behind all others of its partition.
func (l *log) append(key seckill.OrderID, value []byte) {
	h := fnv.New32a()
	h.Write([]byte(key))
	l.mu.Lock()
	defer l.mu.Unlock()
	p := h.Sum32() % partitions
	l.records[p] = append(l.records[p], slices.Clone(value))
}

// assign gives partitions to members. A member that loses one is put out of the group: its commit will be refused. Who keeps
// one begins anew where the group has committed, as does a new owner.
func (l *log) assign(owners [partitions]*member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, m := range owners {
		old := l.owner[p]
		if old == m {
			continue
		}
		if old != nil {
			old.fenced = old.fenced || len(old.pending) > 0
		}
		l.owner[p] = m
		if m != nil {
			m.next[p] = l.committed[p]
		}
	}
}

// leave takes a member's partitions away.
func (l *log) leave(m *member) {
	l.mu.Lock()
	owners := l.owner
	l.mu.Unlock()
	for p, owner := range owners {
		if owner == m {
			owners[p] = nil
		}
	}
	l.assign(owners)
}

// ready reports whether a poll would return something.
func (l *log) ready(m *member) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(m.pending) > 0 {
		return true
	}
	for p := range l.records {
		if l.owner[p] == m && m.next[p] < int64(len(l.records[p])) {
			return true
		}
	}
	return false
}

// pollCap is the most records that one poll takes of a partition.
const pollCap = 2

// poll returns the member's next records. What it polled and did not commit comes again.
func (l *log) poll(m *member) []seckill.Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(m.pending) > 0 {
		return slices.Clone(m.pending)
	}
	m.ends = make(map[int32]int64)
	for p := range l.records {
		if l.owner[p] != m {
			continue
		}
		for n := 0; n < pollCap && m.next[p] < int64(len(l.records[p])); n++ {
			at := m.next[p]
			m.pending = append(m.pending, seckill.Message{Partition: int32(p), Offset: at, Value: l.records[p][at]})
			m.next[p]++
			m.ends[int32(p)] = m.next[p]
		}
	}
	return slices.Clone(m.pending)
}

// commit commits what the member has polled. One that was put out of the group loses it, and begins anew with what it owns.
func (l *log) commit(m *member) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ends, fenced := m.ends, m.fenced
	m.pending, m.ends, m.fenced = nil, nil, false
	if fenced {
		for p := range l.records {
			if l.owner[p] == m {
				m.next[p] = l.committed[p]
			}
		}
		return seckill.ErrFenced
	}
	for p, end := range ends {
		l.committed[p] = end
	}
	return nil
}

func (l *log) end() seckill.Positions {
	l.mu.Lock()
	defer l.mu.Unlock()
	ends := make(seckill.Positions, partitions)
	for p := range l.records {
		ends[p] = int64(len(l.records[p]))
	}
	return ends
}

func (l *log) committedOffsets() seckill.Positions {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(seckill.Positions(nil), l.committed[:]...)
}

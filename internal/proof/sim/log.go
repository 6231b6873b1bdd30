package sim

import (
	"slices"
	"sync"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// partitions is how many the log has: two, so that pages overtake each other and members share.
const partitions = 2

// topic is the log's id. A topic that was deleted and made again has another one.
func topicID(made int) seckill.TopicID { return seckill.TopicID{byte(made)} }

// record is one of the log, with the leader epoch in which it was written.
type record struct {
	value  []byte
	leader int32
}

// log is the queue's far side: a log in partitions, and a group of members that share them. It may
// lose its tail; then its leader epoch goes up (KIP-320).
type log struct {
	mu      sync.Mutex
	made    int                  // guarded by mu: how often the topic was made again
	leader  [partitions]int32    // guarded by mu
	records [partitions][]record // guarded by mu
	owner   [partitions]*member  // guarded by mu; nil: nobody's until the next rebalance
	down    [partitions]bool     // guarded by mu: it has no leader
}

// member is a worker's membership of the group. The log's mu guards it.
type member struct {
	at    map[int32]seckill.Position // where the next poll begins, of partitions that it has read
	stale bool                       // it has to ask the store where to begin
}

// append writes a record at the end of the shard's preferred partition, or of another one if that
// has no leader, and returns its place. ok is false if no partition takes it.
func (l *log) append(shard inventory.ShardID, value []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range partitions {
		p := (int(shard) + i) % partitions
		if !l.down[p] {
			l.records[p] = append(l.records[p], record{slices.Clone(value), l.leader[p]})
			return true
		}
	}
	return false
}

// mark writes a marker into every partition, and returns the positions after them. ok is false if
// one of them does not take it.
func (l *log) mark(value []byte) (behind []seckill.Position, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(l.down[:], true) {
		return nil, false
	}
	for p := range partitions {
		l.records[p] = append(l.records[p], record{slices.Clone(value), l.leader[p]})
		behind = append(behind, seckill.Position{
			Topic: topicID(l.made), Partition: int32(p), Next: int64(len(l.records[p])), LeaderEpoch: l.leader[p],
		})
	}
	return behind, true
}

// loseTail loses the last records of a partition and returns them. Those that come in their place
// are of a new leader.
func (l *log) loseTail(p, n int) []record {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := max(0, len(l.records[p])-n)
	lost := slices.Clone(l.records[p][end:])
	l.records[p] = l.records[p][:end]
	l.leader[p]++
	return lost
}

// setDown takes a partition's leader away, or gives it one.
func (l *log) setDown(p int, down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down[p%partitions] = down
}

// makeAnew deletes the topic and makes it again. It returns the lost records. Every member asks the
// store again where to begin.
func (l *log) makeAnew() (lost []record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.records {
		lost = append(lost, l.records[p]...)
		if l.owner[p] != nil {
			l.owner[p].stale = true
		}
	}
	l.made++
	l.records = [partitions][]record{}
	l.leader = [partitions]int32{}
	return lost
}

// topic returns the topic's id.
func (l *log) topic() seckill.TopicID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return topicID(l.made)
}

// assign gives partitions to members. A new owner begins where the store says.
func (l *log) assign(owners [partitions]*member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, m := range owners {
		old := l.owner[p]
		if old == m {
			continue
		}
		if old != nil {
			delete(old.at, int32(p))
		}
		l.owner[p] = m
		if m != nil {
			m.stale = true
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

// owned returns the member's partitions.
func (l *log) owned(m *member) (owned []int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, owner := range l.owner {
		if owner == m {
			owned = append(owned, int32(p))
		}
	}
	return owned
}

// seek sets where the member goes on reading: the positions in the store. One of another topic
// begins at the start. One behind a lost tail, or of a leader that has written something else
// there, goes back to the last record that both have.
func (l *log) seek(m *member, positions []seckill.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.stale = false
	m.at = make(map[int32]seckill.Position)
	for _, at := range positions {
		m.at[at.Partition] = at
	}
}

// isStale reports whether the member has to ask the store where to begin.
func (l *log) isStale(m *member) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return m.stale
}

// start returns the offset from which a position is read on. l.mu is held.
func (l *log) start(at seckill.Position) int64 {
	p := at.Partition
	if at.Topic != topicID(l.made) {
		return 0
	}
	next := min(at.Next, int64(len(l.records[p])))
	if at.LeaderEpoch < 0 {
		return next
	}
	for next > 0 && l.records[p][next-1].leader > at.LeaderEpoch {
		next--
	}
	return next
}

// ready reports whether a poll would return something, or has to ask the store first.
func (l *log) ready(m *member) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.stale {
		return true
	}
	for p, at := range m.at {
		if l.owner[p] == m && !l.down[p] && (l.start(at) < int64(len(l.records[p]))) {
			return true
		}
	}
	return false
}

// pollCap is the most records that one poll takes of a partition.
const pollCap = 2

// poll returns the member's next records, and how far they reach.
func (l *log) poll(m *member) (h seckill.Haul) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.stale {
		return h
	}
	for p := range int32(partitions) {
		at, ok := m.at[p]
		if !ok || l.owner[p] != m || l.down[p] {
			continue
		}
		to := seckill.Position{Topic: topicID(l.made), Partition: p, Next: l.start(at), LeaderEpoch: at.LeaderEpoch}
		for n := 0; n < pollCap && to.Next < int64(len(l.records[p])); n++ {
			r := l.records[p][to.Next]
			h.Messages = append(h.Messages, seckill.Message{Partition: p, Offset: to.Next, Value: r.value})
			to.Next, to.LeaderEpoch = to.Next+1, r.leader
		}
		if to != at {
			h.Moves = append(h.Moves, seckill.Move{From: at, To: to})
		}
	}
	return h
}

// took moves a member on, when its worker has what a poll returned.
func (l *log) took(m *member, moves []seckill.Move) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, move := range moves {
		if p := move.To.Partition; m.at[p] == move.From {
			m.at[p] = move.To
		}
	}
}

// ends returns the positions behind all records, of the partitions that have some.
func (l *log) ends() (ends []seckill.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.records {
		if next := int64(len(l.records[p])); next > 0 {
			ends = append(ends, seckill.Position{Topic: topicID(l.made), Partition: int32(p), Next: next})
		}
	}
	return ends
}

// pages returns how many records have promises, and how many of them lie below the positions.
func (l *log) pages(at []seckill.Position) (all, read int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.records {
		for offset, r := range l.records[p] {
			if page, err := seckill.ParsePage(r.value); err != nil || len(page.Orders) == 0 {
				continue
			}
			all++
			if at[p].Topic == topicID(l.made) && int64(offset) < at[p].Next {
				read++
			}
		}
	}
	return all, read
}

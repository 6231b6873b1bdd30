package kafka

import (
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/penstock/penstock/seckill"
)

// TestPlace_Judge lists what happens to a record at each place: no record is ever skipped.
func TestPlace_Judge(t *testing.T) {
	const none = -1
	for _, test := range []struct {
		name    string
		at      seckill.Position
		hole    int64
		lost    bool
		offset  int64
		epoch   int32
		start   int64
		want    next
		missing int64
	}{
		{name: "the next one", at: seckill.Position{Next: 10, LeaderEpoch: 3}, offset: 10, epoch: 3, want: takeIt},
		{name: "of a later epoch", at: seckill.Position{Next: 10, LeaderEpoch: 3}, offset: 10, epoch: 5, want: takeIt},
		{name: "where no epoch is known", at: seckill.Position{Next: 10, LeaderEpoch: none}, offset: 10, epoch: 0, want: takeIt},
		{name: "of an earlier epoch", at: seckill.Position{Next: 10, LeaderEpoch: 3}, offset: 10, epoch: 2, want: seekStart},
		{name: "of an earlier epoch, after it was sought", at: seckill.Position{Next: 10, LeaderEpoch: 3}, lost: true, offset: 10, epoch: 2, want: takeIt},
		{name: "before", at: seckill.Position{Next: 10, LeaderEpoch: 3}, offset: 4, epoch: 4, want: takeIt},
		{name: "the start of another log", at: seckill.Position{Next: 10, LeaderEpoch: 3}, lost: true, offset: 40, epoch: 0, start: 40, want: takeIt},
		{name: "behind a gap", at: seckill.Position{Next: 10, LeaderEpoch: 3}, offset: 14, epoch: 3, want: seekBack},
		{name: "behind a gap, again", at: seckill.Position{Next: 10, LeaderEpoch: 3}, hole: 14, offset: 14, epoch: 3, want: takeIt, missing: 4},
		{name: "behind what was deleted", at: seckill.Position{Next: 10, LeaderEpoch: 3}, offset: 14, epoch: 3, start: 14, want: takeIt, missing: 4},
		{name: "deleted while it was fetched", at: seckill.Position{Next: 10, LeaderEpoch: 3}, offset: 14, epoch: 3, start: 17, want: takeIt, missing: 4},
		{name: "behind what was deleted, and a gap", at: seckill.Position{Next: 10}, offset: 20, start: 14, want: seekBack},
		{name: "behind what was deleted, and a gap, again", at: seckill.Position{Next: 10}, hole: 20, offset: 20, start: 14, want: takeIt, missing: 10},
	} {
		p := place{at: test.at, hole: test.hole, lost: test.lost}
		if got, missing := p.judge(test.offset, test.epoch, test.start); got != test.want || missing != test.missing {
			t.Errorf("%s: %d, %d missing, want %d, %d", test.name, got, missing, test.want, test.missing)
		}
		if test.want == seekBack { // once, or a hole would stop the partition for ever
			if got, _ := p.judge(test.offset, test.epoch, test.start); got != takeIt {
				t.Errorf("%s, and again: %d", test.name, got)
			}
		}
	}
	p := place{at: seckill.Position{Next: 10, LeaderEpoch: 3}, lost: true}
	p.moved(0, 2)
	if got, _ := p.judge(1, 1, 0); got != seekStart {
		t.Errorf("a log that was replaced twice: %d", got)
	}
}

// fetched is a fetch of records of a partition.
func fetched(topic string, partition int32, records ...*kgo.Record) kgo.Fetches {
	return kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: topic, Partitions: []kgo.FetchPartition{{Partition: partition, Records: records}}}}}}
}

func recordAt(offset int64, second int64) *kgo.Record {
	return &kgo.Record{Offset: offset, LeaderEpoch: 3, Timestamp: time.Unix(second, 0), Value: []byte("page")}
}

// TestHaul_Take: a haul has the records that follow a partition's position, and the move past them.
func TestHaul_Take(t *testing.T) {
	at := func(next int64) seckill.Position { return seckill.Position{Next: next, LeaderEpoch: 3} }
	control := recordAt(10, 1)
	control.Attrs = kgo.NewRecordAttrs(kgo.RecordAttrsOpts{Transactional: true, Control: true})
	marker := recordAt(11, 1)
	marker.Key = []byte(markerKey)
	for _, test := range []struct {
		name    string
		fetches []kgo.Fetches
		offsets []int64 // of the messages
		to      int64   // of the move; 0: none
		oldest  int64
		seeks   bool
	}{
		{"records", []kgo.Fetches{fetched("t", 0, recordAt(10, 7), recordAt(11, 5), recordAt(12, 6))}, []int64{10, 11, 12}, 13, 5, false},
		{"two fetches", []kgo.Fetches{fetched("t", 0, recordAt(10, 5)), fetched("t", 0, recordAt(11, 7))}, []int64{10, 11}, 12, 5, false},
		{"no promises", []kgo.Fetches{fetched("t", 0, control, marker)}, nil, 12, 0, false},
		{"a gap", []kgo.Fetches{fetched("t", 0, recordAt(14, 5))}, nil, 0, 0, true},
		{"records, a gap, and what follows it", []kgo.Fetches{fetched("t", 0, recordAt(10, 5), recordAt(14, 5), recordAt(15, 5))}, []int64{10}, 11, 5, true},
		{"a gap, and a fetch of before", []kgo.Fetches{fetched("t", 0, recordAt(14, 5)), fetched("t", 0, recordAt(14, 5))}, nil, 0, 0, true},
		{"a partition that was lost meanwhile", []kgo.Fetches{fetched("t", 1, recordAt(10, 5))}, nil, 0, 0, false},
		{"another topic", []kgo.Fetches{fetched("u", 0, recordAt(10, 5))}, nil, 0, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := &Queue{cfg: Config{Topic: "t"}.withDefaults()}
			q.consumer.init()
			q.consumer.places[0] = &place{at: at(10)}
			h := haul{q: q}
			for _, f := range test.fetches {
				h.take(f)
			}
			var offsets []int64
			for _, m := range h.out.Messages {
				offsets = append(offsets, m.Offset)
			}
			var moves []seckill.Move
			if test.to != 0 {
				moves = []seckill.Move{{From: at(10), To: at(test.to)}}
			}
			if !slices.Equal(offsets, test.offsets) || !slices.Equal(h.out.Moves, moves) || h.oldest != test.oldest*1000 {
				t.Errorf("messages %v, moves %+v, the oldest of %d ms", offsets, h.out.Moves, h.oldest)
			}
			if _, seeks := h.seeks[0]; seeks != test.seeks {
				t.Errorf("seeks %+v", h.seeks)
			}
			if again := (haul{q: q}); test.seeks { // they come again: there is a hole
				if again.take(fetched("t", 0, recordAt(14, 5), recordAt(15, 5))); len(again.out.Messages) != 2 || len(again.seeks) > 0 {
					t.Errorf("again: %+v, seeks %+v", again.out, again.seeks)
				}
			}
		})
	}
}

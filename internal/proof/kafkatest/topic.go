package kafkatest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/seckill"
)

// lostLogIsReadAgain has books that are ahead of the log: they have an epoch that the log doesn't
// have, or an offset behind its end.
func lostLogIsReadAgain(t *testing.T, cfg kafka.Config) {
	cfg.Partitions = 1
	for _, test := range []struct {
		name     string
		position seckill.Position // but its topic
	}{
		{"a later epoch, behind the end", seckill.Position{Next: 500, LeaderEpoch: 1000}},
		{"a later epoch, at the end", seckill.Position{Next: 100, LeaderEpoch: 1000}},
		{"a later epoch, before the end", seckill.Position{Next: 50, LeaderEpoch: 1000}},
		{"no epoch, behind the end", seckill.Position{Next: 500, LeaderEpoch: -1}},
	} {
		cfg := cfg
		cfg.Topic += strings.ReplaceAll(test.name, " ", "")[:12] + fmt.Sprint(test.position.Next)
		cfg.Topic = strings.ReplaceAll(cfg.Topic, ",", "")
		books := new(Books)
		q := Open(t, cfg, books)
		Produce(t, q, 0, 100)
		test.position.Topic = books.Now()[0].Topic
		books.Set(test.position)
		if test.position.Next == 100 {
			Produce(t, q, 100, 101) // the client meets the other log with this one
		}
		if seen := Consume(t, q, books, 100); len(seen) < 100 {
			t.Errorf("%s: %d records", test.name, len(seen))
		}
		if at := books.Now()[0]; at.Next > 101 || at.LeaderEpoch == 1000 {
			t.Errorf("%s: the books are at %+v", test.name, at)
		}
		Close(t, q)
	}
}

// topicAnew deletes the topic under a worker and a gateway, and makes it again.
func topicAnew(t *testing.T, cfg kafka.Config) {
	ctx := Context(t)
	books := new(Books)
	q := Open(t, cfg, books)
	gateway := cfg
	gateway.Worker = false
	g := Open(t, gateway, books)
	Produce(t, g, 0, 100)
	Consume(t, q, books, 100)
	old := books.Now()
	admin := Admin(t, cfg)
	if _, err := admin.DeleteTopic(ctx, cfg.Topic); err != nil {
		t.Fatal(err)
	}
	// A broker deletes in the background, so the name may be taken for a while. The queues may make
	// the topic, too.
	for {
		_, err := admin.CreateTopic(ctx, int32(cfg.Partitions), 1, nil, cfg.Topic)
		listed, _ := admin.ListTopics(ctx, cfg.Topic)
		if topic := listed[cfg.Topic]; topic.Err == nil && seckill.TopicID(topic.ID) != old[0].Topic && len(topic.Partitions) > 0 {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	polled := make(chan map[string]int, 1)
	stop := make(chan struct{})
	go func() {
		seen := make(map[string]int)
		defer func() { polled <- seen }()
		for {
			haul, err := q.Poll(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				continue
			}
			for _, m := range haul.Messages {
				seen[KeyOf(m)]++
			}
			if err := books.Commit(haul.Moves); err != nil {
				_ = q.Rewind(ctx)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	for n := 100; n < 150; n++ { // some fail until everybody knows
		for {
			answer := make(chan error, 1)
			Put(g, n, func(err error) { answer <- err })
			if err := <-answer; err == nil {
				break
			} else if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	markers := Mark(t, q)
	Until(t, func() bool { return seckill.Passed(books.Now(), markers) }, func() any { return books.Now() })
	close(stop)
	Mark(t, q) // wakes the poll
	seen := <-polled
	for n := 100; n < 150; n++ {
		if seen[Key(n)] == 0 {
			t.Errorf("record %d of the new topic was not polled", n)
		}
	}
	if markers[0].Topic == old[0].Topic {
		t.Error("the markers are of the old topic")
	}
}

func partitionsAreAdded(t *testing.T, cfg kafka.Config) {
	ctx := Context(t)
	books := new(Books)
	q := Open(t, cfg, books)
	gateway := cfg
	gateway.Worker = false
	g := Open(t, gateway, books)
	Produce(t, g, 0, 50)
	if _, err := Admin(t, cfg).UpdatePartitions(ctx, cfg.Partitions+2, cfg.Topic); err != nil {
		t.Fatal(err)
	}
	Until(t, func() bool { return len(g.Partitions()) == cfg.Partitions+2 }, func() any { return g.Problems() })
	Produce(t, g, 50, 200)
	markers := Mark(t, q)
	if len(markers) != cfg.Partitions+2 {
		t.Fatalf("markers: %v", markers)
	}
	if seen := ConsumeUntil(t, q, books, markers); len(seen) != 200 {
		t.Errorf("%d of 200 records came", len(seen))
	}
}

func fewerPartitions(t *testing.T, cfg kafka.Config) {
	books := new(Books)
	if err := books.AddPartitions(Context(t), seckill.TopicID{1}, int32(cfg.Partitions+1)); err != nil {
		t.Fatal(err)
	}
	for _, worker := range []bool{true, false} {
		cfg.Worker = worker
		q, err := kafka.Open(Context(t), cfg, books)
		if err == nil {
			Close(t, q)
		}
		if !errors.Is(err, kafka.ErrLayout) || !errors.Is(err, seckill.ErrLayout) || !strings.Contains(err.Error(), "kafka-partitions") {
			t.Errorf("Open: %v", err)
		}
	}
}

func trimKeeps(t *testing.T, cfg kafka.Config) {
	ctx := Context(t)
	books := new(Books)
	q := Open(t, cfg, books)
	admin := Admin(t, cfg)
	starts := func() []int64 {
		listed, err := admin.ListStartOffsets(ctx, cfg.Topic)
		if err == nil {
			err = listed.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
		p := make([]int64, cfg.Partitions)
		for i := range p {
			p[i] = listed[cfg.Topic][int32(i)].Offset
		}
		return p
	}
	trim := func() {
		if err := q.Trim(ctx); err != nil {
			t.Fatal(err)
		}
	}
	trim()
	Produce(t, q, 0, 300)
	trim()
	for _, start := range starts() {
		if start != 0 {
			t.Fatalf("trimmed to %v what nobody committed", starts())
		}
	}
	Consume(t, q, books, 300)
	trim()
	got := starts()
	for i, p := range books.Now() {
		if got[i] != p.Next-1 {
			t.Errorf("partition %d begins at %d, want its last record, %d", i, got[i], p.Next-1)
		}
	}
	trim()
	Produce(t, q, 300, 400)
	if seen := Consume(t, q, books, 100); len(seen) != 100 {
		t.Errorf("%d records after the trim", len(seen))
	}
	if stats := q.Stats(); stats.Missing != 0 || stats.DataLoss != 0 {
		t.Errorf("stats: %+v", stats)
	}
}

// missingAreCounted deletes records before a worker comes, as a short retention would.
func missingAreCounted(t *testing.T, cfg kafka.Config) {
	cfg.Partitions = 1
	ctx := Context(t)
	books := new(Books)
	q := Open(t, cfg, books)
	Produce(t, q, 0, 10)
	Consume(t, q, books, 10)
	Close(t, q)
	q = Open(t, cfg, books)
	Produce(t, q, 10, 100)
	cut := make(kadm.Offsets)
	cut.AddOffset(cfg.Topic, 0, 40, -1)
	deleted, err := Admin(t, cfg).DeleteRecords(ctx, cut)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	seen := Consume(t, q, books, 60)
	if missing := q.Stats().Missing; len(seen) != 60 || missing != 30 {
		t.Errorf("%d records came and %d were missed, want 60 and 30", len(seen), missing)
	}
}

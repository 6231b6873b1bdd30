package kafka

import (
	"testing"

	"github.com/penstock/penstock/seckill"
)

// TestCovers: positions count where they are those of this topic, from partition 0 on.
func TestCovers(t *testing.T) {
	topic := &topicState{id: seckill.TopicID{1}}
	at := func(id byte, partition int32) seckill.Position {
		return seckill.Position{Topic: seckill.TopicID{id}, Partition: partition}
	}
	for _, test := range []struct {
		name      string
		positions []seckill.Position
		n         int
		want      bool
	}{
		{"all", []seckill.Position{at(1, 0), at(1, 1)}, 2, true},
		{"more", []seckill.Position{at(1, 0), at(1, 1)}, 1, true},
		{"too few", []seckill.Position{at(1, 0), at(1, 1)}, 3, false},
		{"one of another topic", []seckill.Position{at(1, 0), at(2, 1)}, 2, false},
		{"a gap", []seckill.Position{at(1, 0), at(1, 2)}, 2, false},
	} {
		if got := covers(test.positions, topic, test.n); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

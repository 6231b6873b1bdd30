package kafka

import (
	"testing"

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
		{name: "behind what was deleted, and a gap", at: seckill.Position{Next: 10}, offset: 20, start: 14, want: seekBack},
		{name: "behind what was deleted, and a gap, again", at: seckill.Position{Next: 10}, hole: 20, offset: 20, start: 14, want: takeIt, missing: 10},
	} {
		p := place{at: test.at, hole: test.hole, lost: test.lost}
		if got, missing := p.judge(test.offset, test.epoch, test.start); got != test.want || missing != test.missing {
			t.Errorf("%s: %d, %d missing, want %d, %d", test.name, got, missing, test.want, test.missing)
		}
	}
}

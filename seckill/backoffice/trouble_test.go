package backoffice

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// away is a stock that can't be reached while err is set.
type away struct {
	seckill.Stock
	err error
}

func (a *away) AllNumbers(_ context.Context, shards []inventory.ShardID) (all []inventory.Numbers, errs []error) {
	for range shards {
		all, errs = append(all, inventory.Numbers{Epoch: 1}), append(errs, a.err)
	}
	return all, errs
}

// rows is a store with the rows of two shards.
type rows struct{ seckill.Store }

func (rows) Shards(context.Context) ([]seckill.ShardRow, error) {
	return []seckill.ShardRow{{Ref: inventory.Ref{Shard: 0, Epoch: 1}}, {Ref: inventory.Ref{Shard: 1, Epoch: 1}}}, nil
}

// A long absence of Redis makes one line of the log, and so does its return.
func TestRebuilder_SaysOnceThatItSeesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		stock := &away{err: errors.New("connection refused")}
		cfg := seckill.DefaultConfig()
		cfg.Shards = 2
		owner := NewOwnership(cfg.Shards, func() ([]int32, int) { return []int32{0}, 1 })
		r := NewRebuilder(cfg, stock, rows{}, nil, owner, nil, nil, slog.New(slog.NewTextHandler(&text, nil)))
		step := func(n int) {
			for range n {
				if err := r.Step(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(cfg.Tick)
			}
		}
		step(100)
		stock.err = nil
		step(100)
		lines := strings.Split(strings.TrimSpace(text.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], `shards="[0 1]"`) || !strings.Contains(lines[1], "after=25s") {
			t.Errorf("log:\n%s", text.String())
		}
	})
}

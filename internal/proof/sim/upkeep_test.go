package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// boughtAndOver is a sale on both shards. Its orders are paid, and it has been over for so long
// that it is dropped.
const boughtAndOver = `
	sale units=20 spread=2 processes=A,B
	A: buy ann/k1 -> accepted queued
	A: buy bob/k1 -> accepted queued
	A: buy cat/k1 -> accepted queued
	A: buy dan/k1 -> accepted queued
	A: buy eve/k1 -> accepted queued
	A: buy fay/k1 -> accepted queued
	A works 3s
	A: restock less -2 -> total 18
	A works 3s
	A: pay ann/k1 p1 -> paid
	A: pay bob/k1 p2 -> paid
	A: pay cat/k1 p3 -> paid
	A: pay dan/k1 p4 -> paid
	A: pay eve/k1 p5 -> paid
	A: pay fay/k1 p6 -> paid
	A works 3s
`

// Each worker makes its own shards forget an activity that is over, at any time. Until the last one
// has, and the rows are deleted, the books have orders that a shard has forgotten. That is no loss,
// no matter how long it lasts. Any other difference is one.
func TestAuditor_WhatIsForgottenIsNoLoss(t *testing.T) {
	shops := newShops(t)
	run := func(name string, do func(t *testing.T, r *rig, a, b *process)) {
		t.Run(name, func(t *testing.T) { inOverSale(t, shops, do) })
	}
	run("one worker has forgotten, the other one has not", func(t *testing.T, r *rig, a, b *process) {
		must(t, a.sale.Upkeep.Step(a.ctx))
		audits(t, r, a, b)
		if r.unbalanced.Load() {
			t.Fatal("what was forgotten is taken for a loss")
		}
		must(t, b.sale.Upkeep.Step(b.ctx))
		audits(t, r, a, b)
		if _, err := r.store.FindActivity(r.ctx, activity); !errors.Is(err, seckill.ErrNotFound) || r.unbalanced.Load() {
			t.Fatalf("the activity is not dropped: %v; books don't balance: %t", err, r.unbalanced.Load())
		}
		for _, ref := range shardsOf(t, r) {
			levels, _, err := r.redis.ItemNumbers(r.ctx, ref.Shard, nil)
			must(t, err)
			if levels.Names != 0 || levels.Items != 0 || levels.Sold != 0 || levels.Ordered != 0 {
				t.Errorf("shard %d has not forgotten everything: %+v", ref.Shard, levels)
			}
		}
	})
	run("a worker crashed while it forgot", func(t *testing.T, r *rig, a, b *process) {
		for _, ref := range shardsOf(t, r) {
			for _, k := range r.keys {
				if inventory.Place(r.items[0], r.terms.Spread, string(k.id), shards) == ref.Shard {
					must(t, r.redis.Forget(r.ctx, ref, nil, []string{inventory.Head(string(k.id))}))
					break
				}
			}
		}
		audits(t, r, a, b)
		if r.unbalanced.Load() {
			t.Fatal("what was forgotten is taken for a loss")
		}
	})
	run("a shard has another sold hold than the orders say", func(t *testing.T, r *rig, a, b *process) {
		for _, ref := range shardsOf(t, r) {
			stray := seckill.NewOrderID(r.items[0], caller, "gil", fmt.Sprint(ref.Shard))
			hold := inventory.Hold{Item: r.items[0], ID: string(stray), Buyer: "gil", Quantity: 1}
			must(t, r.redis.Settle(r.ctx, ref, []inventory.Settlement{{Hold: hold, Kind: inventory.SettleSold}}))
		}
		must(t, a.sale.Upkeep.Step(a.ctx))
		audits(t, r, a)
		if !r.unbalanced.Load() {
			t.Fatal("a loss is taken for what was forgotten")
		}
	})
}

// inOverSale plays boughtAndOver, shares the shards among both workers, and calls do.
func inOverSale(t *testing.T, shops *shops, do func(t *testing.T, r *rig, a, b *process)) {
	t.Helper()
	terms, names, err := openingOf(boughtAndOver)
	must(t, err)
	shop := shops.of(t, terms)
	synctest.Test(t, func(t *testing.T) {
		r, err := newRig(t.Context(), shop, terms, names...)
		must(t, err)
		defer func() { must(t, r.close()) }()
		if err := runLines(r, boughtAndOver); err != nil {
			t.Fatalf("%s\n%v", r.path, err)
		}
		r.rebalance()
		r.wire.setDirect(true)
		r.pass(dropAfter + 25*time.Hour)
		a, b := r.process("A"), r.process("B")
		if len(a.sale.Owner.Shards()) == 0 || len(b.sale.Owner.Shards()) == 0 {
			t.Fatal("a worker has no shard")
		}
		do(t, r, a, b)
		if t.Failed() {
			t.Log(r.path)
		}
	})
}

// runLines plays a text, without its end.
func runLines(r *rig, text string) error {
	s := &scenario{rig: r, last: make(map[string]*attempt), polling: make(map[string]bool)}
	s.giveAll(s.processes)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "sale") {
			continue
		}
		if err := s.line(line); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if err := s.flow(); err != nil {
			return err
		}
	}
	return nil
}

// audits lets auditors look several times.
func audits(t *testing.T, r *rig, processes ...*process) {
	t.Helper()
	for range 5 {
		for _, p := range processes {
			must(t, p.sale.Desk.Refresh(p.ctx))
			p.sale.Auditor.Step(p.ctx)
		}
		r.pass(11 * time.Second)
	}
}

// shardsOf returns the shards with their epochs.
func shardsOf(t *testing.T, r *rig) []inventory.Ref {
	t.Helper()
	rows, err := r.store.Shards(context.WithoutCancel(r.ctx))
	must(t, err)
	refs := make([]inventory.Ref, len(rows))
	for i, row := range rows {
		refs[i] = row.Ref
	}
	return refs
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

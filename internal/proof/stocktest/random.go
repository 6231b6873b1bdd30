package stocktest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"penstock/inventory"
)

// exerciseRandom makes random calls of two processes and compares each answer with the Model's. A failure is shrunk, and printed with
// all calls and the seed that repeats it (-rapid.seed).
func exerciseRandom(t *testing.T, open func(t *testing.T, processes int) World) {
	world := open(t, 2)
	model := OpenModels(t, 2)
	item := inventory.ItemID(100)
	rapid.Check(t, func(rt *rapid.T) {
		item++ // each run has an item of its own
		d := &duel{T: rt, ctx: t.Context(), ref: inventory.Ref{Item: item, Epoch: 1}, world: world, model: model}
		d.rebuild()
		rt.Repeat(map[string]func(*rapid.T){
			"":        d.levels,
			"hold":    d.hold,
			"hold2":   d.hold, // holds are what happens most
			"batch":   d.holdBatch,
			"batch2":  d.holdBatch,
			"find":    d.find,
			"confirm": d.confirm,
			"settle":  d.settle,
			"restock": d.restock,
			"note":    d.note,
			"old":     d.old,
			"doom":    d.doom,
			"sweep":   d.sweep,
			"close":   d.close,
			"load":    d.load,
			"open":    d.open,
			"rebuild": func(rt *rapid.T) { d.T = rt; d.rebuild() },
			"failover": func(rt *rapid.T) {
				d.T = rt
				d.failover()
			},
		})
	})
}

// duel makes every call twice: on the stock under test and on the Model.
type duel struct {
	*rapid.T
	ctx          context.Context
	ref          inventory.Ref // open, or on its way there
	world, model World
	notes        []uint64
	watched      bool
}

// pick draws a process and the epoch of a call: mostly the right one.
func (d *duel) pick(t *rapid.T) (tested, model Batcher, ref inventory.Ref) {
	d.T = t
	i := rapid.IntRange(0, 1).Draw(t, "process")
	ref = d.ref
	switch rapid.IntRange(0, 19).Draw(t, "epoch") {
	case 18:
		ref.Epoch++
	case 19:
		ref.Epoch = max(1, ref.Epoch-1)
	}
	return d.world.Stocks[i], d.model.Stocks[i], ref
}

// same fails where two answers differ.
func (d *duel) same(what string, got any, gotErr error, want any, wantErr error) {
	d.Helper()
	if kind(gotErr) != kind(wantErr) || gotErr == nil && !reflect.DeepEqual(got, want) {
		d.Fatalf("%s: answered %+v, %v; the model says %+v, %v", what, got, gotErr, want, wantErr)
	}
}

// kind names what an error is.
func kind(err error) string {
	var unknown *inventory.UnknownError
	switch {
	case err == nil:
		return "none"
	case errors.As(err, &unknown):
		return "unknown: " + err.Error()
	case errors.Is(err, inventory.ErrLost):
		return "lost"
	case errors.Is(err, inventory.ErrEpoch):
		return "epoch"
	case errors.Is(err, inventory.ErrClosed):
		return "closed"
	case errors.Is(err, inventory.ErrInvalid):
		return "invalid"
	}
	return "other: " + err.Error()
}

// few are drawn from so that they meet again.
var (
	someID       = rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h"})
	someQuantity = rapid.SampledFrom([]int{1, 1, 1, 2})
	someBuyer    = rapid.SampledFrom([]string{"u1", "u2", "u3", ""})
)

func drawHold(t *rapid.T) inventory.Hold {
	return named(someID.Draw(t, "id"), someBuyer.Draw(t, "buyer"), someQuantity.Draw(t, "quantity"))
}

func (d *duel) hold(t *rapid.T) {
	tested, model, ref := d.pick(t)
	h, limit := drawHold(t), rapid.IntRange(0, 3).Draw(t, "limit")
	soldOut, absent := tested.SoldOut(ref, h.ID), tested.Absent(ref, h.ID, time.Time{})
	if soldOut && !model.SoldOut(ref, h.ID) {
		d.stale(tested, "sold out", func() bool { return tested.SoldOut(ref, h.ID) })
	}
	if absent && !model.Absent(ref, h.ID, time.Time{}) {
		d.stale(tested, "absent", func() bool { return tested.Absent(ref, h.ID, time.Now()) })
	}
	got, gotErr := tested.Hold(d.ctx, ref, h, limit)
	want, wantErr := model.Hold(d.ctx, ref, h, limit)
	d.same("hold", got, gotErr, want, wantErr)
}

func (d *duel) holdBatch(t *rapid.T) {
	tested, model, ref := d.pick(t)
	holds, limits := drawBatch(t)
	got, gotErr := tested.HoldBatch(d.ctx, ref, holds, limits)
	want, wantErr := model.HoldBatch(d.ctx, ref, holds, limits)
	d.same("hold a batch", got, gotErr, want, wantErr)
}

// drawBatch draws holds of one call and their limits. Half of the batches are of one quantity, half under one limit.
func drawBatch(t *rapid.T) (holds []inventory.Hold, limits []int) {
	someLimit := rapid.IntRange(0, 4)
	oneQuantity, oneLimit := rapid.Bool().Draw(t, "one quantity"), rapid.Bool().Draw(t, "one limit")
	quantity, limit := someQuantity.Draw(t, "quantity of all"), someLimit.Draw(t, "limit of all")
	holds = rapid.SliceOfN(rapid.Custom(drawHold), 1, 12).Draw(t, "holds")
	limits = rapid.SliceOfN(someLimit, len(holds), len(holds)).Draw(t, "limits")
	for i := range holds {
		if oneQuantity {
			holds[i].Quantity = quantity
		}
		if oneLimit {
			limits[i] = limit
		}
	}
	return holds, limits
}

// stale waits for an answer from memory that is wrong to be put right: what another process did a moment ago may not have been heard.
func (d *duel) stale(stock Stock, what string, wrong func() bool) {
	deadline := time.Now().Add(time.Second)
	for wrong() {
		if time.Now().After(deadline) {
			d.Fatalf("%s from memory for longer than a second, and the model knows better", what)
		}
	}
}

func (d *duel) find(t *rapid.T) {
	tested, model, ref := d.pick(t)
	id := someID.Draw(t, "id")
	got, gotErr := tested.Find(d.ctx, ref, id)
	want, wantErr := model.Find(d.ctx, ref, id)
	d.same("find", got, gotErr, want, wantErr)
}

func (d *duel) confirm(t *rapid.T) {
	tested, model, ref := d.pick(t)
	holds := rapid.SliceOfN(rapid.Custom(drawHold), 0, 4).Draw(t, "holds")
	d.same("confirm", nil, tested.Confirm(d.ctx, ref, holds), nil, model.Confirm(d.ctx, ref, holds))
}

func (d *duel) settle(t *rapid.T) {
	tested, model, ref := d.pick(t)
	ends := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) inventory.Settlement {
		kind := rapid.SampledFrom([]inventory.Kind{inventory.SettleSold, inventory.SettleVoid}).Draw(t, "kind")
		return inventory.Settlement{Hold: drawHold(t), Kind: kind}
	}), 0, 4).Draw(t, "ends")
	d.same("settle", nil, tested.Settle(d.ctx, ref, ends), nil, model.Settle(d.ctx, ref, ends))
}

func (d *duel) restock(t *rapid.T) {
	tested, model, ref := d.pick(t)
	id := rapid.SampledFrom([]string{"r1", "r2", "r3"}).Draw(t, "id")
	units := rapid.IntRange(0, 3).Draw(t, "units")
	d.same("restock", nil, tested.Restock(d.ctx, ref, id, units), nil, model.Restock(d.ctx, ref, id, units))
}

func (d *duel) levels(t *rapid.T) {
	d.T = t
	got, gotErr := d.world.Stocks[0].Levels(d.ctx, d.ref.Item)
	want, wantErr := d.model.Stocks[0].Levels(d.ctx, d.ref.Item)
	d.same("levels", got, gotErr, want, wantErr)
	d.world.check(t, d.ref.Item)
}

func (d *duel) note(t *rapid.T) {
	tested, model, ref := d.pick(t)
	got, gotErr := tested.Note(d.ctx, ref)
	want, wantErr := model.Note(d.ctx, ref)
	d.same("note", got, gotErr, want, wantErr)
	if gotErr == nil {
		d.notes = append(d.notes, got)
	}
}

// drawNote draws a note that was taken, or none.
func (d *duel) drawNote(t *rapid.T) uint64 {
	return rapid.SampledFrom(append([]uint64{0}, d.notes...)).Draw(t, "note")
}

func (d *duel) old(t *rapid.T) {
	tested, model, ref := d.pick(t)
	note := d.drawNote(t)
	got, gotErr := tested.Old(d.ctx, ref, note, 100)
	want, wantErr := model.Old(d.ctx, ref, note, 100)
	d.same("old", sorted(got), gotErr, sorted(want), wantErr)
}

func sorted(entries []inventory.Entry) []inventory.Entry {
	slices.SortFunc(entries, func(a, b inventory.Entry) int { return strings.Compare(a.ID, b.ID) })
	return entries
}

func (d *duel) doom(t *rapid.T) {
	tested, model, ref := d.pick(t)
	note, ids := d.drawNote(t), rapid.SliceOfN(someID, 0, 4).Draw(t, "ids")
	got, gotErr := tested.Doom(d.ctx, ref, note, ids)
	want, wantErr := model.Doom(d.ctx, ref, note, ids)
	d.same("doom", fmt.Sprint(got), gotErr, fmt.Sprint(want), wantErr)
}

// sweep dooms what nobody touches between its note and its doom. The notes that doom draws are mostly too old to doom anything.
func (d *duel) sweep(t *rapid.T) {
	taken := len(d.notes)
	d.note(t)
	if all := d.notes; len(all) > taken {
		d.notes = all[taken:]
		d.doom(t)
		d.notes = all
	}
}

func (d *duel) close(t *rapid.T) {
	tested, model, ref := d.pick(t)
	d.same("close", nil, tested.Close(d.ctx, ref), nil, model.Close(d.ctx, ref))
	d.moved()
}

func (d *duel) load(t *rapid.T) {
	tested, model, ref := d.pick(t)
	entries := drawEntries(t)
	d.same("load", nil, tested.Load(d.ctx, ref, entries), nil, model.Load(d.ctx, ref, entries))
}

func drawEntries(t *rapid.T) []inventory.Entry {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) inventory.Entry {
		state := rapid.SampledFrom([]inventory.State{inventory.Ordered, inventory.Void, inventory.Sold}).Draw(t, "state")
		return inventory.Entry{Hold: drawHold(t), State: state}
	}), 0, 4).Draw(t, "entries")
}

func (d *duel) open(t *rapid.T) {
	tested, model, ref := d.pick(t)
	available, known := rapid.Int64Range(0, 6).Draw(t, "available"), rapid.Int64Range(0, 3).Draw(t, "known")
	if rapid.Bool().Draw(t, "right") {
		levels, err := model.Levels(d.ctx, d.ref.Item)
		if err != nil {
			t.Fatalf("levels: %v", err)
		}
		known = levels.Known
	}
	d.same("open", nil, tested.Open(d.ctx, ref, available, 1, 2, known), nil, model.Open(d.ctx, ref, available, 1, 2, known))
	d.moved()
}

// rebuild takes the item to the next epoch, without random mistakes, and has it watched or not.
func (d *duel) rebuild() {
	d.ref.Epoch++
	available := rapid.Int64Range(0, 6).Draw(d.T, "available")
	entries := drawEntries(d.T)
	names := make(map[string]bool)
	for _, e := range entries {
		names[e.ID] = true
	}
	known := int64(len(names))
	for _, stock := range []Batcher{d.world.Stocks[0], d.model.Stocks[0]} {
		err := errors.Join(stock.Close(d.ctx, d.ref), stock.Load(d.ctx, d.ref, entries),
			stock.Open(d.ctx, d.ref, available, 1, 2, known))
		if err != nil {
			d.Fatalf("rebuild: %v", err)
		}
	}
	d.watched = rapid.Bool().Draw(d.T, "watched")
	d.notes = nil
	d.watch()
}

// moved follows the shard to another epoch.
func (d *duel) moved() {
	levels, err := d.model.Stocks[0].Levels(d.ctx, d.ref.Item)
	if err != nil {
		d.Fatalf("levels: %v", err)
	}
	if levels.Epoch != d.ref.Epoch {
		d.ref.Epoch, d.notes = levels.Epoch, nil
		d.watch()
	}
}

func (d *duel) watch() {
	var refs []inventory.Ref
	if d.watched {
		refs = append(refs, d.ref)
	}
	for _, stock := range d.world.Stocks {
		stock.Watch(refs)
	}
}

// failover forgets what happened since a moment ago, or everything. Whoever saw more is told; then the item is rebuilt.
func (d *duel) failover() {
	restore, modelRestore := d.world.Save(), d.model.Save()
	h := named("late", "u9", 1)
	got, gotErr := d.world.Stocks[0].Hold(d.ctx, d.ref, h, 0)
	want, wantErr := d.model.Stocks[0].Hold(d.ctx, d.ref, h, 0)
	d.same("hold before the failover", got, gotErr, want, wantErr)
	if rapid.Bool().Draw(d.T, "everything") {
		restore, modelRestore = d.world.Lose, d.model.Lose
	}
	restore()
	modelRestore()
	got, gotErr = d.world.Stocks[0].Hold(d.ctx, d.ref, h, 0)
	want, wantErr = d.model.Stocks[0].Hold(d.ctx, d.ref, h, 0)
	d.same("hold after the failover", got, gotErr, want, wantErr)
	if wantErr == nil {
		d.Fatalf("the model forgot and doesn't know: %+v", want)
	}
	d.rebuild()
}

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

	"github.com/penstock/penstock/inventory"
)

// exerciseRandom makes random calls of two processes and compares each answer with the Model's. A
// failure is shrunk, and printed with all calls and the seed that repeats it (-rapid.seed).
func exerciseRandom(t *testing.T, open func(t *testing.T, processes int) World) {
	world := open(t, 2)
	model := OpenModels(t, 2)
	shard := inventory.ShardID(0)
	var epoch inventory.Epoch
	rapid.Check(t, func(rt *rapid.T) {
		shard = (shard + 1) % inventory.MaxShards // each run has a shard and epochs of its own
		epoch += 1000
		d := &duel{T: rt, ctx: t.Context(), ref: inventory.Ref{Shard: shard, Epoch: epoch}, world: world, model: model}
		d.rebuild()
		rt.Repeat(map[string]func(*rapid.T){
			"":        d.levels,
			"hold":    d.hold,
			"hold2":   d.hold, // holds are the most frequent
			"hold3":   d.hold,
			"find":    d.find,
			"confirm": d.confirm,
			"settle":  d.settle,
			"restock": d.restock,
			"note":    d.note,
			"old":     d.old,
			"doom":    d.doom,
			"sweep":   d.sweep,
			"forget":  d.forget,
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
func (d *duel) pick(t *rapid.T) (tested, model Stock, ref inventory.Ref) {
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

// same fails if two answers differ.
func (d *duel) same(what string, got any, gotErr error, want any, wantErr error) {
	d.Helper()
	if kind(gotErr) != kind(wantErr) || gotErr == nil && !reflect.DeepEqual(got, want) {
		d.Fatalf("%s: answered %+v, %v; the model says %+v, %v", what, got, gotErr, want, wantErr)
	}
}

// kind names the kind of an error.
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

// few has few values, so that the same ones are drawn again.
var (
	someID       = rapid.SampledFrom([]string{"a", "b", "c", "d"})
	someQuantity = rapid.SampledFrom([]int{1, 1, 1, 2})
	someBuyer    = rapid.SampledFrom([]string{"u1", "u2", "u3", ""})
	someItem     = rapid.SampledFrom([]inventory.ItemID{1, 1, 1, 2, 3})
	someLimit    = rapid.IntRange(0, 4)
)

func drawHold(t *rapid.T) inventory.Hold {
	return Named(someItem.Draw(t, "item"), someID.Draw(t, "id"), someBuyer.Draw(t, "buyer"), someQuantity.Draw(t, "quantity"))
}

func (d *duel) hold(t *rapid.T) {
	tested, model, ref := d.pick(t)
	got := inventory.HoldCall{Ref: ref, Claims: drawClaims(t)}
	want := inventory.HoldCall{Ref: ref, Claims: got.Claims}
	first := got.Claims[0]
	if tested.SoldOut(ref, first.Item, first.ID) && !model.SoldOut(ref, first.Item, first.ID) {
		d.stale("sold out", func() bool { return tested.SoldOut(ref, first.Item, first.ID) })
	}
	if tested.Absent(ref, first.ID, time.Time{}) && !model.Absent(ref, first.ID, time.Time{}) {
		d.stale("absent", func() bool { return tested.Absent(ref, first.ID, time.Now()) })
	}
	tested.Hold(d.ctx, []*inventory.HoldCall{&got})
	model.Hold(d.ctx, []*inventory.HoldCall{&want})
	d.same("hold", answer(got), got.Err, answer(want), want.Err)
}

func answer(c inventory.HoldCall) string { return fmt.Sprint(c.Verdicts, c.Seq) }

// drawClaims draws the claims of one call. Half of the calls are of one item, quantity or limit
// each.
func drawClaims(t *rapid.T) []inventory.Claim {
	oneItem, oneQuantity := rapid.Bool().Draw(t, "one item"), rapid.Bool().Draw(t, "one quantity")
	oneLimit, oneOrders := rapid.Bool().Draw(t, "one limit"), rapid.Bool().Draw(t, "one most")
	claims := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) inventory.Claim {
		return inventory.Claim{Hold: drawHold(t), Limit: someLimit.Draw(t, "limit"), MaxOrders: someLimit.Draw(t, "most")}
	}), 1, 12).Draw(t, "claims")
	for i := range claims {
		if oneItem {
			h := &claims[i].Hold
			*h = Named(claims[0].Item, strings.TrimSpace(h.ID[24:]), h.Buyer, h.Quantity)
		}
		if oneQuantity {
			claims[i].Quantity = claims[0].Quantity
		}
		if oneLimit {
			claims[i].Limit = claims[0].Limit
		}
		if oneOrders {
			claims[i].MaxOrders = claims[0].MaxOrders
		}
	}
	return claims
}

// stale waits until a wrong answer from memory is corrected: a process may not know yet what
// another one did a moment ago.
func (d *duel) stale(what string, wrong func() bool) {
	deadline := time.Now().Add(time.Second)
	for wrong() {
		if time.Now().After(deadline) {
			d.Fatalf("%s from memory for longer than a second, and the model knows better", what)
		}
	}
}

func (d *duel) find(t *rapid.T) {
	tested, model, ref := d.pick(t)
	h := drawHold(t)
	got, gotErr := tested.Find(d.ctx, ref, h.Item, h.ID)
	want, wantErr := model.Find(d.ctx, ref, h.Item, h.ID)
	d.same("find", got, gotErr, want, wantErr)
}

func (d *duel) confirm(t *rapid.T) {
	tested, model, ref := d.pick(t)
	holds := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) inventory.Hold {
		h := drawHold(t)
		h.Seq = rapid.Uint64Range(0, 16).Draw(t, "seq") // right, wrong or not known: it must not matter
		return h
	}), 0, 4).Draw(t, "holds")
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
	restocks := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) inventory.Restock {
		return inventory.Restock{
			Item: someItem.Draw(t, "item"), ID: rapid.SampledFrom([]string{"r1", "r2", "r"}).Draw(t, "id"),
			Units: rapid.Int64Range(0, 3).Draw(t, "units"), Publish: rapid.Bool().Draw(t, "publish"),
		}
	}), 0, 3).Draw(t, "restocks")
	got, gotErr := tested.Restock(d.ctx, ref, restocks)
	want, wantErr := model.Restock(d.ctx, ref, restocks)
	d.same("restock", got, gotErr, want, wantErr)
}

func (d *duel) levels(t *rapid.T) {
	d.T = t
	items := []inventory.ItemID{3, 1, 2}
	gotLevels, gotItems, gotErr := d.world.Stocks[0].ItemNumbers(d.ctx, d.ref.Shard, items)
	wantLevels, wantItems, wantErr := d.model.Stocks[0].ItemNumbers(d.ctx, d.ref.Shard, items)
	d.same("levels", gotLevels, gotErr, wantLevels, wantErr)
	d.same("levels of items", gotItems, gotErr, wantItems, wantErr)
	d.world.check(t, d.ref.Shard)
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

// old makes a pass of one call, since no implementation promises how several calls divide the
// holds.
func (d *duel) old(t *rapid.T) {
	tested, model, ref := d.pick(t)
	note := d.drawNote(t)
	got, _, gotMore, gotErr := tested.Old(d.ctx, ref, note, 0, 1000)
	want, _, wantMore, wantErr := model.Old(d.ctx, ref, note, 0, 1000)
	d.same("old", sorted(got), gotErr, sorted(want), wantErr)
	d.same("more", gotMore, gotErr, wantMore, wantErr)
}

func sorted(entries []inventory.Entry) []inventory.Entry {
	slices.SortFunc(entries, func(a, b inventory.Entry) int { return strings.Compare(a.ID, b.ID) })
	return entries
}

func (d *duel) doom(t *rapid.T) {
	tested, model, ref := d.pick(t)
	note, holds := d.drawNote(t), rapid.SliceOfN(rapid.Custom(drawHold), 0, 4).Draw(t, "holds")
	got, gotErr := tested.Doom(d.ctx, ref, note, holds)
	want, wantErr := model.Doom(d.ctx, ref, note, holds)
	d.same("doom", fmt.Sprint(got), gotErr, fmt.Sprint(want), wantErr)
}

// sweep dooms holds that are not touched between its note and its doom. The records that doom draws
// are mostly too old to doom anything.
func (d *duel) sweep(t *rapid.T) {
	taken := len(d.notes)
	d.note(t)
	if all := d.notes; len(all) > taken {
		d.notes = all[taken:]
		d.doom(t)
		d.notes = all
	}
}

// forget drops heads, and items with them: no implementation promises anything about holds that
// stay without their item.
func (d *duel) forget(t *rapid.T) {
	tested, model, ref := d.pick(t)
	heads := make([]string, 0, 4)
	for _, h := range rapid.SliceOfN(rapid.Custom(drawHold), 0, 3).Draw(t, "heads") {
		heads = append(heads, inventory.Head(h.ID))
	}
	var items []inventory.ItemID
	if rapid.Bool().Draw(t, "items") {
		items = append(items, someItem.Draw(t, "item"))
	}
	d.same("forget", nil, tested.Forget(d.ctx, ref, items, heads), nil, model.Forget(d.ctx, ref, items, heads))
}

func (d *duel) close(t *rapid.T) {
	tested, model, ref := d.pick(t)
	d.same("close", nil, tested.Close(d.ctx, ref), nil, model.Close(d.ctx, ref))
	d.moved()
}

func (d *duel) load(t *rapid.T) {
	tested, model, ref := d.pick(t)
	items, entries := drawLoad(t)
	d.same("load", nil, tested.Load(d.ctx, ref, items, entries), nil, model.Load(d.ctx, ref, items, entries))
}

func drawLoad(t *rapid.T) ([]inventory.Stocked, []inventory.Entry) {
	items := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) inventory.Stocked {
		available, sold := rapid.Int64Range(-1, 6).Draw(t, "available"), rapid.Int64Range(0, 2).Draw(t, "sold")
		return inventory.Stocked{Item: someItem.Draw(t, "item"), Total: available + sold + 1, Available: available, Sold: sold}
	}), 0, 3).Draw(t, "items")
	entries := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) inventory.Entry {
		state := rapid.SampledFrom([]inventory.State{inventory.Ordered, inventory.Void, inventory.Sold}).Draw(t, "state")
		return inventory.Entry{Hold: drawHold(t), State: state}
	}), 0, 4).Draw(t, "entries")
	return items, entries
}

func (d *duel) open(t *rapid.T) {
	tested, model, ref := d.pick(t)
	items, names := rapid.Int64Range(0, 3).Draw(t, "items"), rapid.Int64Range(0, 3).Draw(t, "names")
	if rapid.Bool().Draw(t, "right") {
		levels, err := numbersOf(d.ctx, model, d.ref.Shard)
		if err != nil {
			t.Fatalf("levels: %v", err)
		}
		items, names = levels.Items, levels.Names
	}
	d.same("open", nil, tested.Open(d.ctx, ref, items, names), nil, model.Open(d.ctx, ref, items, names))
	d.moved()
}

// rebuild takes the shard to the next epoch, without random mistakes, and has it watched or not.
func (d *duel) rebuild() {
	d.ref.Epoch++
	items, entries := drawLoad(d.T)
	var levels inventory.Numbers
	for _, stock := range []Stock{d.model.Stocks[0], d.world.Stocks[0]} {
		err := errors.Join(stock.Close(d.ctx, d.ref), stock.Load(d.ctx, d.ref, items, entries))
		if levels == (inventory.Numbers{}) {
			levels, _ = numbersOf(d.ctx, stock, d.ref.Shard)
		}
		if err := errors.Join(err, stock.Open(d.ctx, d.ref, levels.Items, levels.Names)); err != nil {
			d.Fatalf("rebuild: %v", err)
		}
	}
	d.watched = rapid.Bool().Draw(d.T, "watched")
	d.notes = nil
	d.watch()
}

// moved follows the shard to another epoch.
func (d *duel) moved() {
	levels, err := numbersOf(d.ctx, d.model.Stocks[0], d.ref.Shard)
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

// failover forgets the writes since a recent moment, or everything. A process that saw later writes
// detects it; then the shard is rebuilt.
func (d *duel) failover() {
	restore, modelRestore := d.world.Save(), d.model.Save()
	claims := []inventory.Claim{{Hold: Named(1, "late", "u9", 1)}}
	hold := func(when string) error {
		got, want := inventory.HoldCall{Ref: d.ref, Claims: claims}, inventory.HoldCall{Ref: d.ref, Claims: claims}
		d.world.Stocks[0].Hold(d.ctx, []*inventory.HoldCall{&got})
		d.model.Stocks[0].Hold(d.ctx, []*inventory.HoldCall{&want})
		d.same("hold "+when+" the failover", answer(got), got.Err, answer(want), want.Err)
		return want.Err
	}
	_ = hold("before")
	if rapid.Bool().Draw(d.T, "everything") {
		restore, modelRestore = d.world.Lose, d.model.Lose
	}
	restore()
	modelRestore()
	if hold("after") == nil {
		d.Fatalf("the model forgot and doesn't know")
	}
	d.rebuild()
}

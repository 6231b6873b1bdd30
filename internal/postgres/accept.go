package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// acceptPatience is how long Accept waits for a stock row before it returns ErrLocked.
const acceptPatience = 500 * time.Millisecond

// Accept implements seckill.OrderStore. It takes two round trips: one begins, locks the rows and
// reads the data for the decision, and one writes and commits. If rows stay locked, it tries once
// more without those that no promise of the batch needs because its order exists already.
func (s *Store) Accept(ctx context.Context, b seckill.Batch) ([]seckill.Acceptance, error) {
	moves, err := joinMoves(b.Moves)
	if err != nil {
		return nil, describe("accept promises", err)
	}
	a := &accepting{store: s, pages: cleanPages(b.Pages), letters: b.Letters, moves: moves, park: b.Park, skip: b.Park, by: b.By}
	a.items = make([][]inventory.ItemID, len(a.pages))
	for i := range a.pages {
		promises := a.pages[i].Promises
		a.items[i] = make([]inventory.ItemID, len(promises))
		for j := range promises {
			a.ids, a.items[i][j] = append(a.ids, promises[j].Order), promises[j].Item()
		}
	}
	err = s.write(ctx, "accept promises", a.run)
	if errors.Is(err, seckill.ErrLocked) && !a.skip {
		a.skip = true
		err = s.write(ctx, "accept promises", a.run)
	}
	if err != nil {
		return nil, err
	}
	return a.out, nil
}

// accepting is a worker's batch in progress.
type accepting struct {
	store   *Store
	pages   []seckill.Page
	letters []seckill.DeadLetter
	moves   []seckill.Move
	ids     []seckill.OrderID
	items   [][]inventory.ItemID // the items of the promises, page by page
	park    bool                 // promises of locked rows may be parked
	skip    bool                 // don't wait for locked rows
	by      seckill.Author       // the person who replays the log; zero for a worker

	out []seckill.Acceptance
}

func (a *accepting) run(ctx context.Context, tx *transaction) error {
	pl, err := a.store.placesOf(ctx, tx.pipe, a.ids)
	if err != nil {
		return err
	}
	in, f, err := a.read(ctx, tx, pl)
	if err != nil {
		return err
	}
	a.out = make([]seckill.Acceptance, 0, len(a.ids))
	changes := seckill.NewChanges()
	for i := range a.pages {
		a.out = append(a.out, seckill.DecideAccept(&a.pages[i], in.AcceptInput, changes)...)
	}
	if !a.park {
		if err := seckill.CheckLocked(a.out); err != nil {
			return err
		}
	}
	changes.Letters = seckill.MergeLetters(a.letters, changes.Letters)
	queueChanges(tx, f, in.weekOf(pl), changes)
	if a.by == (seckill.Author{}) {
		return nil
	}
	records, err := seckill.RecordAccepted(a.out)
	for _, r := range records {
		tx.record(a.by, r)
	}
	return err
}

// input has the data that a decision about promises needs.
type input struct {
	*seckill.AcceptInput
	there map[seckill.StockKey]bool // the existing rows, locked or not
}

// weekOf returns the partition of a new order: that of its item, if the item still exists. A
// remembered home may name a partition that was dropped since.
func (in input) weekOf(pl places) func(*seckill.Order) int32 {
	return func(o *seckill.Order) int32 {
		if key := o.Stock(); in.Stock[key] == nil && !in.there[key] {
			return strays
		}
		return pl.week(o.Item)
	}
}

// read locks the rows of the batch, and reads what its decision needs. It compares the positions
// and moves them.
func (a *accepting) read(ctx context.Context, tx *transaction, pl places) (in input, f *found, err error) {
	var shards []int32
	wanted := make(map[seckill.StockKey]bool)
	for i := range a.pages {
		p := &a.pages[i]
		shards = append(shards, int32(p.Ref.Shard))
		for j := range p.Promises {
			wanted[seckill.StockKey{Item: a.items[i][j], Shard: p.Ref.Shard}] = true
		}
	}
	keys := keysInOrder(wanted)
	epochs := queueEpochs(tx.pipe, "", shards)
	var moved int64
	queueMoves(tx.pipe, &moved, a.moves)
	stock := a.queueStock(tx.pipe, keys)
	in.there = make(map[seckill.StockKey]bool)
	if a.skip {
		in.there = queueKeys(tx.pipe, keys)
	}
	tx.readClock()
	f, bought := a.queueBuyers(tx.pipe, pl)
	if err := tx.flush(ctx); err != nil {
		return in, nil, err
	}
	if moved != int64(len(a.moves)) {
		return in, nil, seckill.ErrMoved
	}
	for i := range a.pages {
		if _, ok := epochs[a.pages[i].Ref.Shard]; !ok {
			return in, nil, fmt.Errorf("%w: there is no shard %d", seckill.ErrLayout, a.pages[i].Ref.Shard)
		}
	}
	in.AcceptInput = &seckill.AcceptInput{
		Epochs: epochs, Stock: stock, Locked: lockedKeys(in.there, stock), Existing: f.orders, Bought: bought, Now: tx.now,
	}
	return in, f, a.readNewLimits(ctx, tx, pl, in)
}

// queueStock queues the locking of the stock rows. Only these rows may lead to ErrLocked. If the
// row of a shard or of a position stays locked too long, that is an error of the server, and the
// worker waits until it is over.
func (a *accepting) queueStock(p *pipe, keys []seckill.StockKey) map[seckill.StockKey]*seckill.Ledger {
	if a.skip {
		return queueLedgers(p, lockFreeLedgers, keys)
	}
	setLockTimeout(p, acceptPatience)
	defer resetLockTimeout(p)
	return queueLedgers(p, lockLedgers, keys)
}

// queueBuyers queues the reading of the existing orders, and of the units of buyers of items with a
// limit.
func (a *accepting) queueBuyers(p *pipe, pl places) (*found, map[seckill.BuyerKey]int64) {
	f, bought := newFound(), make(map[seckill.BuyerKey]int64)
	heads, limited, others := make(map[int32][]string), make(map[int32][]string), make(map[int32][]string)
	asked := make(map[string]bool)
	for i := range a.pages {
		for j := range a.pages[i].Promises {
			id := string(a.pages[i].Promises[j].Order)
			h, ok := pl.homes[a.items[i][j]]
			switch head := inventory.Head(id); {
			case !ok:
			case !h.limited:
				others[h.week] = append(others[h.week], id)
			default:
				limited[h.week] = append(limited[h.week], id)
				if !asked[head] {
					asked[head] = true
					heads[h.week] = append(heads[h.week], head)
				}
			}
		}
	}
	for _, week := range inOrder(heads) {
		p.each(func(rows pgx.Rows) error {
			o, err := f.add(rows)
			if o.Units == seckill.UnitsOpen || o.Units == seckill.UnitsSold {
				bought[seckill.BuyerKey{Item: o.Item, User: o.User}] += int64(o.Quantity)
			}
			return err
		}, ordersOfBuyers, week, heads[week], limited[week])
	}
	if all := pl.ids[strays]; len(all) > 0 {
		others[strays] = all
	}
	for _, week := range inOrder(others) {
		p.each(f.scan, findOrders, week, others[week])
	}
	return f, bought
}

// readNewLimits reads the buyers' units of items that got a limit after their home was remembered.
func (a *accepting) readNewLimits(ctx context.Context, tx *transaction, pl places, in input) error {
	who := newBuyers()
	for i := range a.pages {
		p := &a.pages[i]
		for j := range p.Promises {
			item := a.items[i][j]
			h := pl.homes[item]
			if row := in.Stock[seckill.StockKey{Item: item, Shard: p.Ref.Shard}]; row != nil && row.PerUser > 0 && !h.limited {
				who.add(h, p.Promises[j].Order, item, p.Promises[j].User)
				a.store.weeks.remember(item, home{h.week, true})
			}
		}
	}
	who.queue(tx.pipe)
	err := tx.flush(ctx)
	maps.Copy(in.Bought, who.bought)
	return err
}

// lockedKeys returns the existing rows that were not free.
func lockedKeys(there map[seckill.StockKey]bool, free map[seckill.StockKey]*seckill.Ledger) map[seckill.StockKey]bool {
	locked := make(map[seckill.StockKey]bool)
	for key := range there {
		if free[key] == nil {
			locked[key] = true
		}
	}
	return locked
}

// cleanPages returns pages with texts that the tables accept. A promise whose texts had to be
// changed fits no item and is parked, or differs only in texts for people. It must never stop its
// partition.
func cleanPages(pages []seckill.Page) []seckill.Page {
	var out []seckill.Page
	for i := range pages {
		for j := range pages[i].Promises {
			if !isDirty(&pages[i], &pages[i].Promises[j]) {
				continue
			}
			if out == nil {
				out = append(out, pages...)
			}
			out[i] = cleanPage(pages[i])
			break
		}
	}
	if out == nil {
		return pages
	}
	return out
}

func isDirty(p *seckill.Page, r *seckill.Promise) bool {
	for _, s := range [...]string{
		string(r.Caller.Merchant), string(r.Caller.Caller), string(r.Activity), string(r.SKU), string(r.User),
		r.Amount.Currency, r.Request, p.Node,
	} {
		if clean(s) != s {
			return true
		}
	}
	return false
}

func cleanPage(p seckill.Page) seckill.Page {
	p.Node = clean(p.Node)
	p.Promises = append([]seckill.Promise(nil), p.Promises...)
	for i := range p.Promises {
		r := &p.Promises[i]
		r.Caller.Merchant = seckill.MerchantID(clean(string(r.Caller.Merchant)))
		r.Caller.Caller = seckill.CallerID(clean(string(r.Caller.Caller)))
		r.Activity, r.SKU = seckill.ActivityID(clean(string(r.Activity))), seckill.SKU(clean(string(r.SKU)))
		r.User, r.Request = seckill.UserID(clean(string(r.User))), clean(r.Request)
		r.Amount.Currency = clean(r.Amount.Currency)
	}
	return p
}

// clean replaces the bytes in a text that the database can't store: invalid UTF-8 and zeros.
func clean(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

package desk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Restocked is the answer to a restock: the item's total afterwards.
type Restocked struct {
	Total    int64
	Replayed bool
}

// Restock changes an item's total by delta, once per key. To take units back, the shop first holds
// them, so it never takes more than are available. Then the total changes, in a transaction that
// checks the holds' epochs.
func (o *Office) Restock(ctx context.Context, id seckill.ActivityID, sku seckill.SKU, key string, delta int64,
	by seckill.Author) (Restocked, error) {
	offer, err := o.offer(ctx, id, sku)
	if err != nil {
		return Restocked{}, err
	}
	change := seckill.StockChange{Item: offer.ID, Key: key, Delta: delta}
	if done, found, err := o.restockedBefore(ctx, id, sku, change); found || err != nil {
		return done, err
	}
	switch {
	case offer.Sale.State == seckill.ActivityDraft && delta < 0:
		return Restocked{}, errIsDraft
	case delta > 0 && offer.Sale.State == seckill.ActivityEnded:
		return Restocked{}, errHasEnded
	case delta > 0:
		return o.change(ctx, change, nil, by)
	}
	taken, err := o.takeBack(ctx, offer, key, -delta)
	if errors.Is(err, errInsufficientStock) {
		// A concurrent attempt with the same key may have the units, if it came after this one
		// looked for its holds.
		taken, err = o.takeBack(ctx, offer, key, -delta)
	}
	if err != nil {
		// Such an attempt may also have finished in the meantime: then its holds are sold.
		if done, found, lookup := o.restockedBefore(ctx, id, sku, change); found && lookup == nil {
			return done, nil
		}
		return Restocked{}, err
	}
	return o.change(ctx, change, taken, by)
}

// restockedBefore answers a repeat with the item's present total; found is false if the change's
// key was not used before.
func (o *Office) restockedBefore(ctx context.Context, id seckill.ActivityID, sku seckill.SKU,
	c seckill.StockChange) (done Restocked, found bool, err error) {
	earlier, found, err := o.store.FindStockChange(ctx, c.Item, c.Key)
	switch {
	case err != nil:
		return Restocked{}, false, storeFailure("look for the change", err)
	case !found:
		return Restocked{}, false, nil
	case earlier.Delta != c.Delta:
		return Restocked{}, true, errKeyReused
	}
	a, err := o.store.FindActivity(ctx, id)
	if err != nil {
		return Restocked{}, true, storeFailure("read the activity", err)
	}
	for i := range a.Items {
		if a.Items[i].SKU == sku {
			return Restocked{Total: a.Items[i].Quantity, Replayed: true}, true, nil
		}
	}
	return Restocked{}, true, errUnknownItem
}

// change writes a stock change. For a withdrawal, the holds have taken the units before.
func (o *Office) change(ctx context.Context, c seckill.StockChange, taken []seckill.Taken, by seckill.Author) (Restocked, error) {
	var done Restocked
	var err error
	if c.Delta > 0 {
		done.Total, done.Replayed, err = o.store.Restock(ctx, c, by)
	} else {
		done.Total, done.Replayed, err = o.store.Withdraw(ctx, c, taken, by)
	}
	switch {
	case errors.Is(err, seckill.ErrKeyReused):
		return Restocked{}, errKeyReused
	case errors.Is(err, seckill.ErrTooHigh):
		return Restocked{}, seckill.FieldErrors{{
			Field: "delta", Detail: fmt.Sprintf("would make the total more than %d, the most that an item may have", seckill.MaxItemQuantity),
		}}
	case err != nil: // also if the holds went with their epoch, or were buried
		return Restocked{}, storeFailure("change the stock", err)
	}
	return done, nil
}

// share is an item's part on one shard, as a withdrawal sees it.
type share struct {
	ref       inventory.Ref
	hold      inventory.Entry // made by an earlier attempt with the same key
	available int64
	take      int64
}

// takeBack holds units of the offer for the shop, on as many of its shards as needed. It refuses if
// fewer are available. There is no undo: if a buyer takes some of the units first, the sweeper
// gives the held units back.
func (o *Office) takeBack(ctx context.Context, offer seckill.Offer, key string, units int64) ([]seckill.Taken, error) {
	shares, err := o.shares(ctx, offer, key)
	if err != nil {
		return nil, err
	}
	if err := divide(shares, units); err != nil {
		return nil, err
	}
	var calls []*inventory.HoldCall
	var taken []seckill.Taken
	for i := range shares {
		s := &shares[i]
		if s.take == 0 {
			continue
		}
		name := seckill.NewWithdrawalID(offer.ID, s.ref.Shard, key)
		hold := inventory.Hold{Item: offer.ID, ID: name, Quantity: int(s.take)}
		taken = append(taken, seckill.Taken{Ref: s.ref, Hold: hold})
		calls = append(calls, &inventory.HoldCall{Ref: s.ref, Claims: []inventory.Claim{{Hold: hold}}})
	}
	o.stock.Hold(ctx, calls)
	for _, call := range calls {
		if err := o.taken(call, len(calls) == 1); err != nil {
			return nil, err
		}
	}
	return taken, nil
}

// taken returns why a hold call of a withdrawal did not get its units. alone means that the
// withdrawal has no other call.
func (o *Office) taken(call *inventory.HoldCall, alone bool) error {
	if call.Err != nil || len(call.Verdicts) != 1 {
		err := cmp.Or(call.Err, errors.New("the stock did not answer the claim"))
		if errors.Is(err, inventory.ErrEpoch) {
			o.desk.isBehind()
		}
		// The next attempt with the same key finds the units that were held.
		return failure(seckill.CodeUnavailable, fmt.Errorf("hold units for the shop: %w", err))
	}
	switch v := call.Verdicts[0]; {
	case v.Fresh() || v == inventory.HeldOrdered:
		return nil
	case v == inventory.SoldOut && alone:
		return errInsufficientStock
	case v == inventory.SoldOut:
		return failure(seckill.CodeUnavailable, errors.New("buyers took units at the same moment"))
	case v == inventory.Reused:
		return errKeyReused
	case v == inventory.Unopened:
		return errUnopened
	}
	return errUndone // doomed or buried, because the earlier attempt did not finish
}

var errUndone = &seckill.Failure{
	Code: seckill.CodeUnavailable, RetryAfter: time.Second,
	Err: errors.New("an earlier attempt under this key is being undone; use another key"),
}

// shares reads the units that each shard of the offer has, and the hold of an earlier attempt
// there.
func (o *Office) shares(ctx context.Context, offer seckill.Offer, key string) ([]share, error) {
	shards := o.desk.Shards(offer)
	shares := make([]share, len(shards))
	for i, shard := range shards {
		ref := inventory.Ref{Shard: shard, Epoch: o.stock.Epoch(shard)}
		if ref.Epoch == 0 {
			return nil, errNotOpened
		}
		hold, err := o.stock.Find(ctx, ref, offer.ID, seckill.NewWithdrawalID(offer.ID, shard, key))
		if err != nil {
			return nil, o.desk.unavailable("", err)
		}
		_, levels, err := o.stock.ItemNumbers(ctx, shard, []inventory.ItemID{offer.ID})
		if err == nil && len(levels) != 1 {
			err = errors.New("the stock did not return the item's levels")
		}
		switch {
		case err != nil:
			return nil, failure(seckill.CodeUnavailable, err)
		case !levels[0].Known && offer.Sale.State == seckill.ActivityEnded:
			return nil, errHasEnded
		case !levels[0].Known:
			return nil, errUnopened
		}
		shares[i] = share{ref: ref, hold: hold, available: levels[0].Available}
	}
	return shares, nil
}

// divide says how many units to take from each share. The hold of an earlier attempt is kept; the
// rest is taken from the shards with the most available units.
func divide(shares []share, units int64) error {
	for i := range shares {
		s := &shares[i]
		switch s.hold.State {
		case inventory.None:
		case inventory.Fresh, inventory.Ordered:
			s.take = int64(s.hold.Quantity)
			units -= s.take
		default:
			return errUndone
		}
	}
	if units < 0 {
		return errKeyReused // the earlier attempt was for fewer units
	}
	slices.SortFunc(shares, func(a, b share) int { return cmp.Compare(b.available, a.available) })
	for i := range shares {
		if s := &shares[i]; s.take == 0 {
			s.take = max(0, min(units, s.available))
			units -= s.take
		}
	}
	if units > 0 {
		return errInsufficientStock
	}
	return nil
}

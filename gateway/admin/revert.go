package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/seckill"
)

// undo reverts one change. It reports whether that changed something. If the change was reverted
// before, nothing changes.
type undo func(ctx context.Context, c *call, by seckill.Author) (changed bool, err error)

// planRevert returns how to revert a change, or an error that tells why it can't be reverted. It
// looks only at the change itself; the undo checks for later changes.
func planRevert(ch *seckill.Change) (undo, error) {
	switch ch.Kind {
	case seckill.ChangeMerchant:
		return planMerchant(ch)
	case seckill.ChangeCaller:
		return planCaller(ch)
	case seckill.ChangeActivity:
		return planActivity(ch)
	case seckill.ChangeStock:
		return planStock(ch)
	case seckill.ChangeToken:
		return nil, notRevertible("A token can't be restored, since only its hash was stored. Make a new one, or delete this one.")
	case seckill.ChangeDeadLetters:
		return nil, notRevertible("Dead letters that were replayed or discarded don't come back.")
	case seckill.ChangeOrder:
		return nil, notRevertible("An order that was cancelled doesn't come back: its units may be sold again.")
	case seckill.ChangeRefund:
		return nil, notRevertible("A refund can't be reverted here: the money went back.")
	case seckill.ChangeExtension:
		return nil, notRevertible("Buyers were told that they have more time.")
	case seckill.ChangeCounters:
		return nil, notRevertible("The counters were corrected to the sums of the orders' rows; the old values were wrong.")
	case kindLimits:
		return planLimits(ch)
	case kindSwitches:
		return planSwitches(ch)
	case kindWebhooks:
		return planWebhooks(ch)
	case settings.KindNode:
		return nil, notRevertible("Drain and undrain have routes of their own. A node that was removed is known again when it is heard.")
	}
	return nil, notRevertible("This version doesn't know changes of this kind.")
}

// revertRole returns the role that may revert a change. It is the role that may do the opposite.
func revertRole(ch *seckill.Change) seckill.Role {
	switch ch.Kind {
	case seckill.ChangeStock, kindLimits, kindSwitches:
		return seckill.RoleOperator
	case seckill.ChangeActivity:
		before, after, made, err := sides[seckill.Activity](ch)
		if err == nil && !made && before.State != after.State { // a pause, or the end of one
			return seckill.RoleOperator
		}
	case seckill.ChangeCaller:
		before, after, _, err := sides[seckill.CallerRecord](ch)
		if err == nil && !prolongs(&before, &after) {
			return seckill.RoleOperator
		}
	}
	return seckill.RoleAdmin
}

// prolongs reports whether the revert of a change would give a key a later end.
func prolongs(before, after *seckill.CallerRecord) bool {
	ends := make(map[seckill.KeyID]time.Time)
	for _, key := range before.Keys {
		ends[key.ID] = key.Expires
	}
	for _, key := range after.Keys {
		if end, ok := ends[key.ID]; ok && !end.Equal(key.Expires) {
			return true
		}
	}
	return false
}

func notRevertible(detail string) error { return refuse(problem.NotRevertible, detail) }

// overtaken is the refusal if a later change touched the same object.
func overtaken() error {
	return notRevertible("Something else was changed on top of it. Read the current value and change that.")
}

// sides decodes both sides of a change. made means that there was nothing before it.
func sides[T any](ch *seckill.Change) (before, after T, made bool, err error) {
	if ch.After == "" {
		return before, after, false, notRevertible("It was deleted, and doesn't come back.")
	}
	if ch.Before != "" {
		err = json.Unmarshal([]byte(ch.Before), &before)
	}
	if err = errors.Join(err, json.Unmarshal([]byte(ch.After), &after)); err != nil {
		return before, after, false, notRevertible("This version can't read the change.")
	}
	return before, after, ch.Before == "", nil
}

// edited is like sides, for things that a revert can't delete. If the change made the thing, edited
// refuses with made.
func edited[T any](ch *seckill.Change, made string) (before, after T, err error) {
	before, after, isNew, err := sides[T](ch)
	if err == nil && isNew {
		err = notRevertible(made)
	}
	return before, after, err
}

func planMerchant(ch *seckill.Change) (undo, error) {
	before, after, err := edited[seckill.MerchantRecord](ch, "A merchant can't be deleted. Revoke its callers and end its activities instead.")
	switch {
	case err != nil:
		return nil, err
	case after.Resealed:
		return nil, notRevertible("The merchant's secrets were not changed, only the key that encrypts them.")
	case after.NewPaymentSecret:
		return nil, notRevertible("A payment secret can't be restored: put the merchant with the secret it should have.")
	}
	return func(ctx context.Context, c *call, by seckill.Author) (bool, error) {
		change := func(now *seckill.Merchant, _ time.Time) (*seckill.Merchant, error) {
			switch {
			case now == nil || now.Name != before.Name && now.Name != after.Name:
				return nil, overtaken()
			case now.Name == before.Name:
				return nil, errSame
			}
			now.Name = before.Name
			return now, nil
		}
		changed, err := c.undone(c.server.deps.Store.UpdateMerchant(ctx, before.ID, by, change))
		if changed {
			c.server.refresh(ctx)
		}
		return changed, err
	}, nil
}

// planCaller reverts a change of a caller and its keys. Nothing is deleted: the revert of an
// addition revokes the caller, and the revert of a revocation makes it valid again.
func planCaller(ch *seckill.Change) (undo, error) {
	before, after, made, err := sides[seckill.CallerRecord](ch)
	if err != nil {
		return nil, err
	}
	if before.Name != after.Name && !made || before.Rights != after.Rights && !made || before.Shadow != after.Shadow && !made {
		return nil, notRevertible("The caller was added anew. Revoke it instead.")
	}
	return func(ctx context.Context, c *call, by seckill.Author) (bool, error) {
		changed := false
		_, err := c.changeCaller(ctx, after.CallerRef, by, func(now *seckill.Caller, _ time.Time) (*seckill.Caller, error) {
			changed = false
			if now == nil {
				return nil, seckill.ErrNotFound
			}
			next := now.Clone()
			err := undoCaller(next, &before, &after, made)
			changed = !next.Same(now)
			return next, err
		})
		return changed, err
	}, nil
}

// undoCaller restores the parts of a caller that a change has changed.
func undoCaller(now *seckill.Caller, before, after *seckill.CallerRecord, made bool) error {
	if made {
		now.Revoked = true
		return nil
	}
	if before.Revoked != after.Revoked {
		now.Revoked = before.Revoked
	}
	was := make(map[seckill.KeyID]seckill.KeyRecord)
	for _, key := range before.Keys {
		was[key.ID] = key
	}
	for _, became := range after.Keys {
		key, old := now.Key(became.ID), was[became.ID]
		switch {
		case old == became:
		case key == nil:
			return overtaken()
		case old.ID == "": // the caller was added by this change
			key.Revoked = true
		case key.Revoked == old.Revoked && key.Expires.Equal(old.Expires):
		case key.Revoked != became.Revoked || !key.Expires.Equal(became.Expires):
			return overtaken()
		default:
			key.Revoked, key.Expires = old.Revoked, old.Expires
		}
	}
	return nil
}

// undone turns the result of a write into the result of an undo; errSame means that nothing was
// changed.
func (c *call) undone(_ any, err error) (changed bool, _ error) {
	if r, ok := errors.AsType[*refusal](err); ok {
		return false, r
	}
	switch {
	case errors.Is(err, errSame):
		return false, nil
	case err != nil:
		return false, failed("take the change back", err)
	}
	return true, nil
}

// planActivity reverts a pause, a resume, or a change of the document.
func planActivity(ch *seckill.Change) (undo, error) {
	before, after, err := edited[seckill.Activity](ch, "An activity can't be deleted. End it instead.")
	switch {
	case err != nil:
		return nil, err
	case !before.Archive.Equal(after.Archive):
		return func(ctx context.Context, c *call, by seckill.Author) (bool, error) {
			return restoreArchive(ctx, c, before, after, by)
		}, nil
	case before.State != seckill.ActivityDraft && spreads(&before, &after):
		return nil, notRevertible("Units of the activity's items are on more shards now, and remain there. " +
			"To restore the rest of the change, edit the activity before its start.")
	case before.State == after.State:
		return func(ctx context.Context, c *call, by seckill.Author) (bool, error) {
			return restoreActivity(ctx, c, before, after, by)
		}, nil
	case after.State == seckill.ActivityPaused || before.State == seckill.ActivityPaused && after.State == seckill.ActivityPublished:
		return func(ctx context.Context, c *call, by seckill.Author) (bool, error) {
			return restoreState(ctx, c, before.ID, before.State, by)
		}, nil
	}
	return nil, notRevertible(fmt.Sprintf("An activity that was %s before can't become %s again.", after.State, before.State))
}

// spreads reports whether a change has put an item on more shards.
func spreads(before, after *seckill.Activity) bool {
	return slices.ContainsFunc(before.Items, func(was seckill.Item) bool {
		is := findItem(after, was.SKU)
		return is != nil && is.Spread > was.Spread
	})
}

// restoreArchive removes the permission to drop an activity's orders.
func restoreArchive(ctx context.Context, c *call, before, after seckill.Activity, by seckill.Author) (bool, error) {
	now, err := c.server.deps.Store.FindActivity(ctx, before.ID)
	switch {
	case errors.Is(err, seckill.ErrNotFound):
		return false, overtaken()
	case err != nil:
		return false, failed("read the activity", err)
	case now.Archive.Equal(before.Archive):
		return false, nil
	case !now.Archive.Equal(after.Archive):
		return false, overtaken()
	}
	_, err = c.server.deps.Office.Archive(ctx, before.ID, before.Archive, by)
	return err == nil, err
}

// restoreState pauses or resumes.
func restoreState(ctx context.Context, c *call, id seckill.ActivityID, to seckill.ActivityState, by seckill.Author) (bool, error) {
	v, err := c.server.catalog(ctx)
	if err != nil {
		return false, err
	}
	if now := v.Activity(id); now != nil && now.State == to {
		return false, nil
	}
	move := c.server.deps.Office.Resume
	if to == seckill.ActivityPaused {
		move = c.server.deps.Office.Pause
	}
	_, err = move(ctx, id, by)
	return err == nil, err
}

// restoreActivity restores the document from before a change, if nothing has changed the document
// since.
func restoreActivity(ctx context.Context, c *call, before, after seckill.Activity, by seckill.Author) (bool, error) {
	now, err := c.server.deps.Store.FindActivity(ctx, before.ID)
	switch {
	case errors.Is(err, seckill.ErrNotFound):
		return false, overtaken()
	case err != nil:
		return false, failed("read the activity", err)
	case sameDocument(now, &before):
		return false, nil
	case !sameDocument(now, &after):
		return false, overtaken()
	}
	for i := range before.Items {
		// Each restock is a separate change.
		if item := findItem(now, before.Items[i].SKU); item != nil && now.State != seckill.ActivityDraft {
			before.Items[i].Quantity = item.Quantity
		}
	}
	_, err = c.server.deps.Office.PutActivity(ctx, before, by)
	return err == nil, err
}

func findItem(a *seckill.Activity, sku seckill.SKU) *seckill.Item {
	for i := range a.Items {
		if a.Items[i].SKU == sku {
			return &a.Items[i]
		}
	}
	return nil
}

// sameDocument reports whether now still equals a. It ignores the state, and quantities of
// published items, which change in other ways.
func sameDocument(now, a *seckill.Activity) bool {
	return now.Merchant == a.Merchant && now.Name == a.Name && now.StartsAt.Equal(a.StartsAt) && now.EndsAt.Equal(a.EndsAt) &&
		now.PaymentWindow == a.PaymentWindow && slices.EqualFunc(now.Items, a.Items, func(n, i seckill.Item) bool {
		return n.SKU == i.SKU && n.Price == i.Price && n.PerUser == i.PerUser && n.MaxOrders == i.MaxOrders && n.Spread == i.Spread &&
			(n.Quantity == i.Quantity || now.State != seckill.ActivityDraft)
	})
}

// planStock reverts a restock by the opposite restock. No client can send the idempotency key that
// it uses. So the revert takes effect once, even if it is requested again.
func planStock(ch *seckill.Change) (undo, error) {
	_, after, _, err := sides[seckill.StockRecord](ch)
	if err != nil {
		return nil, err
	}
	activity, sku, ok := strings.Cut(ch.Key, "/")
	if !ok || after.Delta == 0 {
		return nil, notRevertible("")
	}
	key := fmt.Sprintf("revert of change %d", ch.Number)
	return func(ctx context.Context, c *call, by seckill.Author) (bool, error) {
		done, err := c.server.deps.Office.Restock(ctx, seckill.ActivityID(activity), seckill.SKU(sku), key, -after.Delta, by)
		return err == nil && !done.Replayed, err
	}, nil
}

type revertedDoc struct {
	Reverted int64  `json:"reverted"`
	Kind     string `json:"kind"`
	Key      string `json:"key"`
	Changed  bool   `json:"changed"` // false: it was undone before
}

// revertChange answers POST /admin/v1/changes/{n}/revert. The revert is recorded as a new change.
func (c *call) revertChange() error {
	reason, err := c.onlyReason()
	if err != nil {
		return err
	}
	change, err := c.pathChange()
	if err != nil {
		return err
	}
	undo, err := planRevert(&change)
	if err != nil {
		return err
	}
	if need := revertRole(&change); !c.token.role.Includes(need) {
		return refuse(problem.Forbidden, fmt.Sprintf("To undo this change, the role %s is needed; the token %s has %s.",
			roleName(need), c.token.name, roleName(c.token.role)))
	}
	ctx, cancel := c.lasting()
	defer cancel()
	why := fmt.Sprintf("revert of change %d", change.Number)
	if reason != "" {
		why += ": " + reason
	}
	changed, err := undo(ctx, c, c.author(why))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, revertedDoc{change.Number, change.Kind, change.Key, changed})
}

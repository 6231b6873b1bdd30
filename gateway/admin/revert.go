package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"penstock/gateway/problem"
	"penstock/seckill"
)

// undo takes one change back. It reports whether that changed something: a change that was taken back before stays so.
type undo func(ctx context.Context, c *call, by seckill.Author) (changed bool, err error)

// planRevert says how a change is taken back, or why it can't be. It looks at the change alone; whether something else was
// changed on top of it is found out by the undo.
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
		return nil, notRevertible("A token can't be brought back: nobody knows it any more. Make a new one, or delete this one.")
	case seckill.ChangeDeadLetters:
		return nil, notRevertible("Dead letters that were replayed or discarded don't come back.")
	case seckill.ChangeOrder:
		return nil, notRevertible("An order that was cancelled doesn't come back: its units may be sold again.")
	case seckill.ChangeRefund:
		return nil, notRevertible("Money that went back doesn't come back.")
	case seckill.ChangeExtension:
		return nil, notRevertible("Buyers were told that they have more time.")
	case kindLimits:
		return planLimits(ch)
	case kindSwitches:
		return planSwitches(ch)
	}
	return nil, notRevertible("This version doesn't know changes of this kind.")
}

func notRevertible(detail string) error { return refuse(problem.NotRevertible, detail) }

// overtaken says that somebody changed the same thing later.
func overtaken() error {
	return notRevertible("Something else was changed on top of it. Read the current value and change that.")
}

// sides decodes both sides of a change; made says that there was nothing before.
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

func planMerchant(ch *seckill.Change) (undo, error) {
	before, after, made, err := sides[seckill.MerchantRecord](ch)
	switch {
	case err != nil:
		return nil, err
	case made:
		return nil, notRevertible("A merchant can't be deleted. Revoke its callers and end its activities instead.")
	case after.NewPaymentSecret:
		return nil, notRevertible("A payment secret can't be brought back: put the merchant with the one it is to have.")
	}
	return func(ctx context.Context, c *call, by seckill.Author) (bool, error) {
		v, err := c.server.catalog(ctx)
		if err != nil {
			return false, err
		}
		now := v.Merchant(before.ID)
		switch {
		case now == nil || now.Name != before.Name && now.Name != after.Name:
			return false, overtaken()
		case now.Name == before.Name:
			return false, nil
		}
		if err := c.server.deps.Store.PutMerchant(ctx, seckill.Merchant{ID: before.ID, Name: before.Name}, by); err != nil {
			return false, failed("write the merchant", err)
		}
		c.server.refresh(ctx)
		return true, nil
	}, nil
}

// planCaller takes back an addition by revoking, and a revocation by its opposite: a caller is never deleted.
func planCaller(ch *seckill.Change) (undo, error) {
	before, after, made, err := sides[seckill.CallerRecord](ch)
	if err != nil {
		return nil, err
	}
	revoked := made || before.Revoked
	if revoked == after.Revoked {
		return nil, notRevertible("")
	}
	return func(ctx context.Context, c *call, by seckill.Author) (bool, error) {
		v, err := c.server.catalog(ctx)
		if err != nil {
			return false, err
		}
		now := v.NamedCaller(after.CallerRef)
		if now == nil {
			return false, refuse(problem.UnknownCaller, "")
		}
		if now.Revoked == revoked {
			return false, nil
		}
		if err := c.server.deps.Store.SetCallerRevoked(ctx, after.CallerRef, revoked, by); err != nil {
			return false, failed("change the caller", err)
		}
		c.server.refresh(ctx)
		return true, nil
	}, nil
}

// planActivity takes back a pause, a resume, or a change of the document.
func planActivity(ch *seckill.Change) (undo, error) {
	before, after, made, err := sides[seckill.Activity](ch)
	switch {
	case err != nil:
		return nil, err
	case made:
		return nil, notRevertible("An activity can't be deleted. End it instead.")
	case before.State == after.State:
		return func(ctx context.Context, c *call, by seckill.Author) (bool, error) {
			return restoreActivity(ctx, c, before, after, by)
		}, nil
	case after.State == seckill.ActivityPaused || before.State == seckill.ActivityPaused && after.State == seckill.ActivityPublished:
		return func(ctx context.Context, c *call, by seckill.Author) (bool, error) {
			return restoreState(ctx, c, before.ID, before.State, by)
		}, nil
	}
	return nil, notRevertible(fmt.Sprintf("An activity that was %s once doesn't become %s again.", after.State, before.State))
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

// restoreActivity puts the document that was there before, if the one there now is the one that the change left.
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
		// Restocks are changes of their own.
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

// sameDocument reports whether now is what was once put as a. The state doesn't count, nor do the
// quantities of what was published: they change by other ways.
func sameDocument(now, a *seckill.Activity) bool {
	return now.Merchant == a.Merchant && now.Name == a.Name && now.StartsAt.Equal(a.StartsAt) && now.EndsAt.Equal(a.EndsAt) &&
		now.PaymentWindow == a.PaymentWindow && slices.EqualFunc(now.Items, a.Items, func(n, i seckill.Item) bool {
		return n.SKU == i.SKU && n.Price == i.Price && n.PerUser == i.PerUser && n.MaxOrders == i.MaxOrders && n.Spread == i.Spread &&
			(n.Quantity == i.Quantity || now.State != seckill.ActivityDraft)
	})
}

// planStock takes units back that were added, or adds what was taken. Its key is one that no client can send, so a revert
// happens once, however often it is asked for.
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
	Changed  bool   `json:"changed"` // false: it was taken back before
}

// revertChange answers POST /admin/v1/changes/{n}/revert. What it does is a new change.
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

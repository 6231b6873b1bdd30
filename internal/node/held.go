package node

import (
	"context"
	"slices"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/seckill"
	"github.com/penstock/penstock/seckill/backoffice"
)

// timeoutSwitch is the switch timeouts as the database has it. The part that cancels orders reads
// it each time before it cancels, so that a change is in force as soon as it is written. Only that
// part's goroutine uses it.
type timeoutSwitch struct {
	switches *degrade.Controller // nil before the first look
	version  settings.Version
	next     time.Time // when a switch ends; zero if none does
}

// heldTimeouts says which orders are not cancelled at the moment although their time is over.
// Values in force on this node count, too: they may have been set while the database couldn't be
// reached.
func (n *Node) heldTimeouts(ctx context.Context) (backoffice.Held, error) {
	s := &n.timeouts
	d, now, err := n.servers.database.FindSettings(ctx, settings.Switches)
	if err != nil {
		return backoffice.Held{}, err
	}
	if s.switches == nil {
		s.switches = degrade.NewController()
	}
	if d.Identity() != s.version || !s.next.IsZero() && !now.Before(s.next) {
		document, err := degrade.ParseDocument(d.Body)
		if err != nil {
			return backoffice.Held{}, err
		}
		if s.next, err = s.switches.Apply(document, now); err != nil {
			return backoffice.Held{}, err
		}
		s.version = d.Identity()
	}
	return held(n.sale.Desk.Catalog(), s.switches, n.control.switches), nil
}

// held lists the activities whose orders are not cancelled for now, according to any of the
// controllers. If the time of an order may be over, its activity has been in the catalog for longer
// than that.
func held(catalog *seckill.Catalog, all ...*degrade.Controller) backoffice.Held {
	scoped := false
	isHeld := func(merchant, activity string) bool {
		return slices.ContainsFunc(all, func(c *degrade.Controller) bool { return c.TimeoutsHeld(merchant, activity) })
	}
	for _, c := range all {
		scoped = scoped || c.TimeoutsScoped()
	}
	if !scoped {
		return backoffice.Held{All: isHeld("", "")}
	}
	var out backoffice.Held
	for sale := range catalog.Sales() {
		if isHeld(string(sale.Merchant), string(sale.ID)) {
			out.Activities = append(out.Activities, sale.ID)
		}
	}
	return out
}

package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// liveBooks is the latest data from the database, for the live view.
type liveBooks struct {
	members  []live.Known // as of the following time
	at       time.Time    // zero before the first answer
	failed   bool         // the last attempt to read them failed
	newest   int64        // the number of the newest change that was published; -1 before the first look
	letters  int64
	change   *live.Change
	policies map[string]live.Policy
	moneyOld bool
}

// away records that the database can't be asked for the nodes.
func (b *liveBooks) away(now time.Time) bool { return b.failed || now.Sub(b.at) > booksTimeout }

// knownNodes returns the nodes. How long each has been silent includes the time since the database
// was asked.
func (b *liveBooks) knownNodes(now time.Time) []live.Known {
	out := slices.Clone(b.members)
	for i := range out {
		out[i].Silent += now.Sub(b.at)
	}
	return out
}

// How often the database is asked: for the nodes twice a second, because a lost node must be
// reported within two seconds; for data that changes slowly every fifth second.
const (
	booksTimeout = time.Second
	seldomEvery  = 10 // ticks
	maxNews      = 20 // the most changes that are published at once: the newest ones
)

// runBooks asks the database until ctx ends. Changes are read at once: the next snapshot shows a
// new sale or a new limit.
func (n *Node) runBooks(ctx context.Context) {
	n.live.mu.Lock()
	n.live.books.newest = -1
	n.live.mu.Unlock()
	var seen *seckill.Catalog
	for i := 0; ; i++ {
		n.readMembers(ctx)
		changed := i%2 == 0 && n.readNews(ctx)
		if changed || i%seldomEvery == 0 {
			n.readSeldom(ctx)
		}
		if now := n.sale.Desk.Catalog(); now != seen || i%seldomEvery == 0 {
			seen = now
			n.findShown()
		}
		if !wait.ForTick(ctx, liveTick) {
			return
		}
	}
}

// readMembers reads the list of nodes.
func (n *Node) readMembers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, booksTimeout)
	defer cancel()
	members, err := n.servers.database.SettingsMembers(ctx)
	if err != nil {
		n.live.mu.Lock()
		n.live.books.failed = true // the last known data is kept
		n.live.mu.Unlock()
		return
	}
	now := time.Now()
	newest := make(map[string]int64) // the newest version of each document that a node has in force or has refused
	for i := range members {
		for _, versions := range []settings.Versions{members[i].Applied, members[i].Rejected} {
			for name, v := range versions {
				newest[name] = max(newest[name], v.Number)
			}
		}
	}
	known := make([]live.Known, 0, len(members))
	for i := range members {
		m := &members[i]
		k := live.Known{Node: m.Node, Silent: m.Silent, Draining: m.Drain, Status: memberNode(m.Status)}
		for name, number := range newest {
			applied, has := m.Applied[name]
			if (has || m.Enforces) && applied.Number < number {
				k.Behind = true
			}
		}
		known = append(known, k)
	}
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	n.live.books.members, n.live.books.at, n.live.books.failed = known, now, false
}

// memberNode is a node's report in the database.
func memberNode(text json.RawMessage) live.Node {
	var s nodeStatus
	if len(text) == 0 || json.Unmarshal(text, &s) != nil { // it was written by another version
		return live.Node{}
	}
	return live.Node{
		Role: s.Role, Version: s.Version, Started: s.Started, Level: s.Level, InFlight: s.InFlight, Breakers: s.Breakers, Lag: s.Lag,
	}
}

// readNews reads the changes that people have made, publishes them, and reports whether there were
// any.
func (n *Node) readNews(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, booksTimeout)
	defer cancel()
	news, err := n.servers.database.AdminNews(ctx)
	if err != nil {
		return false
	}
	v := n.live
	v.mu.Lock()
	v.books.letters = news.Letters
	told := v.books.newest
	v.mu.Unlock()
	if news.Change == told || news.Change == 0 {
		v.mu.Lock()
		v.books.newest = news.Change
		v.mu.Unlock()
		return false
	}
	first := max(told+1, news.Change-maxNews+1, 1)
	if news.Change < told { // the database was restored
		first = max(news.Change-maxNews+1, 1)
	}
	isNews := told >= 0 && news.Change > told // otherwise this is the first look
	for number := first; number <= news.Change; number++ {
		record, err := n.servers.database.FindChange(ctx, number)
		if err != nil {
			return true // the rest is published at the next look
		}
		change := n.liveChange(&record)
		if isNews {
			n.publishLive(live.EventChange, change.Merchant, change.At, change)
		}
		v.mu.Lock()
		v.books.newest = number
		if !ofSession(&record) {
			v.books.change = change
		}
		v.mu.Unlock()
	}
	return true
}

// readSeldom reads the limits, and the refunds that have been due for long.
func (n *Node) readSeldom(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, booksTimeout)
	defer cancel()
	stored, now, err := n.servers.database.FindSettings(ctx, settings.Limits)
	if err != nil {
		return
	}
	policies, err := parseLimits(stored.Body)
	if err != nil {
		n.log.Warn("limits can't be read for the live view", "err", err)
		return
	}
	old, err := n.servers.database.Refunds(ctx, seckill.RefundQuery{
		State: seckill.PaymentStateDue, Before: seckill.RefundMark{KeptAt: now.Add(-live.MoneyOldAfter)}, Limit: 1,
	})
	if err != nil {
		return
	}
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	n.live.books.policies, n.live.books.moneyOld = policies, len(old) > 0
}

// How long before its start an activity is shown even without traffic, and must be ready.
const (
	shownBefore = 24 * time.Hour
	maxChecked  = 200 // items of a sale that is about to begin
)

// findShown finds the activities that are shown even without traffic, and what is missing for sales
// that begin soon. Its cost depends on the number of activities.
func (n *Node) findShown() {
	catalog := n.sale.Desk.Catalog()
	now := catalog.Now()
	var shown []*seckill.Sale
	var unready []live.Unready
	for sale := range catalog.Sales() {
		state := saleState(sale, now)
		soon := sale.StartsAt.After(now) && sale.StartsAt.Sub(now) < live.UnreadyBefore
		if lacks := n.lacks(sale, state); soon && lacks != "" {
			unready = append(unready, live.Unready{
				Activity: string(sale.ID), Merchant: string(sale.Merchant), Lacks: lacks, StartsAt: sale.StartsAt,
			})
		}
		running := state == live.StateOnSale || state == live.StatePaused
		if running || state == live.StateScheduled && sale.StartsAt.Sub(now) < shownBefore {
			shown = append(shown, sale)
		}
	}
	slices.SortFunc(shown, func(a, b *seckill.Sale) int {
		aRuns, bRuns := !a.StartsAt.After(now), !b.StartsAt.After(now)
		switch {
		case aRuns && !bRuns:
			return -1
		case bRuns && !aRuns:
			return 1
		case aRuns: // the newest ones first
			a, b = b, a
		}
		if order := a.StartsAt.Compare(b.StartsAt); order != 0 {
			return order
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	names := make([]string, 0, live.MaxActivities)
	for _, sale := range shown[:min(len(shown), live.MaxActivities)] {
		names = append(names, string(sale.ID))
	}
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	n.live.shown, n.live.unready = names, unready
}

// lacks returns what is missing for a sale that begins soon; "" if nothing is.
func (n *Node) lacks(sale *seckill.Sale, state string) string {
	switch state {
	case string(seckill.ActivityDraft):
		return "it is still a draft"
	case live.StatePaused:
		return "it is paused"
	case live.StateEnded:
		return ""
	}
	empty := 0
	for i := range sale.Items[:min(len(sale.Items), maxChecked)] {
		if n.sale.Desk.Gone(seckill.Offer{Item: &sale.Items[i], Sale: sale}) {
			empty++
		}
	}
	if empty > 0 {
		return fmt.Sprintf("%d of its %d items have no unit", empty, len(sale.Items))
	}
	return ""
}

// runStock reads the stock of the shown activities once a second while the live view has watchers.
// At some of the looks it also compares stock and database for one activity. It runs until ctx
// ends.
func (n *Node) runStock(ctx context.Context) {
	whole := make(map[string]wholeLook)
	for i := 0; wait.ForTick(ctx, time.Second); i++ {
		view := n.live.hub.Latest()
		if view == nil {
			continue
		}
		s := view.Snapshot()
		if n.live.hub.Watched() {
			n.readStock(ctx, s, whole)
		}
		if i%auditEvery == auditEvery-1 && n.leads(s) {
			n.auditOne(ctx, s, i/auditEvery)
		}
	}
}

const (
	auditEvery   = 10 // seconds
	maxAudited   = 200
	wholeEvery   = 5 * time.Second  // how often an activity of up to manyItems is read as a whole
	wholeSeldom  = 30 * time.Second // how often a larger one is
	manyItems    = 1_000
	stockTimeout = time.Second
	stockAtATime = 1_000 // items in one call
)

// wholeLook is a complete reading of an activity, with its time.
type wholeLook struct {
	at     time.Time
	ledger live.Ledger
	items  map[inventory.ItemID]live.Ledger // nil of more than manyItems
}

// leads reports whether this node is the first live one: it does the work that only one node should
// do.
func (n *Node) leads(s *live.Snapshot) bool {
	for i := range s.Nodes {
		if !s.Nodes[i].Lost {
			return s.Nodes[i].Node == n.name()
		}
	}
	return false
}

// readStock reads the hottest items in a snapshot, and all items of the next activity.
func (n *Node) readStock(ctx context.Context, s *live.Snapshot, whole map[string]wholeLook) {
	ctx, cancel := context.WithTimeout(ctx, stockTimeout)
	defer cancel()
	catalog := n.sale.Desk.Catalog()
	chosen := make(map[string][]seckill.Offer)
	var all []seckill.Offer
	var next string // the activity whose last complete reading is oldest
	for i := range s.Activities {
		sale := catalog.Activity(seckill.ActivityID(s.Activities[i].Activity))
		if sale == nil || sale.State == seckill.ActivityDraft || !sale.Live(time.Now(), n.cfg.Sale.Retention) {
			continue
		}
		name := string(sale.ID)
		chosen[name] = chooseItems(sale, &s.Activities[i])
		all = append(all, chosen[name]...)
		every := wholeEvery
		if len(sale.Items) > manyItems {
			every = wholeSeldom
		}
		due := len(sale.Items) > len(chosen[name]) && time.Since(whole[name].at) >= every
		if due && (next == "" || whole[name].at.Before(whole[next].at)) {
			next = name
		}
	}
	read, at := n.readItems(ctx, all)
	if next != "" {
		n.readWhole(ctx, catalog.Activity(seckill.ActivityID(next)), whole)
	}
	for name := range whole {
		if chosen[name] == nil {
			delete(whole, name)
		}
	}
	out := make(map[string]live.SaleLedger, len(chosen))
	for name, offers := range chosen {
		out[name] = ledgerOf(offers, read, at, catalog.Activity(seckill.ActivityID(name)), whole[name])
	}
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	n.live.stock = out
}

// chooseItems returns the items of an activity that are read each second: the hottest, and others
// while there is room.
func chooseItems(sale *seckill.Sale, a *live.Activity) (out []seckill.Offer) {
	taken := make(map[seckill.SKU]bool)
	for i := range a.Items {
		if offer, known := sale.Offer(seckill.SKU(a.Items[i].SKU)); known {
			taken[offer.SKU] = true
			out = append(out, offer)
		}
	}
	for i := 0; i < len(sale.Items) && len(out) < live.MaxItems; i++ {
		if !taken[sale.Items[i].SKU] {
			out = append(out, seckill.Offer{Item: &sale.Items[i], Sale: sale})
		}
	}
	return out
}

// readItems reads the stock of offers. Offers that can't be read now are left out.
func (n *Node) readItems(ctx context.Context, offers []seckill.Offer) (map[inventory.ItemID]live.Ledger, time.Time) {
	byShard := make(map[inventory.ShardID][]inventory.ItemID)
	missing := make(map[inventory.ItemID]int)
	for i := range offers {
		for _, shard := range n.sale.Desk.Shards(offers[i]) {
			byShard[shard] = append(byShard[shard], offers[i].ID)
			missing[offers[i].ID]++
		}
	}
	out := make(map[inventory.ItemID]live.Ledger)
	for shard, items := range byShard {
		for len(items) > 0 {
			some := items[:min(len(items), stockAtATime)]
			items = items[len(some):]
			levels, each, err := n.servers.stock.ItemNumbers(ctx, shard, some)
			if err != nil || levels.Closed {
				continue
			}
			for _, l := range each {
				if !l.Known {
					continue
				}
				ledger := out[l.Item]
				ledger.Available, ledger.Held, ledger.Sold = ledger.Available+l.Available, ledger.Held+l.Held, ledger.Sold+l.Sold
				out[l.Item] = ledger
				missing[l.Item]--
			}
		}
	}
	at := time.Now().UTC().Truncate(time.Millisecond)
	for item, n := range missing {
		if n > 0 {
			delete(out, item) // a part of its shards gives no valid number
		}
	}
	for i := range offers {
		if ledger, read := out[offers[i].ID]; read {
			ledger.Total, ledger.At = ledger.Available+ledger.Held+ledger.Sold, &at
			out[offers[i].ID] = ledger
		}
	}
	return out, at
}

// readWhole reads all items of an activity.
func (n *Node) readWhole(ctx context.Context, sale *seckill.Sale, whole map[string]wholeLook) {
	offers := make([]seckill.Offer, len(sale.Items))
	for i := range sale.Items {
		offers[i] = seckill.Offer{Item: &sale.Items[i], Sale: sale}
	}
	read, at := n.readItems(ctx, offers)
	look := whole[string(sale.ID)]
	look.at = time.Now()
	if len(read) == len(offers) {
		look.ledger, look.items = live.Ledger{At: &at}, nil
		for _, ledger := range read {
			look.ledger = addLedgers(look.ledger, &ledger)
		}
		if len(read) <= manyItems {
			look.items = read
		}
	}
	whole[string(sale.ID)] = look
}

func addLedgers(a live.Ledger, b *live.Ledger) live.Ledger {
	return live.Ledger{Total: a.Total + b.Total, Available: a.Available + b.Available, Held: a.Held + b.Held, Sold: a.Sold + b.Sold, At: a.At}
}

// ledgerOf returns an activity's stock: the items that were just read, and the sum over all items.
// Those that were not just read, the cooler ones, are in the sum as the last complete reading has
// them.
func ledgerOf(offers []seckill.Offer, read map[inventory.ItemID]live.Ledger, at time.Time, sale *seckill.Sale,
	look wholeLook) live.SaleLedger {
	out := live.SaleLedger{Items: make(map[string]live.Ledger, len(offers))}
	sum := live.Ledger{At: &at}
	for i := range offers {
		if ledger, known := read[offers[i].ID]; known {
			out.Items[string(offers[i].SKU)] = ledger
			sum = addLedgers(sum, &ledger)
		}
	}
	switch {
	case len(out.Items) == len(sale.Items):
		out.All = &sum
	case look.items != nil && len(out.Items) > 0:
		for id, ledger := range look.items {
			if _, fresh := read[id]; !fresh {
				sum = addLedgers(sum, &ledger)
			}
		}
		out.All = &sum
	case look.ledger.At != nil:
		out.All = &look.ledger
	}
	return out
}

// auditOne compares stock and books of one of the activities that a snapshot shows.
func (n *Node) auditOne(ctx context.Context, s *live.Snapshot, turn int) {
	var names []string
	shown := make(map[string]*live.Activity)
	for i := range s.Activities {
		a := &s.Activities[i]
		shown[a.Activity] = a
		if size := len(a.Items) + a.MoreItems; size > 0 && size <= maxAudited {
			names = append(names, a.Activity)
		}
	}
	if len(names) == 0 {
		return
	}
	name := names[turn%len(names)]
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Sale.StoreTimeout)
	defer cancel()
	audits, err := n.sale.Office.Audit(ctx, seckill.ActivityID(name))
	if err != nil {
		return // a server can't be reached, which other code reports
	}
	var found []live.Unbalanced
	for i := range audits {
		if a := &audits[i]; !a.Balanced && !a.Closed {
			found = append(found, live.Unbalanced{
				Activity: name, SKU: string(a.SKU), Merchant: shown[name].Merchant,
				Detail: fmt.Sprintf("%d in all, %d available, %d held, %d sold", a.Total, a.Available, a.Held, a.Sold),
			})
		}
	}
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	for old := range n.live.audited {
		if shown[old] == nil {
			delete(n.live.audited, old)
		}
	}
	n.live.audited[name] = found
}

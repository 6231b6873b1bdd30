package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/leases"
	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// framesBoard is the board of frames in Redis. It keeps them for longer than they count, because
// the text about a missing node needs older frames, too.
func framesBoard() leases.Board { return leases.Board{Name: "live-frames", Life: 10 * time.Second} }

// heardFrames are the frames of the other nodes at the last reading.
type heardFrames struct {
	frames []live.Heard
	at     time.Time // when they were read; zero if they weren't
	err    error     // why they can't be read now
	failed time.Time // when this node's own frame could not be left last
}

// framesTimeout bounds one exchange of frames. While Redis takes no frames it may still tell those
// of before: they are old, and no node is to blame. framesSettle is how long the nodes then take to
// leave new ones.
const (
	framesTimeout = time.Second
	framesSettle  = 3 * time.Second
)

// runFrames stores this node's frame in Redis each second, and reads the frames of the others. When
// ctx ends, it removes its own.
func (n *Node) runFrames(ctx context.Context) {
	pool := n.control.reports.pool
	var left *live.Frame
	for wait.ForTick(ctx, liveTick) {
		n.live.mu.Lock()
		own := n.live.own
		n.live.mu.Unlock()
		text := ""
		if own != nil && own != left { // an equal text isn't written twice
			encoded, err := own.Encode()
			if err != nil {
				n.log.Error("frame not written", "err", err)
			} else {
				text, left = string(encoded), own
			}
		}
		n.exchangeFrames(ctx, text)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), framesTimeout)
	defer cancel()
	_, _ = pool.Share(ctx, framesBoard(), n.name(), "") // without this call it would age out
}

// exchangeFrames stores text, if there is one, and reads the frames of the others.
func (n *Node) exchangeFrames(ctx context.Context, text string) {
	ctx, cancel := context.WithTimeout(ctx, framesTimeout)
	defer cancel()
	name := n.name()
	if text == "" {
		name = "" // without a name it only reads
	}
	shared, err := n.control.reports.pool.Share(ctx, framesBoard(), name, text)
	now := time.Now()
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	h := &n.live.heard
	if err != nil && text != "" {
		h.failed = now
	}
	if err != nil || now.Sub(h.failed) > framesSettle {
		h.err = err
	}
	if err != nil {
		return
	}
	h.at, h.frames = now, nil
	for i := range shared {
		if shared[i].Node == n.name() {
			continue
		}
		f, err := live.DecodeFrame([]byte(shared[i].Text))
		if err != nil {
			h.err = fmt.Errorf("the frame of %s: %w", shared[i].Node, err)
			continue
		}
		f.Node.Node = shared[i].Node
		h.frames = append(h.frames, live.Heard{Frame: f, Age: shared[i].Age})
	}
}

// liveInput is all that a snapshot is made from, in memory.
func (n *Node) liveInput(now time.Time) (*live.Input, *live.Facts) {
	v := n.live
	v.mu.Lock()
	in := &live.Input{
		At: now.UTC().Truncate(time.Millisecond), Version: n.cfg.Version, Sale: n.liveSale, Shown: v.shown, Ledgers: v.stock,
		Lag: n.observed.knownLag(), Known: v.books.knownNodes(now), BooksAway: v.books.away(now), Letters: v.books.letters,
		LastChange: v.books.change, Policies: v.books.policies, Targets: n.cfg.Objectives.targets(),
	}
	facts := &live.Facts{
		Broken: make(map[string]int64), Failures: failureCodes(), Limited: string(problem.RateLimited), Unready: v.unready,
		MoneyOld: v.books.moneyOld,
	}
	if v.own != nil {
		in.Frames = append(in.Frames, live.Heard{Frame: v.own})
	}
	since := now.Sub(v.heard.at)
	for _, h := range v.heard.frames {
		h.Read, h.Age = h.Age, h.Age+since
		in.Frames = append(in.Frames, h)
	}
	if v.heard.err != nil {
		facts.Partial = "Redis can't be asked for the frames"
		in.Partial = facts.Partial
	}
	v.mu.Unlock()
	in.Money, in.MoneyOf = n.liveMoney()
	in.Switches = v.switches.list(n, now)
	for _, h := range in.Frames {
		facts.Unbalanced = append(facts.Unbalanced, h.Frame.Unbalanced...)
		if h.Age <= live.StaleAfter {
			facts.Symptoms = append(facts.Symptoms, h.Frame.Symptoms...)
		}
		for name, count := range h.Frame.Broken {
			facts.Broken[name] += count
		}
	}
	return in, facts
}

// failureCodes are the problem codes of a server's faults. Refusals by a switch or a level are not
// among them: they are decisions, and have their own findings.
func failureCodes() map[string]bool {
	out := make(map[string]bool)
	for _, e := range problem.Entries() {
		if e.Status >= 500 && e.Code != problem.Degraded {
			out[string(e.Code)] = true
		}
	}
	return out
}

// liveMoney is the money that must be refunded, in total and by merchant.
func (n *Node) liveMoney() (all []live.Money, byMerchant map[string][]live.Money) {
	n.observed.mu.Lock()
	defer n.observed.mu.Unlock()
	if n.observed.money == nil {
		return nil, nil
	}
	byMerchant = make(map[string][]live.Money)
	for i := range n.observed.money.due {
		sum := &n.observed.money.due[i]
		all = addMoney(all, sum)
		byMerchant[string(sum.Merchant)] = addMoney(byMerchant[string(sum.Merchant)], sum)
	}
	return all, byMerchant
}

func addMoney(to []live.Money, sum *seckill.RefundSum) []live.Money {
	i := slices.IndexFunc(to, func(m live.Money) bool { return m.Currency == sum.Amount.Currency })
	if i < 0 {
		i = len(to)
		to = append(to, live.Money{Currency: sum.Amount.Currency})
	}
	to[i].Amount += sum.Amount.Minor
	to[i].Count += sum.Count
	return to
}

// liveSale returns an activity's data from the catalog and from the stock's memory.
func (n *Node) liveSale(id string) (live.Sale, bool) {
	catalog := n.sale.Desk.Catalog()
	sale := catalog.Activity(seckill.ActivityID(id))
	if sale == nil {
		return live.Sale{}, false
	}
	return live.Sale{
		Name: sale.Name, Merchant: string(sale.Merchant), State: saleState(sale, catalog.Now()), StartsAt: sale.StartsAt,
		EndsAt: sale.EndsAt, Items: len(sale.Items),
		Item: func(sku string) (live.Item, bool) {
			offer, known := sale.Offer(seckill.SKU(sku))
			if !known {
				return live.Item{}, false
			}
			return live.Item{
				SKU: sku, Price: offer.Price.Minor, Currency: offer.Price.Currency, SoldOut: n.sale.Desk.Gone(offer),
				Ledger: live.Ledger{Total: offer.Quantity},
			}, true
		},
	}, true
}

// saleState is an activity's state for people: its state, and whether its window is open.
func saleState(sale *seckill.Sale, now time.Time) string {
	switch {
	case sale.State == seckill.ActivityDraft:
		return string(seckill.ActivityDraft)
	case sale.State == seckill.ActivityEnded || !now.Before(sale.Closes()):
		return live.StateEnded
	case sale.State == seckill.ActivityPaused:
		return live.StatePaused
	case now.Before(sale.StartsAt):
		return live.StateScheduled
	}
	return live.StateOnSale
}

// parsedSwitches keeps the switches in force, parsed. It is used by one goroutine.
type parsedSwitches struct {
	body     []byte
	document degrade.Document
}

// list returns the switches that aren't at their defaults, in the order in which they were set.
func (p *parsedSwitches) list(n *Node, now time.Time) []live.Switch {
	stored, _, clock := n.control.watcher.InForce(settings.Switches)
	if !bytes.Equal(stored.Body, p.body) {
		document, err := degrade.ParseDocument(stored.Body)
		if err != nil {
			n.log.Error("switches in force can't be read", "err", err) // they were parsed before, when they were applied
		}
		p.body, p.document = stored.Body, document
	}
	catalog := n.sale.Desk.Catalog()
	var out []live.Switch
	for i := range p.document.Switches {
		s := &p.document.Switches[i]
		if !s.Active(clock) || s.IsNormal() && s.Scope == (degrade.Scope{}) || p.document.Find(s.Name, s.Scope, clock) != s {
			continue
		}
		one := live.Switch{
			Switch: string(s.Name), Scope: scopeText(&s.Scope), Value: s.Value, Effect: s.Effect(), By: s.By, Reason: s.Reason,
			Stale: s.ExpiresAt.IsZero() && clock.Sub(s.Since) > live.SwitchGetsOld, Merchant: scopeMerchant(catalog, &s.Scope),
		}
		if since := s.Since.UTC(); !since.IsZero() {
			one.Since = &since
		}
		if ends := s.ExpiresAt.UTC(); !ends.IsZero() {
			one.Expires = &ends
		}
		out = append(out, one)
	}
	return out
}

// scopeText is a scope in ctl's form; "" means everybody.
func scopeText(s *degrade.Scope) string {
	for _, part := range []struct{ kind, name string }{
		{"merchant", s.Merchant}, {"activity", s.Activity}, {"sku", s.SKU}, {"caller", s.Caller},
	} {
		if part.name != "" {
			return part.kind + "=" + part.name
		}
	}
	return ""
}

// scopeMerchant is the merchant to which a scope belongs; "" if there are several.
func scopeMerchant(catalog *seckill.Catalog, s *degrade.Scope) string {
	activity := s.Activity
	if front, _, both := strings.Cut(s.SKU, "/"); both {
		activity = front
	}
	switch caller, _, _ := strings.Cut(s.Caller, "/"); {
	case s.Merchant != "":
		return s.Merchant
	case caller != "":
		return caller
	}
	return activityMerchant(catalog, activity)
}

func activityMerchant(catalog *seckill.Catalog, activity string) string {
	if sale := catalog.Activity(seckill.ActivityID(activity)); sale != nil {
		return string(sale.Merchant)
	}
	return ""
}

// parseLimits reads the limits in the form of the live view.
func parseLimits(body []byte) (map[string]live.Policy, error) {
	if len(body) == 0 {
		return nil, nil
	}
	var d limiter.Document
	if err := json.Unmarshal(body, &d); err != nil {
		return nil, fmt.Errorf("read the limits: %w", err)
	}
	d.Prune(time.Now())
	return policiesOf(&d), nil
}

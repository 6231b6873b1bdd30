package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// checkDoc is the result of one check before a sale.
type checkDoc struct {
	Check  string `json:"check"`
	State  string `json:"state"`
	Detail string `json:"detail"`
	Hint   string `json:"hint"`
}

// The states of a check.
const (
	checkOK   = "ok"
	checkWarn = "warn" // it may be intended
	checkFail = "fail" // the sale will not work like this
)

// preflight looks at a sale before it starts.
type preflight struct {
	*call
	sale   *seckill.Activity
	now    time.Time
	checks []checkDoc
}

// add records a check. If it is ok, its hint is left out.
func (p *preflight) add(check, state, detail, hint string) {
	if state == checkOK {
		hint = ""
	}
	p.checks = append(p.checks, checkDoc{check, state, detail, hint})
}

// getPreflight answers GET /admin/v1/activities/{activity}/preflight. A check that can't be made
// now is reported as such. A token that is bound to a merchant sees only that merchant's data.
func (c *call) getPreflight() error {
	sale, err := c.server.findActivity(c.context(), c.pathActivity())
	if err != nil {
		return err
	}
	p := &preflight{call: c, sale: sale, now: c.server.deps.Catalog().Now()}
	p.window()
	p.callers()
	p.stock()
	p.prices()
	p.switches()
	if c.token.merchant == "" {
		p.limits()
		p.nodes()
		p.lag()
		p.servers()
		p.memory()
	}
	return c.json(http.StatusOK, struct {
		Checks []checkDoc `json:"checks"`
	}{p.checks})
}

// unseen is a check that can't be made now.
func (p *preflight) unseen(check string, err error) {
	p.add(check, checkWarn, "it can't be checked now: "+err.Error(), "ask again when the servers are up")
}

// scopeFlag is a switch's scope as ctl takes it; "" for everybody.
func scopeFlag(s degrade.Scope) string {
	if s == (degrade.Scope{}) {
		return ""
	}
	kind, name, _ := strings.Cut(s.String(), " ")
	return " --scope " + kind + "=" + name
}

// longestSale is the longest sale that is not reported as a likely mistake in its times.
const longestSale = 366 * 24 * time.Hour

// window checks the activity's state and times.
func (p *preflight) window() {
	a := p.sale
	span := func(d time.Duration) string {
		if d >= 48*time.Hour {
			return seckill.Counted(int(d.Hours()/24), "day")
		}
		return shortDuration(d.Round(time.Second))
	}
	switch {
	case a.State == seckill.ActivityEnded || !p.now.Before(a.EndsAt):
		p.add("window", checkFail, "the sale is over", "make another sale like it: ctl activities clone")
	case a.State == seckill.ActivityDraft:
		p.add("window", checkFail, "it is a draft: nobody can buy", "ctl activities publish")
	case a.State == seckill.ActivityPaused:
		p.add("window", checkWarn, "it is paused", "ctl activities resume")
	case p.now.Before(a.StartsAt):
		p.add("window", checkOK, "it is published, and starts in "+span(a.StartsAt.Sub(p.now)), "")
	default:
		p.add("window", checkOK, "it is selling, and ends in "+span(a.EndsAt.Sub(p.now)), "")
	}
	if length := a.EndsAt.Sub(a.StartsAt); length > longestSale {
		p.add("length", checkWarn, "the sale lasts "+seckill.Counted(int(length.Hours()/24), "day"), "is the year of ends_at right?")
	}
}

// callers checks whether a caller can buy.
func (p *preflight) callers() {
	buyers, soon := 0, time.Time{}
	for caller := range p.server.deps.Catalog().Callers() {
		if caller.Merchant != p.sale.Merchant || caller.Revoked || caller.Rights&seckill.RightBuy == 0 {
			continue
		}
		var last time.Time // when the last of its keys ends; zero if a key never ends
		live := false
		for i := range caller.Keys {
			key := &caller.Keys[i]
			if !key.Live(p.now) {
				continue
			}
			if !live || key.Expires.IsZero() || !last.IsZero() && key.Expires.After(last) {
				last = key.Expires
			}
			live = true
		}
		if !live {
			continue
		}
		buyers++
		if !last.IsZero() && last.Before(p.sale.EndsAt) && (soon.IsZero() || last.Before(soon)) {
			soon = last
		}
	}
	switch {
	case buyers == 0:
		p.add("callers", checkFail, fmt.Sprintf("%s has none with a key that may buy", p.sale.Merchant),
			fmt.Sprintf("ctl callers add %s NAME --rights buy", p.sale.Merchant))
	case !soon.IsZero():
		p.add("callers", checkWarn, "the last key of a caller ends at "+soon.UTC().Format(time.RFC3339)+", before the sale does",
			"ctl callers keys list, and roll")
	default:
		p.add("callers", checkOK, fmt.Sprintf("%s has %d that may buy", p.sale.Merchant, buyers), "")
	}
}

// mostNamed is how many items a check names one by one.
const mostNamed = 10

// listed names the first few of many.
func listed(names []string) string {
	more := ""
	if len(names) > mostNamed {
		names, more = names[:mostNamed], fmt.Sprintf(" and %d more", len(names)-mostNamed)
	}
	return strings.Join(names, ", ") + more
}

// stock finds items that can't be bought.
func (p *preflight) stock() {
	var empty, generous []string
	for i := range p.sale.Items {
		item := &p.sale.Items[i]
		if item.Quantity == 0 {
			empty = append(empty, string(item.SKU))
		}
		if item.PerUser > 0 && int64(item.PerUser) >= item.Quantity && item.Quantity > 0 {
			generous = append(generous, string(item.SKU))
		}
	}
	switch {
	case len(p.sale.Items) == 0:
		p.add("stock", checkFail, "the sale has no items", "ctl activities put")
	case len(empty) == len(p.sale.Items):
		p.add("stock", checkFail, "no item has units", "ctl stock restock")
	case len(empty) > 0:
		p.add("stock", checkWarn, "without units: "+listed(empty), "ctl stock restock")
	default:
		p.add("stock", checkOK, seckill.Counted(len(p.sale.Items), "item")+", all with units", "")
	}
	if len(generous) > 0 {
		p.add("per_user", checkWarn, "one buyer may take all units of "+listed(generous),
			"is per_user right? ctl activities edit-item before the start")
	}
}

// farOff is the factor from the median at which a price looks wrong: a factor of about 100 means
// that a price is in major units.
const farOff = 50

// prices finds prices that are far from the others of the sale.
func (p *preflight) prices() {
	byCurrency := make(map[string][]int64)
	for i := range p.sale.Items {
		price := p.sale.Items[i].Price
		byCurrency[price.Currency] = append(byCurrency[price.Currency], price.Minor)
	}
	for _, prices := range byCurrency {
		slices.Sort(prices)
	}
	var odd []string
	for i := range p.sale.Items {
		item := &p.sale.Items[i]
		prices := byCurrency[item.Price.Currency]
		median := prices[len(prices)/2]
		far := len(prices) > 2 && median > 0 && (item.Price.Minor <= median/farOff || item.Price.Minor/farOff >= median)
		if item.Price.Minor == 0 || far {
			usual := seckill.Money{Minor: median, Currency: item.Price.Currency}
			odd = append(odd, fmt.Sprintf("%s costs %s, others %s", item.SKU, item.Price, usual))
		}
	}
	switch {
	case len(odd) > 0:
		p.add("prices", checkWarn, listed(odd), "prices are in minor units: ctl activities edit-item before the start")
	case len(byCurrency) > 1:
		p.add("prices", checkWarn, fmt.Sprintf("the sale has %d currencies", len(byCurrency)), "is that intended?")
	case len(p.sale.Items) > 0:
		p.add("prices", checkOK, "all alike", "")
	}
}

// switches lists the switches that are set and apply to the sale: a forgotten one can spoil it.
func (p *preflight) switches() {
	_, document, _, now, err := p.switchesInForce()
	if err != nil {
		p.unseen("switches", err)
		return
	}
	count := 0
	for i := range document.Switches {
		s := &document.Switches[i]
		if s.Over(now) || !p.reaches(&s.Scope) {
			continue
		}
		count++
		state := checkWarn
		if s.Name == degrade.Orders && s.Value == "off" && (s.Scope.Caller == "" && s.Scope.SKU == "") {
			state = checkFail
		}
		detail := fmt.Sprintf("%s is %s for %s since %s by %s: %s", s.Name, s.Value, s.Scope, s.Since.UTC().Format(time.RFC3339), s.By, s.Reason)
		switch {
		case s.StartsAt.After(now):
			detail += "; it begins at " + s.StartsAt.UTC().Format(time.RFC3339)
		case s.ExpiresAt.IsZero():
			detail += "; it has no end"
		default:
			detail += "; it ends at " + s.ExpiresAt.UTC().Format(time.RFC3339)
		}
		p.add("switch "+string(s.Name), state, detail, "if somebody forgot it: ctl switches set "+string(s.Name)+" -"+scopeFlag(s.Scope))
	}
	if count == 0 {
		p.add("switches", checkOK, "none is set that applies to the sale", "")
	}
}

// reaches reports whether a switch of that scope applies to the sale.
func (p *preflight) reaches(s *degrade.Scope) bool {
	merchant, _, _ := strings.Cut(s.Caller, "/")
	switch {
	case s.Merchant != "":
		return s.Merchant == string(p.sale.Merchant)
	case s.Activity != "":
		return s.Activity == string(p.sale.ID)
	case s.Caller != "":
		return merchant == string(p.sale.Merchant)
	case s.SKU != "":
		return slices.ContainsFunc(p.sale.Items, func(item seckill.Item) bool {
			return s.SKU == string(item.SKU) || s.SKU == string(p.sale.ID)+"/"+string(item.SKU)
		})
	}
	return true
}

// limits checks that there are limits, and that they are enforced.
func (p *preflight) limits() {
	stored, err := p.currentLimits(p.context())
	if err != nil {
		p.unseen("limits", err)
		return
	}
	document, err := parseLimits(&stored)
	if err != nil {
		p.unseen("limits", err)
		return
	}
	var idle []string
	perUser := false
	for i := range document.Policies {
		policy := &document.Policies[i]
		if policy.Mode != limiter.Enforce {
			idle = append(idle, fmt.Sprintf("%s is %s", policy.Name, policy.Mode))
			continue
		}
		perUser = perUser || policy.Key == limiter.User || policy.Key == limiter.IP
	}
	switch {
	case len(document.Policies) == 0:
		p.add("limits", checkWarn, "there are none", "without a limit per user, one program can send all the purchases: "+
			"penstock ctl limits set users --key user --rate 1 --burst 5 --reason R")
	case len(idle) > 0:
		p.add("limits", checkWarn, listed(idle), "a policy that isn't enforced refuses nobody")
	case !perUser:
		p.add("limits", checkWarn, "no limit is per user or per address", "one program can send all the purchases: "+
			"penstock ctl limits set users --key user --rate 1 --burst 5 --reason R")
	default:
		p.add("limits", checkOK, seckill.Counted(len(document.Policies), "policy")+", all enforced", "")
	}
}

// nodes checks that gateways and workers are alive, run the same version, and have the newest
// settings in force.
func (p *preflight) nodes() {
	members, documents, err := p.members()
	if err != nil {
		p.unseen("nodes", err)
		return
	}
	gateways, workers := 0, 0
	versions := make(map[string]bool)
	var wrong []string
	for i := range members {
		m := &members[i]
		var status struct{ Role, Version string }
		if m.Status != nil {
			if err := json.Unmarshal(m.Status, &status); err != nil {
				wrong = append(wrong, m.Node+" says what can't be read")
				continue
			}
		}
		is := newMemberDoc(m, documents).State
		if is == nodeCurrent && m.Drain {
			is = "drained"
		}
		if is != nodeCurrent {
			wrong = append(wrong, m.Node+" is "+is)
		}
		if m.Silent > settings.AliveFor {
			continue
		}
		if strings.Contains(status.Role, "gateway") && !m.Drain {
			gateways++
		}
		if strings.Contains(status.Role, "worker") {
			workers++
		}
		versions[status.Version] = true
	}
	take := " take"
	if gateways == 1 {
		take = " takes"
	}
	count := seckill.Counted(gateways, "gateway") + take + " buyers, " + seckill.Counted(workers, "worker")
	switch {
	case gateways == 0:
		p.add("nodes", checkFail, "no gateway takes buyers", "start one, or take one back: ctl nodes undrain")
	case workers == 0:
		p.add("nodes", checkFail, "no worker is alive: accepted orders stay queued", "start one")
	case len(versions) > 1:
		p.add("nodes", checkWarn, fmt.Sprintf("%s; they run %d different versions", count, len(versions)), "upgrade them all: ctl nodes list")
	default:
		p.add("nodes", checkOK, count+", all of one version", "")
	}
	if len(wrong) > 0 {
		p.add("settings in force", checkWarn, listed(wrong),
			"see ctl nodes list: such a node can't reach the database, or was stopped; ctl nodes remove forgets one")
	} else {
		p.add("settings in force", checkOK, "all nodes have the newest limits and switches", "")
	}
}

// smallLag is how many records the workers may be behind before a sale without a warning.
const smallLag = 1000

// lag checks how far the workers are behind.
func (p *preflight) lag() {
	ctx, cancel := context.WithTimeout(p.context(), 3*time.Second)
	defer cancel()
	partitions, err := p.server.deps.Queue(ctx)
	if err != nil {
		p.unseen("lag", err)
		return
	}
	behind := int64(0)
	var wrong []string
	for i := range partitions {
		behind += max(partitions[i].Behind, 0)
		if partitions[i].State != "ok" {
			wrong = append(wrong, fmt.Sprintf("partition %d is %s %s", partitions[i].Number, partitions[i].State, partitions[i].Detail))
		}
	}
	switch {
	case len(wrong) > 0:
		p.add("lag", checkFail, listed(wrong), "look at Kafka's own log; audit --deep")
	case behind > smallLag:
		p.add("lag", checkWarn, "the workers are "+seckill.Counted(behind, "record")+" behind", "wait until they have caught up, or start more")
	default:
		p.add("lag", checkOK, seckill.Counted(behind, "record")+" in "+seckill.Counted(len(partitions), "partition"), "")
	}
}

// servers checks the state of Redis, Kafka, the database and the shards, as this node sees them.
// Kafka's detail names wrong settings of the topic.
func (p *preflight) servers() {
	var report struct {
		Servers []struct{ Server, Instance, State, Detail string }
		Shards  struct{ Open, Closed, Rebuilding int }
	}
	if err := json.Unmarshal(p.server.deps.Health.AppendReport(nil, true, false), &report); err != nil {
		p.unseen("servers", err)
		return
	}
	for _, s := range report.Servers {
		state := map[string]string{"ok": checkOK, "degraded": checkWarn}[s.State]
		p.add(strings.TrimSpace(s.Server+" "+s.Instance), cmp.Or(state, checkFail), strings.TrimSpace(s.State+" "+s.Detail),
			"look at this server's own log and settings")
	}
	shards, state := report.Shards, checkOK
	if shards.Open == 0 || shards.Closed+shards.Rebuilding > 0 {
		state = checkFail
	}
	p.add("shards", state, fmt.Sprintf("%d open, %d closed, %d being rebuilt", shards.Open, shards.Closed, shards.Rebuilding),
		"wait until the rebuild is done; a worker must be running")
}

// StockMemory is how much memory a server of the stock uses and may use, in bytes.
type StockMemory struct {
	Addr string
	Used int64
	Max  int64 // 0 means as much as the machine has
}

// holdBytes is what a hold costs in Redis, as docs/production.md says.
const holdBytes = 200

// memory checks that the stock's servers have enough memory for one hold for each unit of the sale.
func (p *preflight) memory() {
	if p.server.deps.Memory == nil {
		return // the stock is in this process, so there is nothing to check
	}
	ctx, cancel := context.WithTimeout(p.context(), 3*time.Second)
	defer cancel()
	servers, err := p.server.deps.Memory(ctx)
	if err != nil {
		p.unseen("memory", err)
		return
	}
	units, room, used := int64(0), int64(0), int64(0)
	for i := range p.sale.Items {
		units += p.sale.Items[i].Quantity
	}
	bounded := len(servers) > 0
	for _, s := range servers {
		bounded = bounded && s.Max > 0
		room, used = room+max(s.Max-s.Used, 0), used+s.Used
	}
	need := units * holdBytes
	switch {
	case !bounded:
		p.add("memory", checkWarn, fmt.Sprintf("a Redis has no maxmemory: %d MB are used, the sale's holds need up to %d MB", used>>20, need>>20),
			"set maxmemory below the machine's memory, so that Redis refuses writes before the system kills it")
	case need > room:
		p.add("memory", checkFail, fmt.Sprintf("the sale's holds need up to %d MB, and %d MB are free", need>>20, room>>20),
			"raise maxmemory, or add servers")
	case need > room/2:
		p.add("memory", checkWarn, fmt.Sprintf("the sale's holds need up to %d MB of %d MB that are free", need>>20, room>>20), "raise maxmemory")
	default:
		p.add("memory", checkOK, fmt.Sprintf("the sale's holds need up to %d MB, %d MB are free", need>>20, room>>20), "")
	}
}

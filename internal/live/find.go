package live

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Severities.
const (
	Critical = "critical" // buyers notice it, or soon will, or a law is broken
	Warning  = "warning"  // an operator should look today
	Info     = "info"     // not as usual, but intended
)

// The kinds of findings.
const (
	KindServerAway     = "server-away"
	KindServerDegraded = "server-degraded"
	KindBreakerOpen    = "breaker-open"
	KindShardsClosed   = "shards-closed"
	KindShardsRebuilt  = "shards-rebuilding"
	KindLagGrowing     = "lag-growing"
	KindRecordOld      = "record-old"
	KindNodeLost       = "node-lost"
	KindNodeUnseen     = "node-unseen"
	KindNodeDraining   = "node-draining"
	KindNodeBehind     = "node-behind"
	KindNoGateway      = "no-gateway"
	KindNoWorker       = "no-worker"
	KindVersions       = "versions-differ"
	KindSwitchSet      = "switch-set"
	KindSwitchStale    = "switch-forgotten"
	KindLevel          = "level-raised"
	KindDeadLetters    = "dead-letters"
	KindUnbalanced     = "stock-unbalanced"
	KindLawBroken      = "law-broken"
	KindMoneyOld       = "money-old"
	KindSaleUnready    = "sale-not-ready"
	KindSoldOut        = "sold-out"
	KindCallerLimited  = "caller-limited"
	KindErrors         = "errors"
	KindHopLate        = "hop-late"
	KindProbeFailing   = "probe-failing"
	KindViewPartial    = "view-partial"
	KindClockOff       = "clock-off"
	KindCertificate    = "certificate"
	KindStuck          = "partition-stuck"
	KindRowsLocked     = "rows-locked"
	KindWebhookFails   = "webhook-failing"
	KindPayRefused     = "payments-refused"
)

// symptomCtl has the command that shows more, by the kind of findings that come from symptoms.
var symptomCtl = map[string]string{
	KindClockOff: "penstock ctl nodes list", KindCertificate: "penstock ctl nodes list", KindStuck: "penstock ctl nodes list",
	KindRowsLocked:   "penstock ctl orders find --state parked",
	KindWebhookFails: "penstock ctl webhooks list", KindPayRefused: "penstock ctl refunds list",
}

// SymptomKinds returns the kinds of findings that come from symptoms, in the order of their names.
func SymptomKinds() []string { return slices.Sorted(maps.Keys(symptomCtl)) }

// Kind is a kind of findings: its severity, and when it is reported. An alarm is raised when a
// condition has held for Raise, and cleared when it has been over for Clear.
type Kind struct {
	Kind     string
	Severity string
	Raise    time.Duration
	Clear    time.Duration
}

// Kinds returns all kinds, causes before their effects. Each has an entry in docs/runbook.md. A
// fault is reported within two seconds; kinds that wait longer are about trends.
func Kinds() []Kind {
	const short, long = 3 * time.Second, 15 * time.Second
	return []Kind{
		{KindServerAway, Critical, 0, short}, {KindServerDegraded, Warning, 0, short},
		{KindBreakerOpen, Critical, 0, short},
		{KindShardsClosed, Critical, 0, short}, {KindShardsRebuilt, Warning, 0, short},
		{KindRowsLocked, Warning, 0, short}, {KindStuck, Critical, 0, short}, {KindClockOff, Warning, 0, short},
		{KindCertificate, Warning, 0, short},
		{KindLagGrowing, Warning, 20 * time.Second, long}, {KindRecordOld, Critical, short, long},
		{KindNodeLost, Critical, 0, short}, {KindNodeUnseen, Critical, 0, short}, {KindNodeDraining, Info, 0, 0},
		{KindNodeBehind, Warning, short, short}, {KindNoGateway, Critical, 0, short}, {KindNoWorker, Critical, 0, short},
		{KindVersions, Warning, long, long},
		{KindSwitchSet, Info, 0, 0}, {KindSwitchStale, Warning, 0, 0}, {KindLevel, Warning, 0, short},
		{KindDeadLetters, Warning, 0, short}, {KindUnbalanced, Critical, short, short}, {KindLawBroken, Critical, 0, 0},
		{KindPayRefused, Warning, 0, short}, {KindMoneyOld, Warning, 0, long},
		{KindSaleUnready, Critical, short, short}, {KindSoldOut, Info, short, short},
		{KindCallerLimited, Warning, 5 * time.Second, long}, {KindErrors, Critical, time.Second, 5 * time.Second},
		{KindHopLate, Warning, time.Second, long}, {KindProbeFailing, Critical, 0, short},
		{KindWebhookFails, Warning, short, short}, {KindViewPartial, Warning, 0, short},
	}
}

// runbook is the page with the entries of the kinds.
const runbook = "docs/runbook.md#"

// Bounds beyond which something isn't normal.
const (
	lagNoticed   = 1_000 // records: a smaller lag is a few batches
	recordOld    = 30 * time.Second
	errorsShare  = 0.01
	errorsLeast  = 5.0 // per second: below this rate, a single error is a large share
	limitedShare = 0.5
	limitedLeast = 10.0 // per second
	maxOfKind    = 20

	MoneyOldAfter = 24 * time.Hour   // for how long money may be due before it is a finding
	SwitchGetsOld = 24 * time.Hour   // for how long a switch may be set without an end
	UnreadyBefore = 15 * time.Minute // how long before its start a sale must be ready
)

// Facts has the data that findings need besides the snapshot.
type Facts struct {
	Partial string           // why the frames of the other nodes can't be read; "" if they can
	Broken  map[string]int64 // counters that must be 0 and are not
	// Failures are the problem codes with a status of 500 or above.
	Failures   map[string]bool
	Limited    string // the problem code of a limit's refusal
	Unbalanced []Unbalanced
	Unready    []Unready
	Symptoms   []Symptom // of all nodes
	MoneyOld   bool      // money has been due for longer than a day
}

// Unbalanced is an item whose stock equation doesn't hold.
type Unbalanced struct {
	Activity string `json:"activity"`
	SKU      string `json:"sku"`
	Merchant string `json:"merchant"`
	Detail   string `json:"detail"`
}

// Unready is a sale that begins soon and is not ready.
type Unready struct {
	Activity, Merchant, Lacks string
	StartsAt                  time.Time
}

// finder collects findings.
type finder struct {
	out   []Finding
	kinds map[string]Kind
	count map[string]int
}

func (f *finder) add(one Finding) {
	if f.count[one.Kind]++; f.count[one.Kind] > maxOfKind {
		return
	}
	one.Severity = cmp.Or(one.Severity, f.kinds[one.Kind].Severity)
	one.Runbook = runbook + one.Kind
	f.out = append(f.out, one)
}

// Find returns the findings of this moment, even very short ones. It returns at most 20 of a kind.
func Find(s *Snapshot, facts *Facts) []Finding {
	f := &finder{kinds: make(map[string]Kind), count: make(map[string]int)}
	for _, k := range Kinds() {
		f.kinds[k.Kind] = k
	}
	f.servers(s)
	f.nodes(s, facts)
	f.shards(s)
	f.queue(s)
	f.switches(s)
	f.books(s, facts)
	f.sales(s, facts)
	f.buyers(s, facts)
	f.hops(s)
	f.symptoms(facts)
	return f.out
}

func (f *finder) servers(s *Snapshot) {
	away := make(map[string]bool) // servers that can't be reached at all
	for i := range s.Servers {
		if server := &s.Servers[i]; server.Instance == "" && server.State == ServerAway {
			away[server.Server] = true
		}
	}
	for i := range s.Servers {
		server := &s.Servers[i]
		if server.State == ServerOK || server.Instance != "" && away[server.Server] { // findings about its parts would add nothing
			continue
		}
		kind, does := KindServerDegraded, "isn't well"
		if server.State == ServerAway {
			kind, does = KindServerAway, "is away"
		}
		name := strings.TrimSpace(server.Server + " " + server.Instance)
		f.add(Finding{
			Kind: kind, Subject: name, Ctl: "penstock check",
			Text: fmt.Sprintf("%s %s, as %s it%s.", name, does, seenBy(server.Nodes), because(server.Detail)),
		})
	}
	for i := range s.Probes {
		p := &s.Probes[i]
		if !p.OK {
			f.add(Finding{
				Kind: KindProbeFailing, Subject: p.Probe + " on " + p.Node, Ctl: "penstock check",
				Text: fmt.Sprintf("The probe %s fails on %s%s.", p.Probe, p.Node, because(p.Error)),
			})
		}
	}
}

// because continues a sentence with a reason, if there is one.
func because(why string) string {
	why = strings.TrimRight(clip(why, maxFrameText), ". ")
	if why == "" {
		return ""
	}
	return ": " + why
}

// seenBy says which nodes see something.
func seenBy(nodes []string) string {
	if len(nodes) > 1 {
		return people(nodes) + " see"
	}
	return people(nodes) + " sees"
}

// people lists names in a sentence, the first few.
func people(names []string) string {
	const most = 3
	switch n := len(names); {
	case n == 0:
		return "nobody"
	case n > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	}
	return strings.Join(names, ", ")
}

func (f *finder) nodes(s *Snapshot, facts *Facts) {
	versions := make(map[string]bool)
	gateways, workers := 0, 0
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if n.Lost {
			f.add(Finding{
				Kind: KindNodeLost, Subject: n.Node, Ctl: "penstock ctl nodes remove " + n.Node,
				Text: fmt.Sprintf("%s hasn't been heard for %.1f seconds, and did not stop cleanly.", n.Node, n.Age),
			})
			continue
		}
		if strings.Contains(n.Role, "gateway") && !n.Draining {
			gateways++
		}
		if strings.Contains(n.Role, "worker") {
			workers++
		}
		if n.Version != "" {
			versions[n.Version] = true
		}
		f.node(n)
	}
	if len(s.Nodes) > 0 && gateways == 0 {
		f.add(Finding{
			Kind: KindNoGateway, Subject: "gateways", Ctl: "penstock ctl nodes list", Text: "No gateway serves buyers.",
		})
	}
	if len(s.Nodes) > 0 && workers == 0 {
		f.add(Finding{
			Kind: KindNoWorker, Subject: "workers", Ctl: "penstock ctl nodes list",
			Text: "No worker is alive: purchases are promised, but no orders are made.",
		})
	}
	if len(versions) > 1 {
		f.add(Finding{
			Kind: KindVersions, Subject: "versions", Ctl: "penstock ctl nodes list",
			Text: "The nodes run different versions: " + strings.Join(slices.Sorted(maps.Keys(versions)), ", ") + ".",
		})
	}
	if facts.Partial != "" {
		f.add(Finding{
			Kind: KindViewPartial, Subject: "live view", Ctl: "penstock ctl nodes list",
			Text: "The numbers of the other nodes are missing" + because(facts.Partial) + ".",
		})
	}
}

// node finds what is wrong with a live node.
func (f *finder) node(n *Node) {
	if n.Unseen {
		f.add(Finding{
			Kind: KindNodeUnseen, Subject: n.Node, Ctl: "penstock ctl nodes list",
			Text: n.Node + " is alive, but its numbers don't come: it can't reach Redis, or it is overloaded.",
		})
	}
	for _, name := range slices.Sorted(maps.Keys(n.Breakers)) {
		f.add(Finding{
			Kind: KindBreakerOpen, Subject: name + " on " + n.Node, Ctl: "penstock ctl switches list",
			Text: fmt.Sprintf("The breaker before %s is %s on %s.", name, n.Breakers[name], n.Node),
		})
	}
	if n.Draining {
		f.add(Finding{
			Kind: KindNodeDraining, Subject: n.Node, Ctl: "penstock ctl nodes undrain " + n.Node,
			Text: n.Node + " takes no new buyers, because it is drained.",
		})
	}
	if n.Behind {
		f.add(Finding{
			Kind: KindNodeBehind, Subject: n.Node, Ctl: "penstock ctl settings show",
			Text: n.Node + " doesn't use the newest settings yet.",
		})
	}
	if n.Level > "D0" {
		severity := Warning
		if n.Level >= "D4" {
			severity = Critical
		}
		f.add(Finding{
			Kind: KindLevel, Severity: severity, Subject: n.Node, Ctl: "penstock ctl levels show",
			Text: fmt.Sprintf("%s is at the degrade level %s.", n.Node, n.Level),
		})
	}
}

// startGrace is how long an installation may take to open its shards after all its processes have
// started.
const startGrace = 10 * time.Second

func (f *finder) shards(s *Snapshot) {
	settled := slices.ContainsFunc(s.Nodes, func(n Node) bool { return s.At.Sub(n.Started) > startGrace })
	if s.Shards.Closed > 0 && settled {
		f.add(Finding{
			Kind: KindShardsClosed, Subject: "shards", Ctl: "penstock audit",
			Text: fmt.Sprintf("%s closed: their items can't be sold.", countOf(s.Shards.Closed, "shard is", "shards are")),
		})
	}
	if s.Shards.Rebuilding > 0 {
		f.add(Finding{
			Kind: KindShardsRebuilt, Subject: "shards", Ctl: "penstock audit",
			Text: fmt.Sprintf("%s being rebuilt: their items are on sale again soon.", countOf(s.Shards.Rebuilding, "shard is", "shards are")),
		})
	}
}

func countOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

func (f *finder) queue(s *Snapshot) {
	q := &s.Queue
	if q.Lag != nil && *q.Lag > lagNoticed && q.CatchUp == nil {
		f.add(Finding{
			Kind: KindLagGrowing, Subject: "queue", Ctl: "penstock ctl nodes list",
			Text: fmt.Sprintf("%d records wait for the workers, and the number doesn't fall.", *q.Lag),
		})
	}
	if q.Oldest != nil && *q.Oldest > recordOld.Seconds() {
		f.add(Finding{
			Kind: KindRecordOld, Subject: "queue", Ctl: "penstock ctl nodes list",
			Text: fmt.Sprintf("A worker has had a record for %.0f seconds and can't make its orders.", *q.Oldest),
		})
	}
	if q.Letters > 0 {
		f.add(Finding{
			Kind: KindDeadLetters, Subject: "dead letters", Ctl: "penstock ctl dead-letters list",
			Text: countOf(int(q.Letters), "dead letter waits", "dead letters wait") + " for a person.",
		})
	}
}

func (f *finder) switches(s *Snapshot) {
	for i := range s.Switches {
		sw := &s.Switches[i]
		kind := KindSwitchSet
		subject, scope := sw.Switch, ""
		if sw.Scope != "" {
			subject, scope = sw.Switch+" "+sw.Scope, " --scope "+sw.Scope
		}
		text := fmt.Sprintf("The switch %s is %s: %s.", subject, sw.Value, sw.Effect)
		if sw.Stale {
			kind = KindSwitchStale
			text = fmt.Sprintf("The switch %s has been %s for more than a day and has no end: %s.", subject, sw.Value, sw.Effect)
		}
		f.add(Finding{
			Kind: kind, Subject: subject, Text: text, Since: sw.Since, Until: sw.Expires, Merchant: sw.Merchant,
			Ctl: "penstock ctl switches set " + sw.Switch + " -" + scope + " --reason WHY",
		})
	}
}

// books finds what is wrong with stock and money.
func (f *finder) books(s *Snapshot, facts *Facts) {
	for _, u := range facts.Unbalanced {
		f.add(Finding{
			Kind: KindUnbalanced, Subject: u.Activity + "/" + u.SKU, Merchant: u.Merchant, Ctl: "penstock audit --deep",
			Text: fmt.Sprintf("The stock equation of %s in %s doesn't hold: %s.", u.SKU, u.Activity, u.Detail),
		})
	}
	for _, name := range slices.Sorted(maps.Keys(facts.Broken)) {
		f.add(Finding{
			Kind: KindLawBroken, Subject: name, Ctl: "penstock audit --deep",
			Text: fmt.Sprintf("%s is %d and must be 0: something that was acknowledged is lost.", name, facts.Broken[name]),
		})
	}
	if facts.MoneyOld && len(s.Money) > 0 {
		f.add(Finding{
			Kind: KindMoneyOld, Subject: "refunds", Ctl: "penstock ctl refunds list",
			Text: fmt.Sprintf("Refunds have been due for more than %.0f hours.", MoneyOldAfter.Hours()),
		})
	}
}

func (f *finder) sales(s *Snapshot, facts *Facts) {
	for _, u := range facts.Unready {
		if until := u.StartsAt.Sub(s.At); until < 0 || until > UnreadyBefore {
			continue
		}
		starts := u.StartsAt
		f.add(Finding{
			Kind: KindSaleUnready, Subject: u.Activity, Merchant: u.Merchant, Until: &starts,
			Ctl:  "penstock ctl activities show " + u.Activity,
			Text: fmt.Sprintf("%s begins at %s, and %s.", u.Activity, u.StartsAt.UTC().Format("15:04:05 MST"), u.Lacks),
		})
	}
	for i := range s.Activities {
		a := &s.Activities[i]
		if a.State != StateOnSale {
			continue
		}
		for j := range a.Items {
			if item := &a.Items[j]; item.SoldOut {
				f.add(Finding{
					Kind: KindSoldOut, Subject: a.Activity + "/" + item.SKU, Merchant: a.Merchant,
					Ctl:  fmt.Sprintf("penstock ctl stock restock %s %s --delta N --reason WHY", a.Activity, item.SKU),
					Text: fmt.Sprintf("%s in %s is sold out.", item.SKU, a.Activity),
				})
			}
		}
	}
}

// The states of an Activity.
const (
	StateScheduled = "scheduled"
	StateOnSale    = "on-sale"
	StatePaused    = "paused"
	StateEnded     = "ended"
)

func (f *finder) buyers(s *Snapshot, facts *Facts) {
	for i := range s.Callers {
		c := &s.Callers[i]
		limited := c.Rates.Refused[facts.Limited]
		if limited < limitedLeast || limited < limitedShare*c.Rates.Requests {
			continue
		}
		merchant, _, _ := strings.Cut(c.Caller, "/")
		f.add(Finding{
			Kind: KindCallerLimited, Subject: c.Caller, Merchant: merchant, Ctl: "penstock ctl limits usage",
			Text: fmt.Sprintf("Limits refuse %.0f %% of the purchases of %s.", 100*limited/c.Rates.Requests, c.Caller),
		})
	}
	failed, worst := 0.0, ""
	for _, code := range slices.Sorted(maps.Keys(s.Totals.Refused)) {
		if !facts.Failures[code] {
			continue
		}
		failed += s.Totals.Refused[code]
		if worst == "" || s.Totals.Refused[code] > s.Totals.Refused[worst] {
			worst = code
		}
	}
	if failed >= errorsLeast && failed > errorsShare*s.Totals.Requests {
		f.add(Finding{
			Kind: KindErrors, Subject: "purchases", Ctl: "penstock check",
			Text: fmt.Sprintf("%.1f %% of the purchases are answered with a 5xx, mostly %s.", 100*failed/s.Totals.Requests, worst),
		})
	}
}

// symptoms are what nodes see of themselves. Two that see the same are told once; a kind of another
// version is left out.
func (f *finder) symptoms(facts *Facts) {
	told := make(map[[2]string]bool)
	for i := range facts.Symptoms {
		one := &facts.Symptoms[i]
		line, known := symptomCtl[one.Kind]
		if !known || told[[2]string{one.Kind, one.Subject}] {
			continue
		}
		told[[2]string{one.Kind, one.Subject}] = true
		f.add(Finding{Kind: one.Kind, Severity: one.Severity, Subject: one.Subject, Ctl: line, Text: one.Text})
	}
}

func (f *finder) hops(s *Snapshot) {
	for i := range s.Hops {
		h := &s.Hops[i]
		if h.Late == 0 {
			continue
		}
		f.add(Finding{
			Kind: KindHopLate, Subject: h.Hop, Ctl: "penstock check",
			Text: fmt.Sprintf("The step %s (%s) takes longer than %.1f seconds.", h.Hop, hopText(h.Hop), h.Deadline/1000),
		})
	}
}

// hopText describes a hop.
func hopText(hop string) string {
	switch hop {
	case HopHold:
		return "from a purchase until its unit is held in Redis"
	case HopPage:
		return "from the hold until Kafka has acknowledged the page"
	case HopRow:
		return "from the page until the order is in the database"
	case HopConfirm:
		return "from the order until Redis knows of it"
	case HopSettle:
		return "from an order's end until Redis counts its units as sold or free"
	case HopEvent:
		return "from an order's step until other systems are told"
	}
	return "from a change of the settings until it is in force on every gateway"
}

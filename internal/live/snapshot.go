package live

import "time"

// Snapshot is the state of all nodes at one moment. It is the JSON document of GET /admin/v1/live
// and of each `live` event. Rates are per second, over the last full second unless the field says
// otherwise. Lists are never null. Unknown numbers are null, not zero.
type Snapshot struct {
	At       time.Time `json:"at"`       // when it was merged, on the clock of the node that answers
	Version  string    `json:"version"`  // of that node
	Complete bool      `json:"complete"` // every known node's data is in it
	Missing  []string  `json:"missing"`  // nodes that are known and whose data is older than StaleAfter
	Totals   Rates     `json:"totals"`   // of the installation
	History  []Point   `json:"history"`  // a point a second, oldest first; only in the first event and in GET live?history
	Latency  Latency   `json:"latency"`  // of POST /v1/orders, all gateways, last 10 s

	Activities []Activity `json:"activities"` // hottest first, at most MaxActivities; the rest is summed in Others
	Others     Rates      `json:"others"`
	Callers    []Caller   `json:"callers"` // hottest first, at most MaxCallers
	Limits     []Limit    `json:"limits"`  // that refuse or are asked now, the fullest first
	Refused    []Refused  `json:"refused"` // the callers that a limit refuses, most refusals first

	Nodes    []Node   `json:"nodes"`
	Servers  []Server `json:"servers"`
	Queue    Queue    `json:"queue"`
	Shards   Shards   `json:"shards"`
	Money    []Money  `json:"money"` // due back, by currency
	Switches []Switch `json:"switches"`
	Level    string   `json:"level"` // the highest on any gateway, D0 to D5
	Hops     []Hop    `json:"hops"`
	Probes   []Probe  `json:"probes"`

	Objectives []Objective `json:"objectives"` // empty if no gateway is heard

	// Abnormal has the findings, the worst first. It is empty if all is well.
	Abnormal   []Finding `json:"abnormal"`
	LastChange *Change   `json:"last_change"` // null if nothing was changed yet, or where the record can't be read

	// Unread means that the catalog wasn't looked at yet: the process has just started.
	Unread bool `json:"-"`

	// MoneyOf is Money by merchant, for tokens that are bound to one.
	MoneyOf map[string][]Money `json:"-"`
}

// Bounds of a Snapshot.
const (
	MaxActivities = 50
	MaxItems      = 20 // of an activity
	MaxCallers    = 50
	StaleAfter    = 3 * time.Second
	HistoryLength = 15 * time.Minute
)

// Rates are outcomes of purchases, per second.
type Rates struct {
	Requests float64            `json:"requests"` // purchases asked for
	Accepted float64            `json:"accepted"` // answered 201 or 202 for the first time
	Replayed float64            `json:"replayed"` // repeats of a key
	Refused  map[string]float64 `json:"refused"`  // by problem code; never null
	Paid     float64            `json:"paid"`
	// Cancelled counts all cancellations: by buyers, by operators, by timeouts.
	Cancelled float64 `json:"cancelled"`
}

// Point is a second of the past.
type Point struct {
	At       int64              `json:"at"` // unix seconds
	Accepted float64            `json:"accepted"`
	Paid     float64            `json:"paid"`
	Refused  map[string]float64 `json:"refused"`
	Lag      *int64             `json:"lag"`
}

// Latency is in milliseconds; null if nothing was answered.
type Latency struct {
	P50  *float64 `json:"p50"`
	P99  *float64 `json:"p99"`
	P999 *float64 `json:"p999"`
}

// Activity is a sale as it runs.
type Activity struct {
	Activity string    `json:"activity"`
	Name     string    `json:"name"`
	Merchant string    `json:"merchant"`
	State    string    `json:"state"` // scheduled, on-sale, paused, ended
	StartsAt time.Time `json:"starts_at"`
	EndsAt   time.Time `json:"ends_at"`
	Rates    Rates     `json:"rates"`
	Ledger   Ledger    `json:"ledger"`
	// SoldOutIn is seconds until nothing is left at the rate of the last minute; null if nothing
	// sells.
	SoldOutIn *float64 `json:"sold_out_in"`
	Items     []Item   `json:"items"` // hottest first, at most MaxItems
	MoreItems int      `json:"more_items"`
	History   []Point  `json:"history"` // like Snapshot.History
}

// Ledger has the numbers of units, as the shards count them: Total is Available + Held + Sold. The
// audit compares them with the database, and the alarm unbalanced reports a difference.
type Ledger struct {
	Total     int64      `json:"total"`
	Available int64      `json:"available"`
	Held      int64      `json:"held"`
	Sold      int64      `json:"sold"`
	At        *time.Time `json:"at"` // when it was read; null: not yet
}

// Item is one SKU of an activity.
type Item struct {
	SKU      string  `json:"sku"`
	Price    int64   `json:"price"` // minor units
	Currency string  `json:"currency"`
	Accepted float64 `json:"accepted"`
	SoldOut  bool    `json:"sold_out"`
	Ledger   Ledger  `json:"ledger"`
}

// Caller is a caller's purchases.
type Caller struct {
	Caller string `json:"caller"` // merchant/caller
	Rates  Rates  `json:"rates"`
}

// Limit is a policy over all gateways.
type Limit struct {
	Policy     string      `json:"policy"`
	Key        string      `json:"key"`
	Mode       string      `json:"mode"`
	Configured float64     `json:"configured"` // per second
	Allowed    float64     `json:"allowed"`
	Refused    float64     `json:"refused"`
	Shadowed   float64     `json:"shadowed"`
	Nodes      []NodeShare `json:"nodes"`
}

// NodeShare is a policy on one gateway.
type NodeShare struct {
	Node      string  `json:"node"`
	Effective float64 `json:"effective"` // per second that this node may admit now; 0 if unknown
	Allowed   float64 `json:"allowed"`
	Refused   float64 `json:"refused"`
}

// Refused is a key that a limit refuses.
type Refused struct {
	Policy  string  `json:"policy"`
	Key     string  `json:"key"`
	Refused float64 `json:"refused"` // in the last minute or two

	buyer bool // the key names a buyer: a user, or an address
}

// Node is a process.
type Node struct {
	Node     string            `json:"node"`
	Role     string            `json:"role"`
	Version  string            `json:"version"`
	Started  time.Time         `json:"started"`
	Age      float64           `json:"age"`    // seconds since it was last heard
	Lost     bool              `json:"lost"`   // not heard, neither by a frame nor by the database
	Unseen   bool              `json:"unseen"` // it stores no frames, although the database hears it
	Draining bool              `json:"draining"`
	Level    string            `json:"level"`
	InFlight int64             `json:"in_flight"`
	CPU      float64           `json:"cpu"`    // cores, over the last second
	Memory   int64             `json:"memory"` // resident bytes
	Accepted float64           `json:"accepted"`
	Breakers map[string]string `json:"breakers"` // those that aren't closed
	Lag      *int64            `json:"lag"`
	Behind   bool              `json:"behind"` // newer settings aren't in force on it yet
}

// Server is Redis, Kafka or the database, as the nodes see it.
type Server struct {
	Server   string   `json:"server"`
	Instance string   `json:"instance"`
	State    string   `json:"state"` // ok, degraded, away
	Detail   string   `json:"detail"`
	Nodes    []string `json:"nodes"` // the nodes that see this state
}

// Queue is the workers' progress in the queue.
type Queue struct {
	Lag     *int64   `json:"lag"`      // records
	Oldest  *float64 `json:"oldest"`   // seconds: age of the oldest record that was taken and not committed
	CatchUp *float64 `json:"catch_up"` // seconds until the lag is gone, at the rate of the last 10 s; null if it grows
	Letters int64    `json:"dead_letters"`
}

// Shards counts shards by state.
type Shards struct {
	Open       int `json:"open"`
	Closed     int `json:"closed"`
	Rebuilding int `json:"rebuilding"`
}

// Money is an amount that must be refunded.
type Money struct {
	Currency string `json:"currency"`
	Amount   int64  `json:"amount"` // minor units
	Count    int64  `json:"count"`
}

// Switch is a switch that isn't at its default.
type Switch struct {
	Switch   string     `json:"switch"`
	Scope    string     `json:"scope"` // empty means everything; otherwise like merchant=m1
	Value    string     `json:"value"`
	Effect   string     `json:"effect"` // in plain words
	Since    *time.Time `json:"since"`
	Expires  *time.Time `json:"expires"`
	By       string     `json:"by"`
	Reason   string     `json:"reason"`
	Stale    bool       `json:"stale"`    // set for more than a day, with no end
	Merchant string     `json:"merchant"` // the merchant it is about; "" is the installation
}

// Hop is a step of an order's way, or of a setting's.
type Hop struct {
	Hop      string   `json:"hop"` // hold, page, row, confirm, settle, event; settings
	P50      *float64 `json:"p50"` // milliseconds, last 10 s
	P99      *float64 `json:"p99"`
	Deadline float64  `json:"deadline"` // milliseconds
	Late     int64    `json:"late"`     // entries that are over the deadline now, or were in the last 10 s
}

// Probe is a step of the test purchase that each gateway makes.
type Probe struct {
	Probe string     `json:"probe"` // buy, status, page
	Node  string     `json:"node"`
	OK    bool       `json:"ok"`
	Took  float64    `json:"took"` // milliseconds
	Error string     `json:"error"`
	At    *time.Time `json:"at"`
}

// Finding is something that isn't normal. Kind names an alarm, whose entry in docs/runbook.md it
// points to.
type Finding struct {
	Kind     string     `json:"kind"`
	Severity string     `json:"severity"` // critical, warning, info
	Subject  string     `json:"subject"`  // its subject: a node, a server, an activity …
	Text     string     `json:"text"`     // one plain sentence
	Since    *time.Time `json:"since"`
	Until    *time.Time `json:"until"` // when it ends by itself
	Ctl      string     `json:"ctl"`   // the penstock ctl line that deals with it; ""
	Runbook  string     `json:"runbook"`
	Merchant string     `json:"merchant"` // the merchant it is about; "" is the installation
}

// Change is the last recorded change.
type Change struct {
	Number int64     `json:"number"`
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Text   string    `json:"text"`
	// Merchant is the merchant it is about; "" is the installation.
	Merchant string `json:"merchant"`
}

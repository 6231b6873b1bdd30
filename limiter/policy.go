package limiter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // for machines that have no time zone database
	"unicode/utf8"

	"github.com/penstock/penstock/internal/field"
)

// Kind is the kind of a policy's keys. Each key has a bucket.
type Kind string

// The kinds. A caller and a user belong to a merchant, a SKU to an activity: the same name under
// another owner is another key. An IPv6 address counts with its /64, which belongs to one
// subscriber.
const (
	Global   Kind = "global"
	Merchant Kind = "merchant"
	Caller   Kind = "caller"
	User     Kind = "user"
	IP       Kind = "ip"
	Activity Kind = "activity"
	SKU      Kind = "sku"
)

// Mode is what a policy does with a request above its limit.
type Mode string

// The modes. Shadow counts what the policy would refuse if it were the only enforced policy, and
// refuses nothing. Off does nothing. Percent enforces for Policy.Percent of the keys, and is Shadow
// for the others. A hash chooses the keys: the same ones on every node and for every policy.
const (
	Enforce Mode = "enforce"
	Shadow  Mode = "shadow"
	Off     Mode = "off"
	Percent Mode = "percent"
)

// Policy is one limit: a bucket of Burst tokens for each key of its kind, refilled with Rate tokens
// a second, and a bound on what is in flight at once.
//
// Without Match it is the template for every key of its kind; with Match it is only for that key,
// and replaces the template there. So a policy in mode Off exempts the key that it matches. Match
// is written
//
//	merchant, activity   name
//	caller, user         merchant/name
//	sku                  activity/name
//	ip                   an address; for IPv6 any address of the /64, or the /64 itself
//
// A global policy has no match.
type Policy struct {
	Name  string  `json:"name"`
	Key   Kind    `json:"key"`
	Match string  `json:"match,omitempty"`
	Rate  float64 `json:"rate,omitempty"`
	Burst int64   `json:"burst,omitempty"`
	Mode  Mode    `json:"mode"`
	// Percent is the percentage of keys, 1 to 99, in mode Percent; otherwise 0.
	Percent int `json:"percent,omitempty"`

	// Concurrency is how many requests of a key may be in flight at once on each node; 0 means no
	// bound. With it, a policy needs no bucket: Rate and Burst may both be 0.
	Concurrency int64 `json:"concurrency,omitempty"`
	// Quota is how many tokens a key may take in a calendar day, over all nodes; 0 means no bound.
	// The day begins and ends in Zone, a name of the time zone database; "" means UTC. With a
	// Quota, as with a Concurrency, a policy needs no bucket.
	Quota int64  `json:"quota,omitempty"`
	Zone  string `json:"zone,omitempty"`
	// QuotaPerSKU makes the quota of a merchant, or of each of its callers, grow with the number of
	// SKUs that the merchant has on sale: the quota is Quota + QuotaPerSKU × SKUs, at most
	// QuotaMax.
	QuotaPerSKU int64 `json:"quota_per_sku,omitempty"`
	QuotaMax    int64 `json:"quota_max,omitempty"`
	// Cost has the tokens that requests take; nil means one token for each purchase. A request that
	// costs nothing is not counted.
	Cost *Cost `json:"cost,omitempty"`

	// Guaranteed is the rate that the merchant of Match keeps while the global bucket is nearly
	// empty, in tokens per second; Rate is its ceiling. All guaranteed rates together are at most
	// the global rate.
	Guaranteed float64 `json:"guaranteed,omitempty"`
	// Weight is the merchant's weight when the rest of the global rate is divided; 0 counts as 1.
	Weight int `json:"weight,omitempty"`

	// ExpiresAt ends the policy. The zero time means never.
	ExpiresAt End `json:"expires_at,omitzero"`
	// Temporary replaces the policy's own values until it ends; nil means that there are none.
	Temporary *Temporary `json:"temporary,omitempty"`
}

// End is the time when something ends. As JSON it has milliseconds.
type End struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (e End) MarshalJSON() ([]byte, error) {
	return e.UTC().AppendFormat(nil, `"2006-01-02T15:04:05.000Z07:00"`), nil
}

// Temporary has values that a policy has for a while.
type Temporary struct {
	Rate      float64 `json:"rate,omitempty"`
	Burst     int64   `json:"burst,omitempty"`
	Mode      Mode    `json:"mode"`
	Percent   int     `json:"percent,omitempty"`
	ExpiresAt End     `json:"expires_at"`
}

// Class is the kind of a request: see Cost.
type Class uint8

// The classes. Other requests (cancellations, payments) are not limited.
const (
	Purchase Class = iota
	Page           // an activity's page
	Status         // a read of an order
	classes
)

// Cost has a policy's costs, in tokens. A purchase of n units costs Purchase + n × Unit.
type Cost struct {
	Purchase int64 `json:"purchase"`
	Unit     int64 `json:"unit"`
	Page     int64 `json:"page"`
	Status   int64 `json:"status"`
}

// DefaultCost is the cost of a policy without a Cost.
func DefaultCost() Cost { return Cost{Purchase: 1} }

// UnmarshalJSON implements json.Unmarshaler. Missing members are as in DefaultCost.
func (c *Cost) UnmarshalJSON(text []byte) error {
	type plain Cost // the same type without this method
	out := plain(DefaultCost())
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&out); err != nil {
		return err
	}
	*c = Cost(out)
	return nil
}

// of returns the cost of a request.
func (c *Cost) of(req *Request) int64 {
	switch req.Class {
	case Purchase:
		return c.Purchase + c.Unit*int64(max(req.Quantity, 1))
	case Page:
		return c.Page
	case Status:
		return c.Status
	}
	return 0
}

// Document has all the policies of a cluster. Rates and bursts are for the whole cluster.
type Document struct {
	Policies []Policy `json:"policies"`
	// Staged is a change that some nodes try; nil if there is none. Only On uses it.
	Staged *Staged `json:"staged,omitempty"`
}

// Bounds of a Document's values.
const (
	MaxPolicies   = 10_000
	MaxNameLength = 64
	MaxUserLength = 128
	// MinRate is one token in 100,000 s, a little less than one a day. For rarer events use a
	// quota, which survives a restart.
	MinRate = 1e-5
	// MaxRate is far above the capacity of a cluster: a larger number is a typing mistake.
	MaxRate = 1e7
	// MaxBurst is the largest bucket.
	MaxBurst = 100_000_000
	// MaxRefill is the longest time, in seconds, that an empty bucket may take to fill: a week.
	MaxRefill = 7 * 24 * 3600
	// MaxConcurrency is more than the places that a node has.
	MaxConcurrency = 1_000_000
	// MaxCost is the most tokens that one thing may cost.
	MaxCost = 1_000_000
	// MaxQuota is more than a cluster answers in a day.
	MaxQuota = 1_000_000_000_000
	// MaxWeight is the largest weight.
	MaxWeight = 1000
	// MaxNodes is how many nodes a limit can be split over.
	MaxNodes = 1024
	// MaxMistakes is how many mistakes Validate lists; one more entry says that there are others.
	MaxMistakes = 100
)

// FieldErrors says what is wrong with a Document, field by field.
type FieldErrors = field.Errors

// mistakes collects FieldErrors up to MaxMistakes.
type mistakes struct {
	list   FieldErrors
	prefix string // of the current field's name
}

func (m *mistakes) add(name, format string, args ...any) {
	switch n := len(m.list); {
	case n < MaxMistakes:
		m.list = append(m.list, field.Error{Field: m.prefix + name, Detail: fmt.Sprintf(format, args...)})
	case n == MaxMistakes:
		m.list = append(m.list, field.Error{Field: "policies", Detail: "have more mistakes than this list shows"})
	}
}

// Validate returns everything that is wrong with the document, as FieldErrors, or nil.
func (d *Document) Validate() error {
	var m mistakes
	if n := len(d.Policies); n > MaxPolicies {
		m.add("policies", "must be at most %d, not %d", MaxPolicies, n)
		return m.list
	}
	type subject struct {
		kind  Kind
		match string
	}
	names := make(map[string]int, len(d.Policies))
	subjects := make(map[subject]int, len(d.Policies))
	for i := range d.Policies {
		p := &d.Policies[i]
		m.prefix = fmt.Sprintf("policies[%d].", i)
		p.check(&m)
		if first, twice := names[p.Name]; twice {
			m.add("name", "is also the name of policies[%d]", first)
		} else {
			names[p.Name] = i
		}
		s := subject{p.Key, p.canonicalMatch()}
		if first, twice := subjects[s]; !twice {
			subjects[s] = i
		} else if p.Key == Global {
			m.add("key", "is global, like that of %q: there can be only one such policy, so change that one", d.Policies[first].Name)
		} else if s.match == "" {
			m.add("match", "is missing: %q is for every %s already, so change that one, or name one %[2]s here", d.Policies[first].Name, p.Key)
		} else {
			m.add("match", "is the same %s as that of policies[%d] (%q)", p.Key, first, d.Policies[first].Name)
		}
	}
	d.checkGuarantees(&m)
	if m.list == nil {
		return nil
	}
	return m.list
}

// checkGuarantees adds mistakes for guaranteed rates that exceed the global rate.
func (d *Document) checkGuarantees(m *mistakes) {
	all := slices.IndexFunc(d.Policies, func(p Policy) bool { return p.Key == Global && p.Mode == Enforce })
	sum := 0.0
	for i := range d.Policies {
		p := &d.Policies[i]
		if p.Guaranteed <= 0 || p.Key != Merchant {
			continue
		}
		m.prefix = fmt.Sprintf("policies[%d].", i)
		sum += p.Guaranteed
		switch {
		case all < 0:
			m.add("guaranteed", "needs an enforced global policy, because it is a part of that policy's rate")
		case sum > d.Policies[all].Rate:
			m.add("guaranteed", "makes the guaranteed rates %g per second together, above the global rate of %g (policies[%d], %q)",
				sum, d.Policies[all].Rate, all, d.Policies[all].Name)
		case d.Policies[all].Burst < 2:
			m.add("guaranteed", "needs a burst of at least 2 in the global policy (policies[%d]): a part of it is for guaranteed rates", all)
		}
	}
}

// At returns the document that is in force at a time: without expired policies, and with temporary
// values in place. next is the time of its next change; the zero time means never.
func (d *Document) At(now time.Time) (out Document, next time.Time) {
	ends := func(at End) bool { // and has not passed
		if at.IsZero() || !at.After(now) {
			return false
		}
		if next.IsZero() || at.Before(next) {
			next = at.Time
		}
		return true
	}
	out.Policies = make([]Policy, 0, len(d.Policies))
	for _, p := range d.Policies {
		if !ends(p.ExpiresAt) && !p.ExpiresAt.IsZero() {
			continue
		}
		if t := p.Temporary; t != nil && ends(t.ExpiresAt) {
			p.Rate, p.Burst, p.Mode, p.Percent = t.Rate, t.Burst, t.Mode, t.Percent
		}
		p.Temporary, p.ExpiresAt = nil, End{}
		out.Policies = append(out.Policies, p)
	}
	return out, next
}

// Prune drops everything that has ended at a time, and makes a completed staged change a part of
// the document.
func (d *Document) Prune(now time.Time) {
	d.complete(now)
	over := func(at End) bool { return !at.IsZero() && !at.After(now) }
	d.Policies = slices.DeleteFunc(d.Policies, func(p Policy) bool { return over(p.ExpiresAt) })
	for i := range d.Policies {
		if t := d.Policies[i].Temporary; t != nil && over(t.ExpiresAt) {
			d.Policies[i].Temporary = nil
		}
	}
}

// check adds all mistakes in the policy that need no other data.
func (p *Policy) check(m *mistakes) {
	if err := checkName(p.Name); err != "" {
		m.add("name", "%s", err)
	}
	switch p.Key {
	case Global, Merchant, Caller, User, IP, Activity, SKU:
		if err := p.checkMatch(); err != "" {
			m.add("match", "%s", err)
		}
	case "":
		m.add("key", "is required")
	default:
		m.add("key", "must be global, merchant, caller, user, ip, activity or sku")
	}
	p.checkValues(m, "")
	p.checkBounds(m)
	p.checkShare(m)
	if t := p.Temporary; t != nil {
		own := Policy{Key: p.Key, Rate: t.Rate, Burst: t.Burst, Mode: t.Mode, Percent: t.Percent, Concurrency: p.Concurrency, Quota: p.Quota}
		own.checkValues(m, "temporary.")
		switch {
		case t.ExpiresAt.IsZero():
			m.add("temporary.expires_at", "is required")
		case !p.ExpiresAt.IsZero() && !t.ExpiresAt.Before(p.ExpiresAt.Time):
			m.add("temporary.expires_at", "must be before the policy's own expires_at")
		}
		if p.Guaranteed > t.Rate {
			m.add("temporary.rate", "must be at least guaranteed, %g", p.Guaranteed)
		}
	}
}

// checkValues adds the mistakes in values that may also be temporary.
func (p *Policy) checkValues(m *mistakes, field string) {
	switch p.Mode {
	case Enforce, Shadow, Off:
		if p.Percent != 0 {
			m.add(field+"percent", "needs the mode percent")
		}
	case Percent:
		if p.Percent < 1 || p.Percent > 99 {
			m.add(field+"percent", "must be from 1 to 99 with mode percent")
		}
		if p.Key == Global {
			m.add(field+"mode", "must not be percent: global is a single key")
		}
	case "":
		m.add(field+"mode", "is required")
	default:
		m.add(field+"mode", "must be enforce, shadow, off or percent")
	}
	if !p.bucketed() {
		return
	}
	rate := p.checkRate()
	if rate != "" {
		m.add(field+"rate", "%s", rate)
	}
	switch {
	case p.Burst < 1:
		m.add(field+"burst", "must be at least 1: a smaller bucket never holds a token; to let nobody in, use a switch")
	case p.Burst > MaxBurst:
		m.add(field+"burst", "must be at most %d", MaxBurst)
	case rate == "" && float64(p.Burst)/p.Rate > MaxRefill:
		m.add(field+"burst", "would take %.0f s to refill at this rate; at most %d s (a week) are allowed",
			float64(p.Burst)/p.Rate, MaxRefill)
	}
}

// bucketed reports whether the policy is meant to have a bucket.
func (p *Policy) bucketed() bool {
	return p.Rate != 0 || p.Burst != 0 || p.Concurrency == 0 && p.Quota == 0
}

// checkBounds adds the mistakes in a policy's values beside its bucket.
func (p *Policy) checkBounds(m *mistakes) {
	if p.Concurrency < 0 || p.Concurrency > MaxConcurrency {
		m.add("concurrency", "must be from 1 to %d; to let nobody in, use a switch", MaxConcurrency)
	}
	p.checkQuota(m)
	if p.Cost == nil {
		return
	}
	for _, c := range []struct {
		field string
		value int64
	}{{"purchase", p.Cost.Purchase}, {"unit", p.Cost.Unit}, {"page", p.Cost.Page}, {"status", p.Cost.Status}} {
		switch {
		case c.value < 0 || c.value > MaxCost:
			m.add("cost."+c.field, "must be from 0, which means free, to %d", MaxCost)
		case c.value > p.Burst && p.Burst > 0:
			m.add("cost."+c.field, "must be at most the burst, %d: a bucket never has more", p.Burst)
		case c.value > p.Quota && p.Quota > 0:
			m.add("cost."+c.field, "must be at most the quota, %d", p.Quota)
		}
	}
	if sum := p.Cost.Purchase + p.Cost.Unit; p.Cost.Purchase <= MaxCost && p.Cost.Unit <= MaxCost && p.Cost.Purchase > 0 && p.Cost.Unit > 0 {
		switch {
		case sum > p.Burst && p.Burst > 0 && p.Cost.Purchase <= p.Burst && p.Cost.Unit <= p.Burst:
			m.add("cost.unit", "makes a purchase of one unit cost %d, above the burst, %d: a bucket never has more", sum, p.Burst)
		case sum > p.Quota && p.Quota > 0 && p.Cost.Purchase <= p.Quota && p.Cost.Unit <= p.Quota:
			m.add("cost.unit", "makes a purchase of one unit cost %d, above the quota, %d", sum, p.Quota)
		}
	}
	if p.Cost.Page > 0 && (p.Key == User || p.Key == SKU) {
		m.add("cost.page", "must be 0 with this key: a page has no %s", p.Key)
	}
	if p.Cost.Status > 0 && (p.Key == User || p.Key == SKU || p.Key == Activity) {
		m.add("cost.status", "must be 0 with this key: a request for an order names no %s", p.Key)
	}
	if *p.Cost == (Cost{}) {
		m.add("cost", "must charge for something; to limit nothing, use the mode off")
	}
}

// checkQuota adds the mistakes in the quota.
func (p *Policy) checkQuota(m *mistakes) {
	switch {
	case p.Quota < 0 || p.Quota > MaxQuota:
		m.add("quota", "must be from 1 to %d; to let nobody in, use a switch", int64(MaxQuota))
	case p.Quota > 0 && p.Key == Global:
		m.add("quota", "must not be given with the key global; to close the shop, use a switch")
	case p.Quota == 0 && (p.Zone != "" || p.QuotaPerSKU != 0 || p.QuotaMax != 0):
		m.add("quota", "is required with zone, quota_per_sku and quota_max")
		return
	}
	if _, err := zoneOf(p.Zone); err != nil {
		m.add("zone", "must be a name of the time zone database, like Asia/Shanghai")
	}
	switch {
	case p.QuotaPerSKU == 0:
	case p.QuotaPerSKU < 0 || p.QuotaPerSKU > MaxQuota:
		m.add("quota_per_sku", "must be from 1 to %d", int64(MaxQuota))
	case p.Key != Merchant && p.Key != Caller:
		m.add("quota_per_sku", "is for merchants and their callers: it needs the key merchant or caller")
	case p.QuotaMax == 0:
		m.add("quota_max", "is required with quota_per_sku")
	}
	switch {
	case p.QuotaMax == 0:
	case p.QuotaPerSKU == 0:
		m.add("quota_max", "needs a quota_per_sku, because it is the bound for it")
	case p.QuotaMax < p.Quota || p.QuotaMax > MaxQuota:
		m.add("quota_max", "must be from the quota, %d, to %d", p.Quota, int64(MaxQuota))
	}
}

// zoneOf returns the time zone with this name.
func zoneOf(name string) (*time.Location, error) {
	if name == "Local" { // it differs between nodes
		return nil, errors.New("the zone of a node itself is not a place")
	}
	return time.LoadLocation(name)
}

// checkShare adds the mistakes in the share of a merchant.
func (p *Policy) checkShare(m *mistakes) {
	switch {
	case p.Guaranteed == 0:
	case math.IsNaN(p.Guaranteed) || math.IsInf(p.Guaranteed, 0) || p.Guaranteed < 0:
		m.add("guaranteed", "must be a number above 0")
	case p.Key != Merchant || p.Match == "":
		m.add("guaranteed", "is for one merchant: it needs the key merchant and a match")
	case p.Guaranteed > p.Rate:
		m.add("guaranteed", "must be at most the rate, %g, which is the most that the merchant can have", p.Rate)
	}
	switch {
	case p.Weight == 0:
	case p.Key != Merchant:
		m.add("weight", "is for merchants: it needs the key merchant")
	case p.Weight < 0 || p.Weight > MaxWeight:
		m.add("weight", "must be from 1 to %d", MaxWeight)
	}
}

// checkRate returns the mistake in the rate, or "". Zero is refused. It could mean "nobody", but a
// forgotten field is also zero; and to close a sale there are switches, which have a reason and an
// end.
func (p *Policy) checkRate() string {
	switch {
	case math.IsNaN(p.Rate) || math.IsInf(p.Rate, 0):
		return "must be a number"
	case p.Rate == 0:
		return "must be above 0; to let nobody in, use a switch"
	case p.Rate < 0:
		return "must be above 0"
	case p.Rate < MinRate:
		return fmt.Sprintf("must be at least %g per second", MinRate)
	case p.Rate > MaxRate:
		return fmt.Sprintf("must be at most %.0f per second", MaxRate)
	}
	return ""
}

// checkMatch returns the mistake in the match of a policy of a known kind, or "".
func (p *Policy) checkMatch() string {
	if p.Match == "" {
		return ""
	}
	owner, name, two := strings.Cut(p.Match, "/")
	switch p.Key {
	case Merchant, Activity:
		return checkName(p.Match)
	case Caller, User, SKU:
		form := map[Kind]string{Caller: "merchant/caller", User: "merchant/user", SKU: "activity/sku"}[p.Key]
		if !two {
			return "must be " + form
		}
		if err := checkName(owner); err != "" {
			return "must be " + form + ": the part before the slash " + err
		}
		check := checkName
		if p.Key == User || p.Key == SKU { // other systems choose these names
			check = checkUser
		}
		if err := check(name); err != "" {
			return "must be " + form + ": the part after the slash " + err
		}
	case IP:
		if !matchedAddr(p.Match).IsValid() {
			return "must be an address, or an IPv6 network of 64 bits"
		}
	default:
		return "must be empty: there is only one global limit"
	}
	return ""
}

// canonicalMatch returns the match in its only valid spelling.
func (p *Policy) canonicalMatch() string {
	if p.Key == IP {
		if a := matchedAddr(p.Match); a.IsValid() {
			return a.String()
		}
	}
	return p.Match
}

// matchedAddr returns the address of a match of kind IP, or the zero Addr. For an IPv6 network it
// is the first address.
func matchedAddr(match string) netip.Addr {
	if net, err := netip.ParsePrefix(match); err == nil {
		if !net.Addr().Is6() || net.Addr().Is4In6() || net.Bits() != groupBits {
			return netip.Addr{}
		}
		return net.Masked().Addr()
	}
	a, err := netip.ParseAddr(match)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}
	}
	return group(a)
}

// checkName returns the mistake in a name, or "". Names have the same form as ids in URLs, so that
// they need no quotes in headers and can't contain the slash of a match.
func checkName(s string) string {
	if s == "" {
		return "is required"
	}
	if len(s) > MaxNameLength {
		return fmt.Sprintf("must be at most %d bytes", MaxNameLength)
	}
	if s == "." || s == ".." {
		return "must not be a relative path"
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("._~-", c) >= 0:
		default:
			return "must consist of letters, digits and ._~-"
		}
	}
	return ""
}

// checkUser returns the mistake in a user's id, or "". Callers make these ids.
func checkUser(s string) string {
	switch {
	case s == "":
		return "is required"
	case !utf8.ValidString(s):
		return "must be UTF-8"
	case utf8.RuneCountInString(s) > MaxUserLength:
		return fmt.Sprintf("must be at most %d characters", MaxUserLength)
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "must have no control characters"
	}
	return ""
}

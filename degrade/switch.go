package degrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Name names a switch.
type Name string

// The switches.
const (
	Orders       Name = "orders"        // on, off: whether new orders are accepted
	Admission    Name = "admission"     // 0 to 100: the percentage of buyers whose new orders are accepted
	Wait         Name = "wait"          // on, off: whether Prefer: wait is used
	Browse       Name = "browse"        // live, static, off: activity pages are up to date, or as last rendered, or not served
	PollInterval Name = "poll-interval" // 1 to 60: after how many seconds a queued order may be asked for again
	Limits       Name = "limits"        // enforce, shadow, off: limits refuse, or only count, or are not used
	LogDetail    Name = "log-detail"    // off, on: whether every visit is logged
	Timeouts     Name = "timeouts"      // on, held: whether unpaid orders are cancelled in time. Scopes: merchants, activities.

	LevelSwitch     Name = "level"     // auto, D0 to D5: the degrade level, for everybody or for one activity; see Levels
	AutomaticSwitch Name = "automatic" // on, shadow, off: whether nodes enter levels automatically, or only report the level, or neither

	// auto, open, closed, observe: decides whether Redis, Kafka or the database is called for
	// buyers; see BreakerMode. It can't have a scope.
	RedisBreaker    Name = "redis-breaker"
	KafkaBreaker    Name = "kafka-breaker"
	DatabaseBreaker Name = "database-breaker"
)

// kind is the kind of values of a switch.
type kind struct {
	name        Name
	words       []string // its values by index, if they are words; otherwise
	least, most int32    // its values are whole numbers in this range
	normal      int32    // its default
	global      bool     // it can't have a scope
	wide        bool     // its scope can only be a merchant or an activity
	perActivity bool     // its scope can only be an activity
	help        string
}

// kinds has every switch, in the order in which they are shown.
func kinds() []kind {
	return []kind{
		{name: Orders, words: []string{"off", "on"}, normal: on, help: "whether new orders are accepted"},
		{name: Admission, most: 100, normal: 100, help: "the percentage of buyers whose new orders are accepted"},
		{name: Wait, words: []string{"off", "on"}, normal: on, help: "whether Prefer: wait is used"},
		{name: Browse, words: []string{"live", "static", "off"}, help: "activity pages: up to date, as last rendered, or not served"},
		{name: PollInterval, least: 1, most: 60, normal: 1, help: "seconds until a queued order may be asked for again"},
		{name: Limits, words: []string{"enforce", "shadow", "off"}, help: "whether limits refuse, only count, or are not used"},
		{name: LogDetail, words: []string{"off", "on"}, help: "whether visits are logged one by one"},
		{name: Timeouts, words: []string{"on", "held"}, wide: true, help: "whether orders that aren't paid in time are cancelled"},
		{
			name: LevelSwitch, words: []string{"auto", "D0", "D1", "D2", "D3", "D4", "D5"}, perActivity: true,
			help: "the degrade level, for an hour unless expires_in says otherwise; auto: each node finds its own",
		},
		{
			name: AutomaticSwitch, words: []string{"on", "shadow", "off"}, global: true,
			help: "whether nodes enter levels up to D3 automatically, only report which one they would enter, or neither",
		},
		breakerKind(RedisBreaker, "Redis"),
		breakerKind(KafkaBreaker, "Kafka"),
		breakerKind(DatabaseBreaker, "the database"),
	}
}

func breakerKind(name Name, server string) kind {
	k := kind{name: name, global: true, help: "the circuit breaker before " + server + ": automatic, refuse all, refuse none, only count"}
	for mode := BreakerAuto; mode <= BreakerObserve; mode++ {
		k.words = append(k.words, mode.String())
	}
	return k
}

// The values of switches with words.
const (
	off = int32(0)
	on  = int32(1)

	timeoutsHeld = int32(1)

	browseStatic = int32(1)
	browseOff    = int32(2)
)

// LimitsMode is the mode of all limits.
type LimitsMode int32

// The modes, as values of the switch limits.
const (
	LimitsEnforce LimitsMode = iota
	LimitsShadow
	LimitsOff
)

func kindOf(name Name) (index int, k kind, ok bool) {
	for i, k := range kinds() {
		if k.name == name {
			return i, k, true
		}
	}
	return 0, kind{}, false
}

// Description describes a switch for people.
type Description struct {
	Name   Name
	Values string // on|off, or 0–100
	Normal string // its default
	Help   string
}

// Descriptions returns the descriptions of all switches.
func Descriptions() []Description {
	var out []Description
	for _, k := range kinds() {
		out = append(out, Description{k.name, k.values(), k.text(k.normal), k.help})
	}
	return out
}

func (k kind) values() string {
	if k.words != nil {
		return strings.Join(k.words, ", ")
	}
	return fmt.Sprintf("%d to %d", k.least, k.most)
}

// IsNumber reports whether the switch's values are numbers.
func (n Name) IsNumber() bool {
	_, k, ok := kindOf(n)
	return ok && k.words == nil
}

func (k kind) text(v int32) string {
	if k.words != nil {
		return k.words[v]
	}
	return strconv.Itoa(int(v))
}

func (k kind) parse(text string) (int32, bool) {
	for i, word := range k.words {
		if word == text {
			return int32(i), true
		}
	}
	if k.words != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 32)
	return int32(n), err == nil && int32(n) >= k.least && int32(n) <= k.most && strconv.Itoa(int(n)) == text
}

// CheckValue returns the mistake in a value of a switch, or "".
func CheckValue(name Name, text string) string {
	_, k, ok := kindOf(name)
	switch {
	case !ok:
		return "this switch doesn't exist"
	case k.words == nil:
		if _, ok := k.parse(text); !ok {
			return "must be a whole number from " + k.values()
		}
	default:
		if _, ok := k.parse(text); !ok {
			return "must be one of " + k.values()
		}
	}
	return ""
}

// Scope is the scope of a switch. The zero value means everybody. At most one member is set.
type Scope struct {
	Merchant string `json:"merchant,omitempty"`
	Activity string `json:"activity,omitempty"`
	// SKU is a SKU of every activity, or activity/sku for one activity. If the SKU itself has a
	// slash, both meanings apply.
	SKU    string `json:"sku,omitempty"`
	Caller string `json:"caller,omitempty"` // as merchant/caller
}

// Check returns the mistake in a scope for that switch, or "". It doesn't check whether the name
// exists.
func (s Scope) Check(name Name) string {
	set := 0
	for _, name := range []string{s.Merchant, s.Activity, s.SKU, s.Caller} {
		if name == "" {
			continue
		}
		set++
		if utf8.RuneCountInString(name) > maxScope {
			return fmt.Sprintf("must be at most %d characters", maxScope)
		}
	}
	_, k, ok := kindOf(name)
	if ok && k.global && set > 0 {
		return "must not be given: " + string(name) + " is for everybody"
	}
	if _, k, ok := kindOf(name); ok && k.wide && (s.SKU != "" || s.Caller != "") {
		return "must be merchant or activity: " + string(name) + " is for whole activities"
	}
	if ok && k.perActivity && set > 0 && s.Activity == "" {
		return "must be an activity, or nobody: " + string(name) + " is for everybody or for one activity"
	}
	if set > 1 {
		return "must be one of merchant, activity, sku, caller"
	}
	if s.Caller != "" {
		if merchant, caller, ok := strings.Cut(s.Caller, "/"); !ok || merchant == "" || caller == "" {
			return "must name a caller as merchant/caller"
		}
	}
	activity, sku, both := strings.Cut(s.SKU, "/")
	merchant, caller, _ := strings.Cut(s.Caller, "/")
	if both && (activity == "" || sku == "") {
		return "must name a SKU as sku or activity/sku"
	}
	for _, name := range []string{s.Merchant, s.Activity, merchant, caller} {
		if strings.ContainsFunc(name, notInNames) {
			return "must consist of letters, digits and ._~-"
		}
	}
	if !utf8.ValidString(s.SKU) || strings.ContainsFunc(s.SKU, unicode.IsControl) {
		return "must have no control characters"
	}
	return ""
}

// notInNames reports whether the character can't be in an id.
func notInNames(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._~-", r)
}

// String describes the scope for people and logs.
func (s Scope) String() string {
	switch {
	case s.Merchant != "":
		return "merchant " + s.Merchant
	case s.Activity != "":
		return "activity " + s.Activity
	case s.SKU != "":
		return "sku " + s.SKU
	case s.Caller != "":
		return "caller " + s.Caller
	}
	return "everybody"
}

// The bounds of a document.
const (
	maxScope    = 256
	MaxSwitches = 1000
)

// Switch is a value that was set for a switch and a scope.
type Switch struct {
	Name      Name      `json:"name"`
	Scope     Scope     `json:"scope,omitzero"`
	Value     string    `json:"value"`
	Reason    string    `json:"reason"`
	By        string    `json:"by"`
	Since     time.Time `json:"since"`
	StartsAt  time.Time `json:"starts_at,omitzero"`  // zero: it begins at once
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: it has no end
}

// Over reports whether the switch has ended at now.
func (s *Switch) Over(now time.Time) bool { return !s.ExpiresAt.IsZero() && !now.Before(s.ExpiresAt) }

// Active reports whether the switch is in force at now: it has begun, and isn't over.
func (s *Switch) Active(now time.Time) bool { return !s.StartsAt.After(now) && !s.Over(now) }

// covers reports whether s will be in force for the whole time in which other could be, so that
// other would never have an effect.
func (s *Switch) covers(other *Switch, now time.Time) bool {
	return (!s.StartsAt.After(now) || !s.StartsAt.After(other.StartsAt)) && !other.outlives(s)
}

// Document has all switches that are set. A switch that isn't in it has its default. If a name and
// scope has several values, the last one is in force. An earlier value is kept only if it will be
// in force again after the later one ends.
type Document struct {
	Switches []Switch `json:"switches"`
	Recorded []string `json:"recorded,omitempty"` // ids of the last amendments that the document includes
}

// ParseDocument reads a document; nil is the empty one. An unknown member is a mistake, because
// ignoring it could change the meaning.
func ParseDocument(text []byte) (Document, error) {
	var d Document
	if len(text) == 0 {
		return d, nil
	}
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return Document{}, fmt.Errorf("switches: %w", err)
	}
	return d, d.Validate()
}

// Validate checks the whole document.
func (d *Document) Validate() error {
	if len(d.Switches) > MaxSwitches {
		return fmt.Errorf("switches: %d, at most %d may be set", len(d.Switches), MaxSwitches)
	}
	type key struct {
		name  Name
		scope Scope
	}
	var errs []error
	ends := make(map[key]*Switch)
	for i := range d.Switches {
		s := &d.Switches[i]
		for _, wrong := range []string{CheckValue(s.Name, s.Value), s.Scope.Check(s.Name)} {
			if wrong != "" {
				errs = append(errs, fmt.Errorf("switches: %q for %s: %s", s.Name, s.Scope, wrong))
			}
		}
		if under := ends[key{s.Name, s.Scope}]; under != nil && s.covers(under, s.Since) {
			errs = append(errs, fmt.Errorf("switches: %q for %s is set twice", s.Name, s.Scope))
		}
		ends[key{s.Name, s.Scope}] = s
	}
	return errors.Join(errs...)
}

// outlives reports whether s is still in force when other has ended.
func (s *Switch) outlives(other *Switch) bool {
	return !other.ExpiresAt.IsZero() && (s.ExpiresAt.IsZero() || s.ExpiresAt.After(other.ExpiresAt))
}

// Set sets s above the values of the same name and scope. When s ends, those that have not ended
// are in force again. Values that have ended at now are dropped.
func (d *Document) Set(s Switch, now time.Time) {
	d.drop(func(old *Switch) bool {
		return old.Over(now) || old.Name == s.Name && old.Scope == s.Scope && s.covers(old, now)
	})
	d.Switches = append(d.Switches, s)
}

// Unset removes all values of that name and scope, and drops all values that have ended at now.
func (d *Document) Unset(name Name, scope Scope, now time.Time) {
	d.drop(func(old *Switch) bool { return old.Over(now) || old.Name == name && old.Scope == scope })
}

func (d *Document) drop(gone func(*Switch) bool) {
	kept := make([]Switch, 0, len(d.Switches)+1)
	for i := range d.Switches {
		if !gone(&d.Switches[i]) {
			kept = append(kept, d.Switches[i])
		}
	}
	d.Switches = kept
}

// All returns the values of that name and scope that have not ended at now. The one in force comes
// last.
func (d *Document) All(name Name, scope Scope, now time.Time) []Switch {
	var out []Switch
	for i := range d.Switches {
		if s := &d.Switches[i]; s.Name == name && s.Scope == scope && !s.Over(now) {
			out = append(out, *s)
		}
	}
	return out
}

// Find returns the value of that name and scope that is in force at now, or nil.
func (d *Document) Find(name Name, scope Scope, now time.Time) *Switch {
	for i := len(d.Switches) - 1; i >= 0; i-- {
		if s := &d.Switches[i]; s.Name == name && s.Scope == scope && s.Active(now) {
			return s
		}
	}
	return nil
}

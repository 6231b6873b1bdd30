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
	Orders       Name = "orders"        // on, off: whether new orders are taken
	Admission    Name = "admission"     // 0 to 100: the share of buyers whose new orders are taken, in percent
	Wait         Name = "wait"          // on, off: whether Prefer: wait is honoured
	Browse       Name = "browse"        // live, static, off: activity pages as they are, as they were rendered last, or not at all
	PollInterval Name = "poll-interval" // 1 to 60: after how many seconds a queued order may be asked for again
	Limits       Name = "limits"        // enforce, shadow, off: whether limits refuse, are only counted, or not even asked
	LogDetail    Name = "log-detail"    // off, on: whether every visit is logged
	Timeouts     Name = "timeouts"      // on, held: whether orders that aren't paid in time are cancelled. For merchants and activities.

	LevelSwitch     Name = "level"     // auto, D0 to D5: the degrade level, for everybody or for one activity; see Levels
	AutomaticSwitch Name = "automatic" // on, shadow, off: whether nodes enter levels by themselves, or only report the level

	// auto, open, closed, observe: whether the breaker or a person decides that Redis, Kafka or the
	// database is called for buyers, see BreakerMode. For everybody only.
	RedisBreaker    Name = "redis-breaker"
	KafkaBreaker    Name = "kafka-breaker"
	DatabaseBreaker Name = "database-breaker"
)

// kind is the kind of values of a switch.
type kind struct {
	name        Name
	words       []string // its values are these, by index; or
	least, most int32    // whole numbers, where there are no words
	normal      int32    // without a switch
	global      bool     // it is for everybody only
	wide        bool     // it is for everybody, merchants and activities only
	perActivity bool     // it is for everybody, or for one activity
	help        string
}

// kinds is every switch, in the order in which they are shown.
func kinds() []kind {
	return []kind{
		{name: Orders, words: []string{"off", "on"}, normal: on, help: "whether new orders are taken"},
		{name: Admission, most: 100, normal: 100, help: "share of buyers whose new orders are taken, in percent"},
		{name: Wait, words: []string{"off", "on"}, normal: on, help: "whether Prefer: wait is honoured"},
		{name: Browse, words: []string{"live", "static", "off"}, help: "activity pages: as they are, as rendered last, not at all"},
		{name: PollInterval, least: 1, most: 60, normal: 1, help: "seconds until a queued order may be asked for again"},
		{name: Limits, words: []string{"enforce", "shadow", "off"}, help: "whether limits refuse, only count, or are not asked"},
		{name: LogDetail, words: []string{"off", "on"}, help: "whether visits are logged one by one"},
		{name: Timeouts, words: []string{"on", "held"}, wide: true, help: "whether orders that aren't paid in time are cancelled"},
		{
			name: LevelSwitch, words: []string{"auto", "D0", "D1", "D2", "D3", "D4", "D5"}, perActivity: true,
			help: "the degrade level, for an hour unless expires_in says otherwise; auto: as the node finds",
		},
		{
			name: AutomaticSwitch, words: []string{"on", "shadow", "off"}, global: true,
			help: "whether nodes enter levels up to D3 by themselves, only say which they would, or neither",
		},
		breakerKind(RedisBreaker, "Redis"),
		breakerKind(KafkaBreaker, "Kafka"),
		breakerKind(DatabaseBreaker, "the database"),
	}
}

func breakerKind(name Name, server string) kind {
	k := kind{name: name, global: true, help: "the circuit breaker before " + server + ": as it finds, refuse all, refuse none, only count"}
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

// The modes, as the switch limits has them.
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

// Description is a switch, for people.
type Description struct {
	Name   Name
	Values string // on|off, or 0–100
	Normal string // without a switch
	Help   string
}

// Descriptions returns every switch there is.
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
		return "is for a switch that doesn't exist"
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

// Scope is the scope of a switch. The zero value is everybody. At most one member is set.
type Scope struct {
	Merchant string `json:"merchant,omitempty"`
	Activity string `json:"activity,omitempty"`
	// SKU is of every activity, or as activity/sku of one. One that has a slash itself is both.
	SKU    string `json:"sku,omitempty"`
	Caller string `json:"caller,omitempty"` // as merchant/caller
}

// Check returns the mistake in a scope for that switch, or "". It doesn't check that the name
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

// notInNames reports whether no id has that character.
func notInNames(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._~-", r)
}

// String is the scope for people and logs.
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

// Switch is a value of a switch that was set for a scope.
type Switch struct {
	Name      Name      `json:"name"`
	Scope     Scope     `json:"scope,omitzero"`
	Value     string    `json:"value"`
	Reason    string    `json:"reason"`
	By        string    `json:"by"`
	Since     time.Time `json:"since"`
	StartsAt  time.Time `json:"starts_at,omitzero"`  // zero: it is in force at once
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: it has no end
}

// Over reports whether the switch has ended at now.
func (s *Switch) Over(now time.Time) bool { return !s.ExpiresAt.IsZero() && !now.Before(s.ExpiresAt) }

// Active reports whether the switch is in force at now: it has begun, and isn't over.
func (s *Switch) Active(now time.Time) bool { return !s.StartsAt.After(now) && !s.Over(now) }

// covers reports whether s is in force from now on for as long as other would be, so that other
// would never have an effect.
func (s *Switch) covers(other *Switch, now time.Time) bool {
	return (!s.StartsAt.After(now) || !s.StartsAt.After(other.StartsAt)) && !other.outlives(s)
}

// Document is all switches that are set. What isn't in it is as normal. Of one name and scope the
// last is in force; one that it came on top of is there only where it is in force again when the
// last one ends.
type Document struct {
	Switches []Switch `json:"switches"`
	Recorded []string `json:"recorded,omitempty"` // ids of the last amendments that are in it
}

// ParseDocument reads a document; nil is the empty one. A member that isn't known is a mistake: it
// may mean something.
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

// Validate checks the document, all of it.
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

// outlives reports whether s is in force still when other is over.
func (s *Switch) outlives(other *Switch) bool {
	return !other.ExpiresAt.IsZero() && (s.ExpiresAt.IsZero() || s.ExpiresAt.After(other.ExpiresAt))
}

// Set sets s on top of the values of the same name and scope. They are in force again when s ends,
// if they haven't ended. Values that have ended at now are dropped.
func (d *Document) Set(s Switch, now time.Time) {
	d.drop(func(old *Switch) bool {
		return old.Over(now) || old.Name == s.Name && old.Scope == s.Scope && s.covers(old, now)
	})
	d.Switches = append(d.Switches, s)
}

// Unset takes all switches of that name and scope out, and drops what is over at now.
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

// All returns the switches of that name and scope that aren't over at now, the one in force last.
func (d *Document) All(name Name, scope Scope, now time.Time) []Switch {
	var out []Switch
	for i := range d.Switches {
		if s := &d.Switches[i]; s.Name == name && s.Scope == scope && !s.Over(now) {
			out = append(out, *s)
		}
	}
	return out
}

// Find returns the switch of that name and scope that is in force at now, or nil.
func (d *Document) Find(name Name, scope Scope, now time.Time) *Switch {
	for i := len(d.Switches) - 1; i >= 0; i-- {
		if s := &d.Switches[i]; s.Name == name && s.Scope == scope && s.Active(now) {
			return s
		}
	}
	return nil
}

package degrade

import "fmt"

// Level says how many functions the system turns off for a while, so that the most important ones
// continue.
type Level uint8

// The levels.
const (
	D0 Level = iota // normal
	D1              // trim
	D2              // defer
	D3              // select
	D4              // protect
	D5              // closed
)

// MaxAutomatic is the highest level that nodes enter automatically.
const MaxAutomatic = D3

// String is the level's name for people and for the switch.
func (l Level) String() string { return fmt.Sprintf("D%d", l) }

// LevelSetting is a value that a level gives a switch, if no person has set the switch.
type LevelSetting struct {
	Switch Name   `json:"switch"`
	Value  string `json:"value"`
}

// LevelDescription is what a level does.
type LevelDescription struct {
	Level    Level
	Name     string
	Sets     []LevelSetting // in addition to those of the levels below; if two levels set a switch, the higher one decides
	Holds    Tier           // jobs of this tier and below wait; 0 means none
	TurnsOff string         // what it turns off, for people
	Buyers   string         // what buyers see at this level
}

// Levels is the table of the levels, lowest first.
func Levels() []LevelDescription {
	return []LevelDescription{
		{Level: D0, Name: "normal", TurnsOff: "nothing", Buyers: "everything"},
		{
			Level: D1, Name: "trim", Sets: []LevelSetting{{PollInterval, "5"}, {LogDetail, "off"}},
			TurnsOff: "quick polls, visit logs", Buyers: "Retry-After 5 on queued orders",
		},
		{
			Level: D2, Name: "defer", Sets: []LevelSetting{{Wait, "off"}}, Holds: Other,
			TurnsOff: "Prefer: wait, and jobs of the tier everything else", Buyers: "202 at once instead of 201 after a wait",
		},
		{
			Level: D3, Name: "select", Sets: []LevelSetting{{Admission, "90"}},
			TurnsOff: "new orders of one buyer in ten, and all load tests",
			Buyers:   "one buyer in ten, always the same ones: 503 degraded with Retry-After",
		},
		{
			Level: D4, Name: "protect", Sets: []LevelSetting{{Admission, "10"}, {PollInterval, "10"}, {Browse, "static"}},
			TurnsOff: "new orders of nine buyers in ten, fresh activity pages",
			Buyers:   "nine buyers in ten: 503 degraded; Retry-After 10 on queued orders; pages as they were last rendered",
		},
		{
			Level: D5, Name: "closed", Sets: []LevelSetting{{Orders, "off"}},
			TurnsOff: "all new orders", Buyers: "503 degraded for new orders; pages, status, cancellation and payment still work",
		},
	}
}

// holds returns the highest tier whose jobs wait at a level; 0 if none wait.
func (l Level) holds() (t Tier) {
	for _, d := range Levels() {
		if d.Level <= l && d.Holds != 0 {
			t = d.Holds
		}
	}
	return t
}

// settings returns the settings of a level and of those below it.
func (l Level) settings() map[Name]int32 {
	out := make(map[Name]int32)
	for _, d := range Levels() {
		if d.Level > l {
			break
		}
		for _, s := range d.Sets {
			_, k, _ := kindOf(s.Switch)
			out[s.Switch], _ = k.parse(s.Value)
		}
	}
	return out
}

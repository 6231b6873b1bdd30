package degrade

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Emergency reports whether the switch can be set while the database can't be reached.
func (n Name) Emergency() bool {
	switch n {
	case Orders, Admission, LevelSwitch, RedisBreaker, KafkaBreaker, DatabaseBreaker:
		return true
	}
	return false
}

// EmergencyNames returns the switches that can be set while the database can't be reached.
func EmergencyNames() []Name {
	var out []Name
	for _, k := range kinds() {
		if k.name.Emergency() {
			out = append(out, k.name)
		}
	}
	return out
}

// Amendment is a change of one switch that was made while the database couldn't be reached.
type Amendment struct {
	Switch
	Unset bool `json:"unset,omitempty"` // the value of the scope is removed
}

// maxRecorded is how many ids of amendments a document remembers: more than can wait at one time.
const maxRecorded = 128

// AmendDocument returns the text of a document with an amendment, and with its id; recorded is true
// if the document has it already. An amendment that would make the document invalid is an error.
func AmendDocument(text []byte, id string, amendment []byte) (amended []byte, recorded bool, err error) {
	d, err := ParseDocument(text)
	if err != nil {
		return nil, false, err
	}
	if slices.Contains(d.Recorded, id) {
		return nil, true, nil
	}
	var a Amendment
	if err := json.Unmarshal(amendment, &a); err != nil {
		return nil, false, fmt.Errorf("switches: amendment %s: %w", id, err)
	}
	if !a.Name.Emergency() {
		return nil, false, fmt.Errorf("switches: amendment %s: %q can't be set while the database is away", id, a.Name)
	}
	if a.Unset {
		d.Unset(a.Name, a.Scope, a.Since)
	} else {
		d.Set(a.Switch, a.Since)
	}
	d.Recorded = append(d.Recorded, id)
	d.Recorded = d.Recorded[max(len(d.Recorded)-maxRecorded, 0):]
	if err := d.Validate(); err != nil {
		return nil, false, err
	}
	amended, err = json.Marshal(d)
	return amended, false, err
}

package inventory

import (
	"errors"
	"testing"
)

// While a server isn't well, the next look at all of them comes soon.
func TestHealth_Well(t *testing.T) {
	for name, c := range map[string]struct {
		servers map[string]Server
		want    bool
	}{
		"before the first look":      {nil, true},
		"all is well":                {map[string]Server{"a": {Primary: true, Used: 1, Max: 100}, "b": {}}, true},
		"one doesn't answer":         {map[string]Server{"a": {Primary: true}, "b": {Err: errors.New("gone")}}, false},
		"a primary's memory is used": {map[string]Server{"a": {Primary: true, Used: 95, Max: 100}}, false},
	} {
		if got := (&health{servers: c.servers}).well(); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

package degrade

import (
	"strings"
	"testing"
)

// TestSwitch_Effect: every value of every switch has a text.
func TestSwitch_Effect(t *testing.T) {
	for _, k := range kinds() {
		values := k.words
		if values == nil {
			values = []string{k.text(k.least), k.text(k.most)}
		}
		for _, value := range values {
			s := Switch{Name: k.name, Value: value}
			if text := s.Effect(); text == "" || strings.HasPrefix(text, string(k.name)+" is") {
				t.Errorf("%s %s: no effect is told: %q", k.name, value, text)
			}
			if got, want := s.IsNormal(), value == k.text(k.normal); got != want {
				t.Errorf("%s %s is normal: %v, want %v", k.name, value, got, want)
			}
		}
	}
}

package seckill

import (
	"strings"
	"testing"
)

func TestCheckSKU(t *testing.T) {
	for _, good := range []string{"phone-x", "ABC/12", "ABC 12", "手机-64G", "café", "A+B", "A:B", "A#1", "A&B", "%2F", "a...", strings.Repeat("é", 64)} {
		if wrong := CheckSKU(good); wrong != "" {
			t.Errorf("%q: %s", good, wrong)
		}
	}
	for _, bad := range []string{"", " ", ".", "..", ".a", " a", "a ", "\u00a0a", "a\tb", "a\u0085b", "a\x00", "\xff", strings.Repeat("é", 65)} {
		if CheckSKU(bad) == "" {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestRaise(t *testing.T) {
	if total, err := Raise(MaxItemQuantity-1, 1); err != nil || total != MaxItemQuantity {
		t.Error(total, err)
	}
	for _, units := range []int64{2, MaxItemQuantity, 1<<63 - 1} {
		if total, err := Raise(MaxItemQuantity-1, units); err == nil {
			t.Errorf("raised by %d to %d", units, total)
		}
	}
}

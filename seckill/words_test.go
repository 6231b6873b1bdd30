package seckill

import "testing"

func TestMoney_String(t *testing.T) {
	for want, m := range map[string]Money{
		"19.99 CNY": {1999, "CNY"}, "0.05 USD": {5, "USD"}, "500 JPY": {500, "JPY"}, "1.234 KWD": {1234, "KWD"}, "0.00 EUR": {0, "EUR"},
		"-0.05 CNY": {-5, "CNY"}, "1.2345 UYW": {12345, "UYW"}, "-92233720368547758.08 CNY": {-1 << 63, "CNY"},
	} {
		if got := m.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestCounted(t *testing.T) {
	for want, got := range map[string]string{
		"0 units": Counted(0, "unit"), "1 unit": Counted(1, "unit"), "2 units": Counted(2, "unit"),
		"1 activity": Counted(int64(1), "activity"), "3 activities": Counted(int64(3), "activity"), "2 switches": Counted(2, "switch"), "2 days": Counted(2, "day"),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

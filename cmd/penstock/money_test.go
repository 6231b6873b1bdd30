package main

import "testing"

func TestMoney(t *testing.T) {
	for want, c := range map[string]struct {
		minor    int64
		currency string
	}{"19.99 CNY": {1999, "CNY"}, "0.05 USD": {5, "USD"}, "500 JPY": {500, "JPY"}, "1.234 KWD": {1234, "KWD"}, "0.00 EUR": {0, "EUR"},
		"-0.05 CNY": {-5, "CNY"}, "1.2345 UYW": {12345, "UYW"}, "-92233720368547758.08 CNY": {-1 << 63, "CNY"}} {
		if got := money(c.minor, c.currency); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

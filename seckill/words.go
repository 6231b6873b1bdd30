package seckill

import (
	"fmt"
	"strings"
)

// This file writes amounts and counts for people.

// String is the amount in the currency's major unit (ISO 4217), like 19.99 CNY.
func (m Money) String() string {
	digits := 2
	switch m.Currency {
	case "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF":
		digits = 0
	case "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND":
		digits = 3
	case "CLF", "UYW":
		digits = 4
	}
	sign, amount := "", uint64(m.Minor)
	if m.Minor < 0 {
		sign, amount = "-", -amount
	}
	text := fmt.Sprintf("%0*d", digits+1, amount)
	if digits > 0 {
		text = text[:len(text)-digits] + "." + text[len(text)-digits:]
	}
	return sign + text + " " + m.Currency
}

// Counted is a number of things, of which one is called one: "1 unit", "2 units", "2 activities".
func Counted[N int | int64 | uint64](n N, one string) string {
	switch stem, isY := strings.CutSuffix(one, "y"); {
	case n == 1:
	case isY && !strings.HasSuffix(stem, "a"): // a day
		one = stem + "ies"
	case strings.HasSuffix(one, "ch"):
		one += "es"
	default:
		one += "s"
	}
	return fmt.Sprintf("%d %s", n, one)
}

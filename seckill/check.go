package seckill

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/penstock/penstock/internal/field"
)

// FieldErrors says what is wrong with a document, field by field.
type FieldErrors = field.Errors

// MaxPaymentWindow bounds how long a unit may stay unpaid, because nobody else can buy it
// meanwhile.
const MaxPaymentWindow = 7 * 24 * time.Hour

// Check returns all mistakes in the activity that need no other data, in an installation with that
// many shards.
func (a *Activity) Check(shards int) FieldErrors {
	var errs FieldErrors
	add := func(name, format string, args ...any) {
		errs = append(errs, field.Error{Field: name, Detail: fmt.Sprintf(format, args...)})
	}
	if err := CheckName(string(a.ID)); err != "" {
		add("activity", "%s", err)
	}
	if err := CheckName(string(a.Merchant)); err != "" {
		add("merchant", "%s", err)
	}
	if err := CheckTitle(a.Name); err != "" {
		add("name", "%s", err)
	}
	if a.StartsAt.IsZero() {
		add("starts_at", "is required")
	}
	if a.EndsAt.IsZero() {
		add("ends_at", "is required")
	} else if !a.EndsAt.After(a.StartsAt) {
		add("ends_at", "must be after starts_at")
	}
	if a.PaymentWindow < time.Second || a.PaymentWindow > MaxPaymentWindow {
		add("payment_window", "must be from 1s to %dh", MaxPaymentWindow/time.Hour)
	}
	if len(a.Items) == 0 || len(a.Items) > MaxItems {
		add("items", "must be 1 to %d items", MaxItems)
	}
	seen := make(map[SKU]bool, len(a.Items))
	for i := range a.Items {
		prefix := fmt.Sprintf("items[%d].", i)
		for _, e := range a.Items[i].Check(shards) {
			add(prefix+e.Field, "%s", e.Detail)
		}
		if seen[a.Items[i].SKU] {
			add(prefix+"sku", "is listed twice")
		}
		seen[a.Items[i].SKU] = true
	}
	return errs
}

// Check returns all mistakes in the item that need no other data, in an installation with that many
// shards.
func (i *Item) Check(shards int) FieldErrors {
	var errs FieldErrors
	add := func(name, format string, args ...any) {
		errs = append(errs, field.Error{Field: name, Detail: fmt.Sprintf(format, args...)})
	}
	if err := CheckSKU(string(i.SKU)); err != "" {
		add("sku", "%s", err)
	}
	if i.Price.Minor < 0 || i.Price.Minor > MaxPriceMinor {
		add("price", "must be from 0 to %d minor units", int64(MaxPriceMinor))
	}
	if len(i.Price.Currency) != 3 || strings.Trim(i.Price.Currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		add("currency", "must be three capital letters (ISO 4217)")
	}
	if i.Quantity < 0 || i.Quantity > MaxItemQuantity {
		add("quantity", "must be from 0 to %d", MaxItemQuantity)
	}
	if i.PerUser < 0 || i.PerUser > MaxQuantity {
		add("per_user", "must be from 0 (no limit) to %d", MaxQuantity)
	}
	if i.MaxOrders < 0 || i.MaxOrders > MaxOrders {
		add("max_orders", "must be from 0 (the default) to %d", MaxOrders)
	}
	if i.Spread < 1 || i.Spread > shards {
		add("spread", "must be from 1 to %d, the number of shards", shards)
	}
	return errs
}

// CheckName returns the mistake in an id that appears in URLs, or "". An id has 1 to MaxNameLength
// letters, digits and ._~-.
func CheckName(s string) string {
	if s == "" {
		return "is required"
	}
	if len(s) > MaxNameLength {
		return fmt.Sprintf("must be at most %d bytes", MaxNameLength)
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("._~-", c) >= 0 && s != "." && s != "..":
		default:
			return "must consist of letters, digits and ._~-"
		}
	}
	return ""
}

// CheckSKU returns the mistake in an SKU, or "". Shops bring SKUs from other systems, so an SKU may
// have any characters that people can read. It must not look like a step in a path, nor differ from
// another SKU only in spaces.
func CheckSKU(s string) string {
	switch {
	case s == "":
		return "is required"
	case !utf8.ValidString(s):
		return "must be UTF-8"
	case utf8.RuneCountInString(s) > MaxNameLength:
		return fmt.Sprintf("must be at most %d characters", MaxNameLength)
	case strings.ContainsFunc(s, unicode.IsControl):
		return "must have no control characters"
	case s[0] == '.':
		return "must not begin with a dot"
	case strings.TrimSpace(s) != s:
		return "must not begin or end with a space"
	}
	return ""
}

// MaxTitleLength bounds a name that is shown to people, in characters.
const MaxTitleLength = 200

// CheckTitle returns the mistake in a name that is shown to people, or "".
func CheckTitle(s string) string {
	switch {
	case strings.TrimSpace(s) == "":
		return "is required"
	case !utf8.ValidString(s):
		return "must be UTF-8"
	case utf8.RuneCountInString(s) > MaxTitleLength:
		return fmt.Sprintf("must be at most %d characters", MaxTitleLength)
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "must have no control characters"
	}
	return ""
}

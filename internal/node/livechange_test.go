package node

import (
	"testing"

	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/seckill"
)

// TestChangeText: the last change is described in a sentence.
func TestChangeText(t *testing.T) {
	const orders = `{"name":"orders","value":"off","scope":{"activity":"618"},"since":"2026-06-18T00:00:00Z","reason":"x"}`
	const wait = `{"name":"wait","value":"off","scope":{},"since":"2026-06-18T00:00:00Z","reason":"x"}`
	for _, c := range []struct{ kind, key, before, after, want string }{
		{seckill.ChangeActivity, "618", `{"State":"draft"}`, `{"State":"published"}`, "activity 618 went from draft to published"},
		{seckill.ChangeActivity, "618", "", `{"State":"draft"}`, "activity 618 was made"},
		{seckill.ChangeActivity, "618", `{"State":"draft"}`, `{"State":"draft"}`, "activity 618 was changed"},
		{seckill.ChangeActivity, "618", `{"State":"draft"}`, "", "activity 618 was deleted"},
		{seckill.ChangeStock, "618/x", `{"Total":100}`, `{"Delta":-7,"Total":93}`, "the stock of 618/x was changed by -7 to 93"},
		{seckill.ChangeToken, "ann", "", `{"Session":true}`, "ann logged in"},
		{seckill.ChangeToken, "ann", `{"Session":true}`, "", "ann logged out"},
		{seckill.ChangeToken, "ann", "", `{"Name":"ann"}`, "token ann was made"},
		{settings.Switches, "7", `{"switches":[` + wait + `]}`, `{"switches":[` + wait + `,` + orders + `]}`, "orders was set to off for activity 618"},
		{settings.Switches, "8", `{"switches":[` + wait + `,` + orders + `]}`, `{"switches":[` + wait + `]}`, "orders off for activity 618 was removed"},
		{settings.Switches, "9", `not JSON`, `{"switches":[` + wait + `]}`, "wait was set to off for everybody"},
		{settings.Switches, "10", `{}`, `{}`, "the switches were changed"},
		{settings.Limits, "2", `{"policies":[{"name":"a","rate":1},{"name":"b","rate":1}]}`, `{"policies":[{"name":"a","rate":2},{"name":"c","quota":1}]}`,
			"the limit a was changed, the limit c was added, the limit b was removed"},
		{settings.Limits, "3", "", `{"policies":[{"name":"a"},{"name":"b"},{"name":"c"},{"name":"d"}]}`,
			"the limit a was added, the limit b was added, the limit c was added and 1 more"},
		{settings.KindNode, "g1", `{"drain":false}`, `{"drain":true}`, "g1: somebody asked it to take no new buyers"},
		{settings.KindNode, "g1", `{"drain":true}`, `{"drain":false}`, "g1: somebody asked it to take buyers again"},
		{settings.KindNode, "g1", `{"drain":true}`, "", "node g1 was deleted"},
		{seckill.ChangeMerchant, "m1", "{}", "{}", "merchant m1 was changed"},
	} {
		record := &seckill.Change{Kind: c.kind, Key: c.key, Before: c.before, After: c.after}
		if got := changeText(record); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.kind, c.key, got, c.want)
		}
		session := c.want == "ann logged in" || c.want == "ann logged out"
		if ofSession(record) != session {
			t.Errorf("%s: of a session: %v", c.want, !session)
		}
	}
}

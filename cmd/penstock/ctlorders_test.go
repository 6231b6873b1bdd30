package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestOrderAhead_SaysWhatHappensNext: every state that a server reports has a text.
func TestOrderAhead_SaysWhatHappensNext(t *testing.T) {
	now := time.Date(2026, 6, 18, 12, 0, 0, 0, time.UTC)
	for status, want := range map[string]string{
		"queued": "a worker makes its row", "paid": "nothing: it is paid", "cancelled": "nothing; if a payment", "rejected": "nothing; if a payment",
		"refunded": "the money was refunded", "parked": "tries it again", "pending_payment": "cancelled at 2026-06-18T12:04:00Z (in 4 m) unless",
		"refund_due": "it becomes refunded when",
	} {
		var o orderAhead
		text := `{"status":"` + status + `","pay_by":"2026-06-18T12:04:00Z","payments":[{"payment":"p-1","state":"due"},{"payment":"p-2","state":"done"}]}`
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
		lines := o.next(now)
		if len(lines) != 2 || !strings.Contains(strings.ReplaceAll(lines[0], timeText(*o.PayBy, now), "2026-06-18T12:04:00Z (in 4 m)"), want) ||
			!strings.HasPrefix(lines[1], "the money of p-1 must be refunded") {
			t.Errorf("%s: %q, want %q", status, lines, want)
		}
	}
}

// TestCtl_ShowsAnOrderByWhatIsKnown: one command finds a buyer's order and shows its state.
func TestCtl_ShowsAnOrderByWhatIsKnown(t *testing.T) {
	const order = `{"order":"o-1","status":"refund_due","reason":"payment-timeout","user":"u-17","quantity":1,"amount":1999,"currency":"CNY",` +
		`"payments":[{"payment":"p-1","amount":1999,"currency":"CNY","state":"due","cause":"late","at":"2026-06-18T12:20:00Z"}],` +
		`"timeline":[{"at":"2026-06-18T12:00:00Z","step":"click","node":null,"request_id":"r-1","detail":"by caller m1/app"}]}`
	answering(t, map[string]string{"/admin/v1/orders?limit=6&user=u-17": `{"orders":[{"order":"o-1"}]}`, "/admin/v1/orders/o-1": order})
	for _, one := range []step{
		{args: "ctl orders show --user u-17", stdout: `^order +o-1$.*^amount +19\.99 CNY$.*^p-1 +19\.99 CNY +due +late .* click .* by caller`,
			stderr: `^next: it becomes refunded when .*\nnext: the money of p-1 must be refunded`},
		{args: "ctl orders show o-1", stdout: `^order +o-1$`, stderr: "^next: "},
		{args: "ctl orders show --user u-17 -o json", stdout: `"items": \[.*"timeline": \[`},
		{args: "ctl orders show", code: exitUsage, stderr: "name an order, or say what is known of it"},
		{args: "ctl orders show o-1 --user u-17", code: exitUsage, stderr: "name an order, or say"},
	} {
		one.run(t)
	}
	answering(t, map[string]string{"/admin/v1/orders?limit=6&user=u-18": `{"orders":[]}`})
	(&step{args: "ctl orders show --user u-18", code: exitFailure, stderr: "^penstock: no order fits\n$"}).run(t)
}

func TestCtl_StatementInBothForms(t *testing.T) {
	answering(t, map[string]string{
		"/admin/v1/merchants/m1/statement?format=csv": "day,activity\n", "/admin/v1/merchants/m1/statement": `{"merchant":"m1","lines":[]}`,
	})
	for _, one := range []step{
		{args: "ctl merchants statement m1", stdout: `^day,activity\n$`},
		{args: "ctl merchants statement m1 -o json", stdout: `^\{\n.*"merchant": "m1"`},
		{args: "ctl merchants statement m1 -o json --format json", stdout: `"merchant": "m1"`},
		{args: "ctl merchants statement m1 -o json --format csv", stdout: `^day,activity\n$`},
	} {
		one.run(t)
	}
}

// TestCtl_ListsSayWhenThereAreMore: a list that is cut in silence is taken for all there is.
func TestCtl_ListsSayWhenThereAreMore(t *testing.T) {
	answering(t, map[string]string{
		"/admin/v1/orders?limit=2": `{"orders":[{"order":"o-1"},{"order":"o-2"}],"next":"x"}`,
		"/admin/v1/orders?limit=3": `{"orders":[{"order":"o-1"},{"order":"o-2"}]}`,
		"/admin/v1/refunds?limit=2&state=due": `{"refunds":[{"payment":"p-1","amount":1,"currency":"CNY"},{"payment":"p-2","amount":1,"currency":"CNY"}],` +
			`"sum":[{"currency":"CNY","amount":3,"count":3}],"next":"x"}`,
	})
	for _, one := range []step{
		{args: "ctl orders find --limit 1", stdout: `^o-1 [^\n]*\n$`, stderr: `^there are more than these 1: --limit`},
		{args: "ctl orders find --limit 2", stdout: `^o-1 .*\no-2 `},
		{args: "ctl refunds list --limit 1 -o json", stdout: `"p-1"`, stderr: `^there are more than these 1: --limit`},
	} {
		one.run(t)
	}
}

package gateway

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/penstock/penstock/seckill"
)

// TestBodies pins every byte of the bodies that clients parse.
func TestBodies(t *testing.T) {
	f := func(got []byte, want string) {
		t.Helper()
		if string(got) != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if !json.Valid(got) {
			t.Errorf("not JSON: %s", got)
		}
	}
	id := string(testOrderID)
	receipt := func(state seckill.OrderState) []byte { o := testOrder(state); return appendReceipt(nil, &o) }
	f(receipt(seckill.OrderQueued), `{"order":"`+id+`","status":"queued"}`)
	f(receipt(seckill.OrderPending), `{"order":"`+id+`","status":"pending_payment","pay_by":"2026-06-18T00:15:00.000Z"}`)
	f(receipt(seckill.OrderCancelled),
		`{"order":"`+id+`","status":"cancelled","pay_by":"2026-06-18T00:15:00.000Z","reason":"cancelled-by-buyer"}`)

	queued := testOrder(seckill.OrderQueued)
	queued.User = "a\"b\\c\n\x01é\xff"
	f(appendOrder(nil, &queued),
		`{"order":"`+id+`","activity":"618-phones","sku":"phone-x","user":"a\"b\\c\u000a\u0001é`+"\uFFFD"+`","quantity":1,`+
			`"status":"queued","reason":null,"amount":1999,"currency":"CNY","created_at":null,"pay_by":null,"updated_at":null}`)
	cancelled := testOrder(seckill.OrderCancelled)
	cancelled.PayBy = cancelled.PayBy.In(time.FixedZone("CST", 8*3600))
	f(appendOrder(nil, &cancelled), `{"order":"`+id+`","activity":"618-phones","sku":"phone-x","user":"u-42","quantity":1,`+
		`"status":"cancelled","reason":"cancelled-by-buyer","amount":1999,"currency":"CNY","created_at":"2026-06-18T00:00:00.000Z",`+
		`"pay_by":"2026-06-18T00:15:00.000Z","updated_at":"2026-06-18T00:00:00.001Z"}`)
	buried := seckill.Order{ID: testOrderID, Activity: "a", SKU: "s", User: "u", Quantity: 1, State: seckill.OrderCancelled,
		Reason: seckill.ReasonNotAccepted, CreatedAt: opening, PayBy: opening, UpdatedAt: opening}
	f(appendOrder(nil, &buried),
		`{"order":"`+id+`","activity":"a","sku":"s","user":"u","quantity":1,"status":"cancelled","reason":"not-accepted",`+
			`"amount":0,"currency":null,"created_at":"2026-06-18T00:00:00.000Z","pay_by":"2026-06-18T00:00:00.000Z","updated_at":"2026-06-18T00:00:00.000Z"}`)
}

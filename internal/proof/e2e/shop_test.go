package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// shop is a merchant with a caller and a sale, on some node.
type shop struct {
	t        testing.TB
	merchant string
	activity string
	sku      string
	key      string // the caller's
	secret   string // for payment notices
}

// terms are a sale's.
type terms struct {
	quantity, perUser int
	window            string // payment window
}

const price = 1999

// openShop makes a merchant, a caller and a published sale.
func openShop(n *node, terms terms) *shop {
	n.t.Helper()
	s := foundShop(n, "acme", "618")
	n.admin(200, "PUT", "/admin/v1/activities/"+s.activity, s.draft(time.Now().Add(-time.Hour), terms))
	n.admin(200, "POST", "/admin/v1/activities/"+s.activity+"/publish", "")
	return s
}

// foundShop makes a merchant and a caller, without a sale.
func foundShop(n *node, merchant, activity string) *shop {
	n.t.Helper()
	s := &shop{t: n.t, merchant: merchant, activity: activity, sku: "phone-x"}
	s.secret = n.admin(200, "PUT", "/admin/v1/merchants/"+s.merchant, `{"name":"Acme"}`).field("payment_secret")
	s.key = n.admin(201, "POST", "/admin/v1/merchants/"+s.merchant+"/callers", `{"name":"web","rights":["buy"]}`).field("key")
	return s
}

// draft is the request body of the shop's sale, for two hours.
func (s *shop) draft(starts time.Time, terms terms) string {
	return fmt.Sprintf(
		`{"merchant":%q,"name":"Sale","starts_at":%q,"ends_at":%q,"payment_window":%q,"items":[{"sku":%q,"price":%d,"currency":"CNY","quantity":%d,"per_user":%d}]}`,
		s.merchant, starts.Format(time.RFC3339), starts.Add(2*time.Hour).Format(time.RFC3339), terms.window, s.sku, price, terms.quantity, terms.perUser)
}

// buy presses the button.
func (s *shop) buy(n *node, user, key string, quantity int, header ...string) (answer, error) {
	body := fmt.Sprintf(`{"activity":%q,"sku":%q,"user":%q,"quantity":%d}`, s.activity, s.sku, user, quantity)
	return call("POST", n.public+"/v1/orders", body, append(header, "Authorization", "Bearer "+s.key, "Idempotency-Key", key)...)
}

// mustBuy buys one unit and waits for the order. While shards open, the answer says to repeat with
// the same key, and mustBuy does so.
func (s *shop) mustBuy(n *node, user, key string) string {
	s.t.Helper()
	var a answer
	var err error
	eventually(s.t, "another answer than 503", func() bool {
		a, err = s.buy(n, user, key, 1, "Prefer", "wait=10")
		return err != nil || a.status != http.StatusServiceUnavailable
	})
	if err != nil || a.status != http.StatusCreated {
		s.t.Fatalf("buy: %v, %v", a, err)
	}
	return a.field("order")
}

// order reads an order.
func (s *shop) order(n *node, id string) answer {
	s.t.Helper()
	a, err := call("GET", n.public+"/v1/orders/"+id, "", "Authorization", "Bearer "+s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// cancel gives an order up.
func (s *shop) cancel(n *node, id string) answer {
	s.t.Helper()
	a, err := call("POST", n.public+"/v1/orders/"+id+"/cancel", "", "Authorization", "Bearer "+s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// pay sends a signed payment notice.
func (s *shop) pay(n *node, payment, order string, amount int) answer {
	s.t.Helper()
	body := fmt.Sprintf(`{"payment":%q,"order":%q,"amount":%d,"currency":"CNY"}`, payment, order, amount)
	a, err := call("POST", n.public+"/v1/payments", body, "Penstock-Signature", sign(s.secret, time.Now().Unix(), body))
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// sign makes a payment notice's signature.
func sign(secret string, at int64, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", at, body)
	return fmt.Sprintf("t=%d,v1=%s", at, hex.EncodeToString(mac.Sum(nil)))
}

// stock is an item's audit.
type stock struct {
	Total     int  `json:"total"`
	Available int  `json:"available"`
	Held      int  `json:"held"`
	Sold      int  `json:"sold"`
	Balanced  bool `json:"balanced"`
	InFlight  int  `json:"in_flight"`
	Rejected  int  `json:"rejected"`
}

// audit reads the stock equation of the shop's one item.
func (s *shop) audit(n *node) stock {
	s.t.Helper()
	a := n.admin(200, "GET", "/admin/v1/activities/"+s.activity+"/audit", "")
	var got struct{ Items []stock }
	if err := json.Unmarshal(a.body, &got); err != nil || len(got.Items) != 1 {
		s.t.Fatalf("audit: %v, %v", a, err)
	}
	return got.Items[0]
}

// settled waits until nothing is in flight and the equation holds, and returns the stock then (L3).
func (s *shop) settled(n *node) stock {
	s.t.Helper()
	var got stock
	eventually(s.t, "stock balanced with nothing in flight", func() bool {
		got = s.audit(n)
		return got.Balanced && got.InFlight == 0
	})
	if got.Total != got.Available+got.Held+got.Sold {
		s.t.Fatalf("L3: %+v", got)
	}
	return got
}

package admin

import (
	"fmt"
	"strings"
	"testing"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// reverted checks the answer to a revert.
func (a *answer) reverted(changed bool) {
	a.t.Helper()
	if a.StatusCode != 200 || a.member("changed") != fmt.Sprint(changed) {
		a.t.Fatalf("%d, want changed %v: %s", a.StatusCode, changed, a.body)
	}
}

func TestRevertOfAMerchantsName(t *testing.T) {
	s := open(t, nil)
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"One"}`)
	s.revert(s.lastChange()).refused(problem.NotRevertible) // made
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Two"}`)
	renamed := s.lastChange()
	s.revert(renamed).reverted(true)
	if name := s.must(200, "GET", "/admin/v1/merchants/m1", "").member("name"); name != "One" {
		t.Errorf("the name is %s", name)
	}
	s.revert(renamed).reverted(false)
	back := s.lastChange()
	s.revert(back).reverted(true) // a revert is a change like any other
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Three"}`)
	s.revert(renamed).refused(problem.NotRevertible)
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Three","payment_secret":"new-0123456789abcdef"}`)
	s.revert(s.lastChange()).refused(problem.NotRevertible)
}

func TestRevertOfCallers(t *testing.T) {
	s := open(t, nil)
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"One"}`)
	s.must(201, "POST", "/admin/v1/merchants/m1/callers", `{"name":"app","rights":["buy"]}`)
	added := s.lastChange()
	revoked := func() string { return s.must(200, "GET", "/admin/v1/merchants/m1/callers/app", "").member("revoked") }
	s.must(200, "DELETE", "/admin/v1/merchants/m1/callers/app", "", "X-Reason", "leaked")
	deleted := s.lastChange()
	s.revert(deleted).reverted(true)
	if revoked() != "false" {
		t.Error("still revoked")
	}
	s.revert(deleted).reverted(false)
	s.revert(added).reverted(true)
	if revoked() != "true" {
		t.Error("not revoked")
	}
	s.revert(added).reverted(false)
}

func TestRevertOfAPauseAndAResume(t *testing.T) {
	s := open(t, nil)
	s.sell()
	published := s.lastChange()
	s.revert(published).refused(problem.NotRevertible)
	state := func() string { return s.must(200, "GET", "/admin/v1/activities/618", "").member("state") }
	s.must(200, "POST", "/admin/v1/activities/618/pause", `{"reason":"too hot"}`)
	paused := s.lastChange()
	s.revert(paused).reverted(true)
	if state() != "published" {
		t.Errorf("it is %s", state())
	}
	s.revert(paused).reverted(false)
	s.revert(s.lastChange()).reverted(true)
	if state() != "paused" {
		t.Errorf("it is %s", state())
	}
	s.must(200, "POST", "/admin/v1/activities/618/end", `{"confirm":true}`)
	s.revert(s.lastChange()).refused(problem.NotRevertible)
	s.revert(paused).refused(problem.ActivityState)
}

func TestRevertOfAnActivitysDocument(t *testing.T) {
	s := open(t, nil)
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Shop"}`)
	s.must(200, "PUT", "/admin/v1/activities/618", activityBody)
	s.revert(s.lastChange()).refused(problem.NotRevertible) // made
	put := func(change ...string) int64 {
		s.must(200, "PUT", "/admin/v1/activities/618", strings.NewReplacer(change...).Replace(activityBody))
		return s.lastChange()
	}
	items := func() string { return s.must(200, "GET", "/admin/v1/activities/618", "").member("items") }
	before := items()
	draft := put("1999", "2999", `}]`, `},{"sku":"phone-y","price":1,"currency":"CNY","quantity":1,"per_user":0}]`)
	s.revert(draft).reverted(true)
	if items() != before {
		t.Errorf("items are %s", items())
	}
	s.revert(draft).reverted(false)
	put("1999", "3999")
	s.revert(draft).refused(problem.NotRevertible)
	put()

	s.publish("618")
	renamed := put("618 Phones", "618 Telephones")
	s.restock(5, "k1") // a separate change, which a revert of the name doesn't touch
	s.revert(renamed).reverted(true)
	doc := s.must(200, "GET", "/admin/v1/activities/618", "")
	if doc.member("name") != "618 Phones" || !strings.Contains(doc.member("items"), "quantity:15") {
		t.Errorf("got %s", doc.body)
	}
}

// TestRevertOfASpread: units that were spread over more shards can't be brought back, and the
// change says so before anybody tries. Other changes, and changes of a draft, are reverted.
func TestRevertOfASpread(t *testing.T) {
	s := open(t, nil)
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"One"}`)
	s.must(200, "PUT", "/admin/v1/activities/618", strings.Replace(activityBody, "2026-06-18", "2096-06-18", 1))
	edit := func(body string) int64 {
		s.must(200, "POST", "/admin/v1/activities/618/items/phone-x", body)
		return s.lastChange()
	}
	item := func() string { return s.must(200, "GET", "/admin/v1/activities/618", "").member("items") }
	was := item()
	s.revert(edit(`{"price":5,"spread":2}`)).reverted(true)
	if item() != was {
		t.Errorf("%s, was %s", item(), was)
	}
	s.publish("618")
	s.revert(edit(`{"price":7}`)).reverted(true)
	spread := edit(`{"price":5,"spread":2}`)
	now := item()
	has("revertible", "false")(s.must(200, "GET", fmt.Sprint("/admin/v1/changes/", spread), ""))
	s.revert(spread).refused(problem.NotRevertible)
	if item() != now {
		t.Errorf("%s, was %s: a revert was half done", item(), now)
	}
}

func TestL4_ARestockIsRevertedOnce(t *testing.T) {
	s := open(t, nil)
	s.sell()
	s.restock(5, "k1")
	more := s.lastChange()
	s.restock(-3, "k2")
	less := s.lastChange()
	for i := range 3 {
		s.revert(more).reverted(i == 0)
		s.deliver()
		s.revert(less).reverted(i == 0)
		s.deliver()
	}
	if n := s.available(); n != 10 {
		t.Errorf("%d available", n)
	}
}

func TestRevertOfARestockThatIsSold(t *testing.T) {
	s := open(t, nil)
	s.sell()
	s.restock(5, "k1")
	more := s.lastChange()
	offer, _ := s.desk.Catalog().Activity("618").Offer("phone-x")
	name := strings.Repeat("o", 24+inventory.TailLength)
	shard := offer.Place(name, 4)
	hold := inventory.Hold{Item: offer.ID, ID: name, Buyer: "u", Quantity: 12}
	call := &inventory.HoldCall{Ref: inventory.Ref{Shard: shard, Epoch: s.stock.Epoch(shard)}, Claims: []inventory.Claim{{Hold: hold}}}
	s.stock.Hold(t.Context(), []*inventory.HoldCall{call})
	if call.Err != nil || call.Verdicts[0] != inventory.Held {
		t.Fatal(call.Verdicts, call.Err)
	}
	s.revert(more).refused(problem.InsufficientStock)
}

// FuzzPlanRevert reads changes that none of our stores would write.
func FuzzPlanRevert(f *testing.F) {
	f.Add(seckill.ChangeActivity, "618", `{"State":"draft"}`, `{"State":"published"}`)
	f.Add(seckill.ChangeCaller, "m1/app", "", `{"Revoked":true}`)
	f.Add(seckill.ChangeStock, "618/phone-x", "{}", `{"Delta":-9223372036854775808}`)
	f.Add("what", "", "null", "[]")
	f.Fuzz(func(t *testing.T, kind, key, before, after string) {
		ch := &seckill.Change{Number: 1, Kind: kind, Key: key, Before: before, After: after}
		if undo, err := planRevert(ch); (undo == nil) == (err == nil) {
			t.Errorf("%v %v", undo == nil, err)
		}
		newChangeDoc(ch, &identity{role: seckill.RoleAdmin})
	})
}

package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/penstock/penstock/gateway/problem"
)

func TestArchive_TakesWhatIsOverAndCopied(t *testing.T) {
	s := open(t, nil)
	s.sell()
	const path = "/admin/v1/activities/618/archive"
	body := func() string {
		export := s.must(200, "GET", "/admin/v1/orders/export?activity=618", "").body
		sum := sha256.Sum256([]byte(export))
		return fmt.Sprintf(`{"sha256":"%s","confirm":true,"reason":"on tape"}`, hex.EncodeToString(sum[:]))
	}
	refused := func(want string) {
		t.Helper()
		a := s.must(409, "POST", path, body())
		if a.member("code") != string(problem.ActivityState) || !strings.Contains(a.member("detail"), want) {
			t.Errorf("want %q: %s", want, a.body)
		}
	}
	open := s.order("u-1", "k")
	refused("only the orders of an ended one")
	s.must(200, "POST", "/admin/v1/activities/618/end", `{"confirm":true}`)
	refused("payments for 1 open order:")
	s.must(200, "POST", "/admin/v1/orders/"+string(open)+"/cancel", `{"reason":"x"}`)
	before := body()
	status := func() string { return s.must(200, "GET", "/admin/v1/orders/"+string(open), "").member("status") }
	if s.pay(open, "p-1", 1999); status() != "refund_due" {
		t.Fatalf("it is %s", status())
	}
	refused("has to be refunded")
	s.must(200, "POST", "/admin/v1/refunds/p-1/done", `{"reference":"re-1"}`)
	if a := s.must(409, "POST", path, before); !strings.Contains(a.member("detail"), "The archive doesn't match the present orders, 1 order") {
		t.Errorf("an archive of before: %s", a.body)
	}

	done := s.must(200, "POST", path, body())
	if done.member("orders") != "1" || done.member("kept_until") <= done.member("at") {
		t.Errorf("archived: %s", done.body)
	}
	mark := func() string { return s.must(200, "GET", "/admin/v1/activities/618", "").member("archive") }
	if !strings.Contains(mark(), done.member("sha256")) {
		t.Errorf("the activity has %s", mark())
	}
	archived := s.lastChange()
	s.revert(archived).reverted(true)
	if mark() != "<nil>" {
		t.Errorf("reverted, the activity has %s", mark())
	}
	s.revert(archived).reverted(false)
}

package postgres

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A server that answers and refuses is told from one whose answer is about the call.
func TestStore_Refused(t *testing.T) {
	for code, refuses := range map[string]bool{
		"53100": true, "53300": true, "53200": true, "25006": true, "42501": true, "58030": true, "XX001": true,
		"23505": false, "40001": false, "55P03": false, "57014": false, "26000": false, "": false,
	} {
		s := new(Store)
		s.noteRefusal(fmt.Errorf("accept promises: %w", &pgconn.PgError{Severity: "ERROR", Code: code, Message: "No space left on device"}))
		s.noteRefusal(nil)
		got := s.Refused(time.Hour, 0)
		if (got != nil) != refuses || got != nil && !strings.Contains(got.Error(), "No space left") || s.Refused(0, 0) != nil {
			t.Errorf("%s: %v", code, got)
		}
	}
}

// TestStore_RefusedOnce: one refusal is no run of them; another one makes it one, unless it comes
// much later.
func TestStore_RefusedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, full := new(Store), &pgconn.PgError{Severity: "ERROR", Code: "53100"}
		const span, least = 3 * time.Second, 300 * time.Millisecond
		for i, step := range []struct {
			pause time.Duration
			runs  bool
		}{{0, false}, {299 * time.Millisecond, false}, {time.Millisecond, true}, {3 * time.Second, true}, {3*time.Second + 1, false}, {time.Second, true}} {
			time.Sleep(step.pause) // of the bubble's clock
			s.noteRefusal(full)
			if got := s.Refused(span, least); (got != nil) != step.runs {
				t.Errorf("step %d: %v", i, got)
			}
		}
		time.Sleep(span + 1)
		if got := s.Refused(span, least); got != nil {
			t.Errorf("when it is over: %v", got)
		}
	})
}

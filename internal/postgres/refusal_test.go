package postgres

import (
	"fmt"
	"strings"
	"testing"
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
		got := s.Refused(time.Hour)
		if (got != nil) != refuses || got != nil && !strings.Contains(got.Error(), "No space left") || s.Refused(0) != nil {
			t.Errorf("%s: %v", code, got)
		}
	}
}

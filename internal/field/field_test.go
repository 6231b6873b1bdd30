package field_test

import (
	"testing"

	"github.com/penstock/penstock/internal/field"
)

func TestErrors_Error(t *testing.T) {
	for want, errs := range map[string]field.Errors{
		"":                                {},
		"name: is missing":                {{Field: "name", Detail: "is missing"}},
		"name: is missing; rate: below 0": {{Field: "name", Detail: "is missing"}, {Field: "rate", Detail: "below 0"}},
	} {
		if got := errs.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

package webhook

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestPolicy_CheckURL(t *testing.T) {
	open := Policy{Networks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("169.254.0.0/16")}}
	for _, c := range []struct {
		url       string
		none, own string // the errors without networks, and with those above
	}{
		{"https://ops.example.com/hook?x=1", "", ""},
		{"https://93.184.216.34/", "", ""},
		{"http://localhost:9000/", "", ""},
		{"http://127.0.0.1:9000/", "", ""},
		{"http://[::1]:9000/", "", ""},
		{"http://ops.example.com/", "must be https", ""}, // with networks, its address decides
		{"http://93.184.216.34/", "must be https", "must be https"},
		{"http://10.1.2.3/", "private address 10.1.2.3", ""},
		{"https://10.1.2.3/", "private address", ""},
		{"https://10.2.2.3/", "private address", "private address"},
		{"https://[::ffff:192.168.0.1]/", "private address 192.168.0.1", "private address"},
		{"https://169.254.169.254/latest", "private address", ""},
		{"https://100.64.0.1/", "private address", "private address"},
		{"https://[fd00::1]/", "private address", "private address"},
		{"https://[fe80::1]/", "private address", "private address"},
		{"https://0.0.0.0/", "private address", "private address"},
		{"https://224.0.0.1/", "private address", "private address"},
		{"https://ann:pw@ops.example.com/", "no user or password", "no user or password"},
		{"https://ops.example.com/#x", "no fragment", "no fragment"},
		{"ftp://ops.example.com/", "must be a URL", "must be a URL"},
		{"//ops.example.com/", "must be a URL", "must be a URL"},
		{"https:///x", "must be a URL", "must be a URL"},
		{"https://a b/", "must be a URL", "must be a URL"},
		{"", "must be a URL", "must be a URL"},
		{"https://x.example/" + strings.Repeat("a", MaxURL), "at most", "at most"},
	} {
		for want, policy := range map[*string]Policy{&c.none: {}, &c.own: open} {
			if got := policy.CheckURL(c.url); (got == "") != (*want == "") || !strings.Contains(got, *want) {
				t.Errorf("%s with %v: %q, want %q", c.url, policy.Networks, got, *want)
			}
		}
	}
}

// The address of a name is checked when it is dialled, so that a name can't bypass the policy.
func TestPoster_ChecksTheAddressThatItDials(t *testing.T) {
	p := newPoster(Policy{}, time.Second, "test", nil)
	for _, url := range []string{"https://10.0.0.1/", "http://192.0.2.1/"} {
		err := p.post(t.Context(), &Hook{URL: url}, "secret", &Event{ID: "e", Kind: Alarm, Data: []byte("{}")})
		if err == nil || !strings.Contains(err.Error(), "the receiver must") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

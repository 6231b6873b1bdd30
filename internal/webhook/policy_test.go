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
		{"https://[64:ff9b::a9fe:a9fe]/", "private address 169.254.169.254", ""}, // through NAT64
		{"https://[64:ff9b::a00:1]/", "private address 10.0.0.1", "private address"},
		{"https://[64:ff9b::7f00:1]/", "private address 127.0.0.1", "private address"},
		{"https://[64:ff9b::5db8:d822]/", "", ""},
		{"https://[64:ff9b:1::a9fe:a9fe]/", "private address", "private address"},
		{"https://[2002:a9fe:a9fe::1]/", "private address", "private address"},
		{"https://[::a9fe:a9fe]/", "private address", "private address"},
		{"https://198.18.0.1/", "private address", "private address"},
		{"https://2852039166/", "an address like", "an address like"}, // 169.254.169.254 to some resolvers
		{"https://0xA9FEA9FE/", "an address like", "an address like"},
		{"https://0251.0376.0251.0376/", "an address like", "an address like"},
		{"https://ops.example.0x7f./", "an address like", "an address like"},
		{"https://1and1.example/", "", ""},
		{"https://ops.example.com:99999/", "must have a port", "must have a port"},
		{"https://ops.example.com:0/", "must have a port", "must have a port"},
		{"https://ops.example.com:8443/", "", ""},
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

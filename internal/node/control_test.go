package node

import (
	"testing"
	"time"

	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/limiter"
)

func TestNode_RefusesBadLimits(t *testing.T) {
	limits, err := limiter.New(limiter.DefaultConfig(), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{control: control{limits: limits}}
	for _, body := range []string{`{`, `{"policies":[{"name":"a","key":"caller","rate":0,"burst":1,"mode":"enforce"}]}`, `{"rules":[]}`} {
		if _, err := n.applyLimits(settings.Document{Version: 2, Body: []byte(body)}, settings.Moment{Nodes: 1}); err == nil {
			t.Errorf("%s is taken", body)
		}
	}
}

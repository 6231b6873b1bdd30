package embedded

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
)

func TestKeysExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := miniredis.NewMiniRedis() // as a value, without its listener
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { expire(ctx, server); close(ended) }()
		if err := server.Set("lease", "1"); err != nil {
			t.Fatal(err)
		}
		server.SetTTL("lease", 5*time.Second)
		time.Sleep(4 * time.Second) // virtual
		if !server.Exists("lease") {
			t.Error("the key is gone before its time")
		}
		time.Sleep(1*time.Second + expireEvery)
		if server.Exists("lease") {
			t.Error("the key is there after its time")
		}
		cancel()
		<-ended
	})
}

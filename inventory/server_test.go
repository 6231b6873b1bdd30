package inventory_test

import (
	"testing"

	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/internal/proof/stocktest"
)

// TestRedisServer runs the suite on a redis-server of its own.
func TestRedisServer(t *testing.T) {
	server := servers.Redis(t)
	stocktest.Exercise(t, func(t *testing.T, processes int) stocktest.World { return redisWorld(t, server.Addr, processes) })
}

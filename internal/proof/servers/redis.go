package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
)

// Redis starts a redis-server for the test. args are added to its command line.
func Redis(t testing.TB, args ...string) *Server {
	t.Helper()
	return own(t, kindRedis, args)
}

// Sentinel starts a Redis Sentinel for the test. lines are added to its configuration.
func Sentinel(t testing.TB, lines ...string) *Server {
	t.Helper()
	return own(t, kindSentinel, lines)
}

// askRedis sends a PING, which a server that is loading its data refuses.
func askRedis(ctx context.Context, addr string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && strings.TrimSpace(answer) != "+PONG" {
		err = errors.New(strings.TrimSpace(answer))
	}
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

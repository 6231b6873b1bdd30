package postgres_test

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/seckill"
)

// When a firewall forgets a connection, it is dead, and neither end learns of it.
func TestStore_ADeadConnectionIsNotWaitedFor(t *testing.T) {
	url := database(t)
	config := connect(t, url).Config()
	p := newMuffler(t, config.Host, config.Port)
	store := open(t, postgres.Config{
		URL: "postgres://" + config.User + "@" + p.addr + "/" + config.Database + "?sslmode=disable", AnswerTimeout: 500 * time.Millisecond, MaxConns: 4,
	})
	t.Cleanup(p.close) // before the store, which else waits for its dead connections
	sale := newSale(t, store, 100, 0)
	var wg sync.WaitGroup
	for range 4 { // so that there are several connections
		wg.Go(func() {
			if _, err := store.Tokens(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p.muffle()
	_, err := store.Accept(t.Context(), sale.batch(sale.promise("u-1", "k", 1)))
	if fault := postgres.FaultOf(err); err == nil || fault != postgres.FaultWait {
		t.Fatalf("a promise on a dead connection: %v, %v", err, fault)
	}
	accepted, err := store.Accept(t.Context(), sale.batch(sale.promise("u-1", "k", 1)))
	if err != nil || len(accepted) != 1 || accepted[0].Outcome != seckill.OutcomeOpened {
		t.Errorf("the next try, on a new connection: %+v, %v", accepted, err)
	}
}

// A slow server is not dead. A flush may wait for a lock, or for many slow statements, longer than
// the patience. It is waited for, and no other connection is closed.
func TestStore_ASlowAnswerIsWaitedFor(t *testing.T) {
	url := database(t)
	store := open(t, postgres.Config{URL: url, AnswerTimeout: 500 * time.Millisecond, MaxConns: 4})
	sale := newSale(t, store, 100, 0)
	other := connect(t, url)
	tx, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE shards IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		accepted, err := store.Accept(t.Context(), sale.batch(sale.promise("u-1", "k", 1)))
		if err == nil && accepted[0].Outcome != seckill.OutcomeOpened {
			err = fmt.Errorf("the promise became %+v", accepted[0])
		}
		done <- err
	}()
	asking := connect(t, url)
	for long := false; !long; {
		select {
		case err := <-done:
			t.Fatalf("a promise behind a lock: %v", err)
		default:
		}
		if err := asking.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
			AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > '1200ms')`).Scan(&long); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("after the lock: %v", err)
	}
}

// muffler forwards bytes between clients and a server. Muffled connections stay open, but no byte
// passes.
type muffler struct {
	addr     string
	epoch    atomic.Int64 // connections of an earlier one are muffled
	listener net.Listener
	work     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

func newMuffler(t *testing.T, host string, port uint16) *muffler {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	p := &muffler{addr: l.Addr().String(), listener: l}
	server := net.JoinHostPort(host, strconv.Itoa(int(port)))
	p.work.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := new(net.Dialer).DialContext(t.Context(), "tcp", server)
			if err != nil {
				_ = from.Close() // the client sees it
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, from, to)
			p.mu.Unlock()
			born := p.epoch.Load()
			p.work.Go(func() { p.copy(to, from, born) })
			p.work.Go(func() { p.copy(from, to, born) })
		}
	})
	return p
}

// close ends all connections and waits for their goroutines.
func (p *muffler) close() {
	_ = p.listener.Close() // it ends the loop
	p.mu.Lock()
	for _, c := range p.conns {
		_ = c.Close() // it ends its copies
	}
	p.mu.Unlock()
	p.work.Wait()
}

// muffle silently stops all present connections.
func (p *muffler) muffle() { p.epoch.Add(1) }

func (p *muffler) copy(to, from net.Conn, born int64) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if p.epoch.Load() == born {
			if n > 0 {
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
			if err == io.EOF {
				_ = to.Close() // the other end has hung up
			}
		}
		if err != nil {
			return
		}
	}
}

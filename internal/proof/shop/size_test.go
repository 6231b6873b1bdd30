package shop

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fill opens n items in activities of size each, and returns the activities.
func fill(d *desk, prefix string, n, size int) (activities []string) {
	for i := range n / size {
		activity := prefix + strconv.Itoa(i)
		d.sell(activity, size, 1_000, 1)
		activities = append(activities, activity)
	}
	return activities
}

// idle measures items on sale without buyers: how long it takes to publish 100,000 of them, alone
// and while another item sells at full speed, and what two gateways and two workers then use.
func idle(t testing.TB, p *table, binary string) {
	s := newSite(t, binary)
	workers := []*node{s.node("worker"), s.node("worker")}
	gateways := []*node{s.node("gateway"), s.node("gateway")}
	bearer := gateways[0].desk.open()
	hot := gateways[0].desk.sell("hot", 1, 10_000_000, 1)
	untilSells(t, gateways[0].public, bearer, hot[0], "first")
	began := time.Now()
	fill(gateways[1].desk, "alone", 100_000, 20_000)
	p.add("publish 100,000 items in activities of 20,000", "%.1f s", time.Since(began).Seconds())
	before := buy(t, gateways[0].public, bearer, 32, turnTime(), hot)
	var during load
	var selling sync.WaitGroup
	ended := make(chan struct{})
	selling.Go(func() {
		for run := true; run; {
			l := buy(t, gateways[0].public, bearer, 32, turnTime(), hot)
			during.answers, during.refused = during.answers+l.answers, during.refused+l.refused
			during.took += l.took
			select {
			case <-ended:
				run = false
			default:
			}
		}
	})
	began = time.Now()
	fill(gateways[1].desk, "beside", 100_000, 20_000)
	took := time.Since(began)
	close(ended)
	selling.Wait()
	p.add("the same beside a sale that takes all cores", "%.1f s", took.Seconds())
	p.add("meanwhile accepted of another item, against before", "%.2f × (%d of %d refused)",
		float64(during.answers)/during.took.Seconds()/(float64(before.answers)/before.took.Seconds()), during.refused, during.answers)
	fill(gateways[1].desk, "more", 99_000, 200)
	pause(t, 35*time.Second) // sweeps come to rest
	const look = 30 * time.Second
	all := []*process{s.redis}
	for i := range 2 {
		gateways[i].name, workers[i].name = fmt.Sprint("gateway ", i), fmt.Sprint("worker ", i)
		all = append(all, gateways[i].process, workers[i].process)
	}
	commands := redisCommands(t, s.redisAt)
	c := costOf(all, func() (int64, time.Duration) {
		pause(t, look)
		return 1, look
	})
	for _, q := range all {
		p.add("299,001 idle items, "+q.name, "%.2f %% of a core, %d MB", c.each[q.name]/1e6/look.Seconds()*100, q.memory()>>20)
	}
	p.add("299,001 idle items, commands of Redis", "%.0f/s", float64(redisCommands(t, s.redisAt)-commands)/look.Seconds())
}

// redisCommands returns how many commands a Redis has processed.
func redisCommands(t testing.TB, addr string) int64 {
	t.Helper()
	text := redisSays(t, addr, "INFO stats\r\n")
	_, rest, _ := strings.Cut(text, "total_commands_processed:")
	number, _, _ := strings.Cut(rest, "\r")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// redisSays sends an inline command (Redis protocol specification) and returns the first kilobytes
// of the answer.
func redisSays(t testing.TB, addr, command string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(command)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 8<<10)
	n, err := bufio.NewReaderSize(conn, len(answer)).Read(answer)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer[:n])
}

// flushed empties Redis under 100,000 items and a million holds.
func flushed(t testing.TB, p *table, binary string) {
	const holds = 1_000_000
	s := newSite(t, binary)
	worker, gateway := s.node("worker"), s.node("gateway")
	bearer := gateway.desk.open()
	hot := gateway.desk.sell("hot", 1, 10_000_000, 1)
	var items []string
	for i := range 5 {
		items = append(items, gateway.desk.sell("many"+strconv.Itoa(i), 20_000, 1_000, 1)...)
	}
	untilSells(t, gateway.public, bearer, items[len(items)-1], "first")
	for n := int64(0); n < holds; {
		n += buy(t, gateway.public, bearer, 128, 10*time.Second, items).answers
	}
	buy(t, gateway.public, bearer, 128, 2*time.Second, hot)
	untilCaughtUp(gateway.desk, "hot")
	for i := range 5 {
		untilCaughtUp(gateway.desk, "many"+strconv.Itoa(i))
	}
	redisSays(t, s.redisAt, "FLUSHALL\r\n")
	began := time.Now()
	untilSells(t, gateway.public, bearer, hot[0], "after")
	p.add("FLUSHALL with 100,000 items and 1,000,000 holds: the hot item sells again", "%.1f s", time.Since(began).Seconds())
	for i := 0; i < len(items); i += 97 {
		untilSells(t, gateway.public, bearer, items[i], "after"+strconv.Itoa(i))
	}
	p.add("FLUSHALL with 100,000 items and 1,000,000 holds: all sell again", "%.1f s; worker %d MB",
		time.Since(began).Seconds(), worker.memory()>>20)
}

// million measures a gateway with a million items on sale.
func million(t testing.TB, p *table, binary string) {
	s := newSite(t, binary)
	s.node("worker")
	first := s.node("gateway")
	bearer := first.desk.open()
	began := time.Now()
	activities := fill(first.desk, "m", 1_000_000, 20_000)
	p.add("publish 1,000,000 items", "%.0f s", time.Since(began).Seconds())
	began = time.Now()
	second := s.node("gateway")
	took := untilSells(t, second.public, bearer, activities[len(activities)-1]+"/s19999", "second")
	p.add("1,000,000 items: a gateway's start until it sells", "%.1f s (%.1f s of it after it listened)", time.Since(began).Seconds(), took.Seconds())
	pause(t, 5*time.Second)
	p.add("1,000,000 items: a gateway's memory", "%d MB", second.memory()>>20)
	began = time.Now()
	first.desk.ask("POST", "/admin/v1/activities/"+activities[0]+"/pause", map[string]any{"reason": "measure"})
	for _, g := range []*node{first, second} {
		for attempt(t, g.public, bearer, activities[0]+"/s1", "paused"+g.name+strconv.FormatInt(time.Now().UnixNano(), 36))/100 == 2 {
			pause(t, time.Millisecond)
		}
	}
	p.add("1,000,000 items: a pause of one activity is in force on both gateways", "%d ms", time.Since(began).Milliseconds())
}

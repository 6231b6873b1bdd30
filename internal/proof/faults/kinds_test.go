package faults

import (
	"slices"
	"syscall"
	"time"
)

// kinds are all faults, by installation.
func kinds() []*kind {
	return slices.Concat(processKinds(), redisKinds(), kafkaKinds(), postgresKinds(), clockKinds(), brokerKinds(),
		replicaKinds(), clusterKinds(), embeddedKinds())
}

// processKinds harm our own processes.
func processKinds() []*kind {
	signals := func(pick func(*site) *node, harmed int) (harm, mend func(s *site)) {
		harm = func(s *site) {
			if harmed >= 0 {
				s.harmed[harmed].Store(true)
			}
			pick(s).signal(syscall.SIGSTOP)
		}
		mend = func(s *site) {
			pick(s).signal(syscall.SIGCONT)
			if harmed >= 0 {
				s.harmed[harmed].Store(false)
			}
		}
		return harm, mend
	}
	stop, resume := signals(func(s *site) *node { return s.gateways[0].Load() }, 0)
	stopWorker, resumeWorker := signals(func(s *site) *node { return s.workers[0].Load() }, -1)
	return []*kind{
		{name: "gateway-kill", what: "kill -9 of a gateway, another one after 3 s", on: "single", harm: func(f *fault) {
			f.during(3*time.Second, func() { f.s.killGateway(0) }, func() { f.s.startGateway(0, binary) })
		}},
		{name: "gateway-stop", what: "SIGSTOP of a gateway for 12 s", on: "single", harm: func(f *fault) {
			f.during(12*time.Second, func() { stop(f.s) }, func() { resume(f.s) })
		}},
		{name: "worker-kill", what: "kill -9 of a worker, another one after 8 s", on: "single", harm: func(f *fault) {
			f.during(8*time.Second, func() { f.s.workers[0].Load().end(syscall.SIGKILL) }, func() { f.s.startWorker(0) })
		}},
		{name: "worker-stop", what: "SIGSTOP of a worker for 12 s, twice the group's session", on: "single", harm: func(f *fault) {
			f.during(12*time.Second, func() { stopWorker(f.s) }, func() { resumeWorker(f.s) })
		}},
		{name: "workers-kill", what: "kill -9 of both workers, others after 6 s", on: "single", may: []string{rows}, harm: func(f *fault) {
			f.during(6*time.Second, func() {
				for i := range f.s.workers {
					f.s.workers[i].Load().end(syscall.SIGKILL)
				}
			}, func() {
				for i := range f.s.workers {
					f.s.startWorker(i)
				}
			})
		}},
	}
}

// clockKinds run a node with another clock. A separate program is built for it, which takes a
// while.
func clockKinds() []*kind {
	return []*kind{
		{name: "clock-ahead", what: "a gateway's wall clock is 5 s ahead when the sale opens", on: "single", starts: 9 * time.Second,
			may: []string{purchases, status, rows}, // before the sale opens there is no data
			before: func(s *site) {
				s.killGateway(1)
				s.startGateway(1, ahead)
			},
			harm: func(f *fault) {
				f.during(time.Until(f.opens.Add(3*time.Second)), func() {}, func() {
					f.s.killGateway(1)
					f.s.startGateway(1, binary)
				})
				if early := f.crowd.promisesIn(time.Time{}, f.opens, nil); len(early) > 0 {
					f.Errorf("%d promises before the sale opened at %v, the first at %v", len(early), f.opens.Format(clock), early[0].at.Format(clock))
				}
			}},
	}
}

// proxied are the three faults of a network, in front of one server.
func proxied(server string, pick func(*site) *proxy, delay time.Duration, may ...string) []*kind {
	return []*kind{
		{name: server + "-delay", what: "each answer and question of " + server + " is late by " + delay.String() + ", for 8 s", on: "single", may: may,
			harm: func(f *fault) {
				p := pick(f.s)
				f.during(8*time.Second, func() { p.delay.Store(int64(delay)) }, p.heal)
			}},
		{name: server + "-cut", what: "all connections to " + server + " end, every 300 ms for 6 s", on: "single", may: may, harm: func(f *fault) {
			p := pick(f.s)
			f.during(0, func() {
				for range 20 {
					p.cut()
					pause(f, 300*time.Millisecond)
				}
			}, p.heal)
		}},
		{name: server + "-half-open", what: "connections to " + server + " are dead and don't know it, new ones for 6 s", on: "single", may: may,
			harm: func(f *fault) {
				p := pick(f.s)
				f.during(6*time.Second, p.halfOpen, p.heal)
			}},
	}
}

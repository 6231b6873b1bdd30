package limiter

import "time"

// GiveBack returns the tokens of a request that was allowed, and that turned out to have cost
// nothing: it was a repeat. No bucket gets above its burst.
func (l *Limiter) GiveBack(req *Request, now time.Time) {
	s := l.snapshot.Load()
	moment := l.clock.at(now)
	leased := l.cluster != nil && !l.cluster.away.Load()
	for i := range s.steps {
		st := &s.steps[i]
		owner, name, key := "", "", uint64(0)
		switch {
		case st.kind == ip && !req.IP.IsValid():
			continue
		case st.kind == ip:
			key = l.hashAddr(req.IP)
		default:
			if owner, name = req.names(kindNames[st.kind]); name == "" && st.kind != global {
				continue
			}
			key = l.hashNames(owner, name)
		}
		lim := st.rules.of(key)
		if lim == nil || lim.off {
			continue
		}
		g := grant{limit: lim, taken: lim.price(int64(max(req.Cost, 1))), leased: leased, table: st.table, key: key}
		if st.directory != nil {
			if g.bucket = st.directory.find(key, owner, name); g.bucket == nil {
				continue // a stranger, or full again
			}
		} else if leased {
			g.name = req.poolName(lim.policy.Key)
		}
		g.giveBack(l.cluster)
		lim.tally.returned(stripeAt(moment))
	}
}

package limiter

import "time"

// GiveBack returns the tokens of a request that was allowed and then turned out to be a repeat,
// which costs nothing. No bucket gets more than its burst. A second call does nothing.
func (l *Limiter) GiveBack(req *Request, now time.Time) {
	s := l.snapshot.Load()
	moment := l.clock.at(now)
	here := l.cluster == nil || l.cluster.away.Load()
	for i := range s.steps {
		st := &s.steps[i]
		held := req.held[st.kind]
		if req.held[st.kind].taken = 0; held.taken == 0 {
			continue
		}
		owner, name, key := "", "", uint64(0)
		if st.kind == ip {
			key = l.hashAddr(req.IP)
		} else {
			owner, name = req.names(kindNames[st.kind])
			key = l.hashNames(owner, name)
		}
		lim := st.rules.of(key)
		if lim == nil || lim.off {
			continue
		}
		leased := held.leased && !here && lim.joins(l.cluster) != nil
		g := grant{
			limit: lim, taken: held.taken, leased: leased, alone: held.alone, over: held.over, stranger: held.unknown, table: st.table, key: key,
		}
		if st.directory != nil {
			if g.bucket = st.directory.find(key, owner, name); g.bucket == nil {
				continue // the bucket of strangers, or a bucket that is full again
			}
		} else if leased {
			g.name = req.poolName(lim.policy.Key)
		}
		g.giveBack(l.cluster)
		lim.tally.returned(stripeAt(moment))
	}
}

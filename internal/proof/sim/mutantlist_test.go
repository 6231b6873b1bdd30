package sim

// More rules, with their own names. If no scenario shows a rule, the seeds do.

// decisionMutants break the decisions about orders and payments.
var decisionMutants = []mutant{
	{
		"batch-twice", "a promise that comes twice in a batch meets its own row",
		[]patch{{decideFile, "			in.Existing[r.Order] = a.Order\n", ""}},
		seeds(""),
	},
	{
		"batch-bought", "two promises of a buyer in one batch see each other",
		[]patch{{decideFile, "	in.Bought[buyer] += units\n", ""}},
		history("L5", "failover-and-the-limit"),
	},
	{
		"batch-open", "two promises of an item in one batch see each other",
		[]patch{{decideFile, "	row.Open += units\n", ""}},
		expectation("failover-sold-twice"),
	},
	{
		"unpark-parked", "a parked order that is tried again does not count its own units",
		[]patch{{decideFile, "		row.Parked -= int64(before.Quantity)\n", "		row.Parked -= 0\n"}},
		expectation("locked-row"),
	},
	{
		"insert-settle", "a row that is made with void units gives the hold back: a tombstone, a rejection, a cancellation",
		[]patch{{decideFile, "	if o.Units == UnitsVoid {\n		c.settle", "	if false {\n		c.settle"}},
		expectation("late-page-meets-its-tombstone"),
	},
	{
		"move-void", "an order that ends gives its units back",
		[]patch{{decideFile, "		c.settle(after, inventory.SettleVoid)\n", ""}},
		seeds(""),
	},
	{
		"move-sold", "an order that is paid settles its hold as sold",
		[]patch{{decideFile, "		c.settle(after, inventory.SettleSold)\n", ""}},
		seeds(""),
	},
	{
		"digest-parked", "a parked row is in the digest of the books",
		[]patch{{decideFile, "	case UnitsParked:\n		c.stock(key).Parked += units\n" +
			"		c.shard(key.Shard).Open = c.shard(key.Shard).Open.Add(name)\n",
			"	case UnitsParked:\n		c.stock(key).Parked += units\n"}},
		history("L3", "parked-for-long"),
	},
	{
		"pay-void", "a payment does not bring a cancelled order back",
		[]patch{{orderFile, "	OrderCancelled: {EventPaid: {state: OrderRefundDue}},\n",
			"	OrderCancelled: {EventPaid: {OrderPaid, ReasonNone, UnitsSold}},\n"}},
		seeds(""),
	},
	{
		"pay-other", "a payment's id pays one order",
		[]patch{{paymentFile, "	case !earlier.same(&p) && !(earlier.isWrong()", "	case false && !(earlier.isWrong()"}},
		seeds(""),
	},
	{
		"pay-again", "a payment that comes again does nothing",
		[]patch{{paymentFile, "	case earlier.same(&p) && earlier.State != PaymentStateEarly:\n", "	case false:\n"}},
		seeds("L4"),
	},
	{
		"pay-amount", "an order is paid by its price",
		[]patch{{paymentFile, "	case keep.Amount != order.Amount && order.Reason != ReasonNotAccepted:\n",
			"	case false && order.Reason != ReasonNotAccepted:\n"}},
		seeds("L4"),
	},
	{
		"pay-queued", "a payment without a row is kept for an order that was seen queued",
		[]patch{{paymentFile, "	case !queued:\n", "	case false:\n"}},
		seeds("L4"),
	},
	{
		"no-early2", "a payment that came before the row is applied when there is one",
		[]patch{{"seckill/backoffice/timeout.go", "func (t *Timeouts) applyEarly(ctx context.Context) error {\n",
			"func (t *Timeouts) applyEarly(ctx context.Context) error {\n	if ctx != nil {\n		return nil\n	}\n"}},
		history("L3", "parked-and-paid"),
	},
	{
		"too-early-out", "an order is not timed out before its time",
		[]patch{{sqliteOrder, "state = 'pending_payment' AND pay_by < ?\n", "state = 'pending_payment' AND pay_by < ? + 3000000\n"}},
		seeds("L2"),
	},
	{
		"bought-sold", "paid units count against the buyer's limit",
		[]patch{{sqliteAccept, "AND units IN ('open', 'sold')`", "AND units = 'open'`"}},
		history("L5", "failover-and-what-is-bought"),
	},
	{
		"bought-open", "open units count against the buyer's limit",
		[]patch{{sqliteAccept, "orders.user = buyer.column2", "orders.user = buyer.column2 AND orders.state <> 'pending_payment'"}},
		history("L5", "failover-and-what-is-bought"),
	},
}

// storeMutants break the conditions of the store.
var storeMutants = []mutant{
	{
		"epoch-next", "an epoch is above the last one that was given out",
		[]patch{{sqliteShard, "max(next_epoch + 1, epoch + 1, ?2)", "max(0, epoch + 1, ?2)"}},
		expectation("two-rebuilders"),
	},
	{
		"take-outbox", "what the shop takes is settled through the outbox",
		[]patch{{sqliteStock, "	return true, tx.insertOutbox(ctx, []seckill.Outgoing{seckill.SettleTaken(t, inventory.SettleSold)})\n",
			"	return true, nil\n"}},
		seeds(""),
	},
	{
		"move-outbox", "a moved unit is restocked where it goes",
		[]patch{{sqliteStock, "		return tx.insertOutbox(ctx, []seckill.Outgoing{seckill.AddUnits(from.Hold.Item, to, from.Hold.ID, units)})\n",
			"		return nil\n"}},
		seeds(""),
	},
	{
		"restock-once", "a restock's key changes the total once",
		[]patch{{sqliteStock, "	earlier, found, err := findStockChange(ctx, tx, c.Item, c.Key)\n",
			"	earlier, found, err := seckill.StockChange{}, false, error(nil)\n"},
			{sqliteStock, `"INSERT INTO stock_changes`, `"INSERT OR REPLACE INTO stock_changes`}},
		expectation("restock-arrives-twice"),
	},
	{
		"absorb-all", "a snapshot deletes those outbox rows only that it has seen",
		[]patch{{sqliteSnap, `stock = 1 AND id <= ?"`, `stock = 1 AND id <> -?"`}},
		expectation("restock-amid-a-snapshot"),
	},
	{
		"snapshot-void", "a snapshot has the markers of ended orders",
		[]patch{{sqliteSnap, "AND orders.shard = one.shard`", "AND orders.shard = one.shard AND orders.units <> 'void'`"}},
		expectation("failover-sold-twice"),
	},
	{
		"snapshot-sold", "a snapshot has sold orders",
		[]patch{{sqliteSnap, "orders.id BETWEEN item.column1 AND item.column2 AND",
			"orders.id BETWEEN item.column1 AND item.column2 AND orders.units <> 'sold' AND"}},
		seeds(""),
	},
	{
		"bury-found", "a withdrawal that is committed is not buried",
		[]patch{{sqliteBury, "ON CONFLICT DO NOTHING`", "ON CONFLICT (hold) DO UPDATE SET buried = excluded.buried`"}},
		expectation("withdrawal-comes-after-its-doom"),
	},
	{
		"bury-sold", "the sweeper learns that a withdrawal was committed",
		[]patch{{sqliteBury, `WHERE hold = ? AND buried = 0"`, `WHERE hold = ? AND buried = 2"`}},
		expectation("withdrawal-comes-after-its-doom"),
	},
	{
		"bury-tombstone", "a hold that has its tombstone is not confirmed",
		[]patch{{sqliteBury, "			out[i] = order.Reason != seckill.ReasonNotAccepted", "			out[i] = true"}},
		expectation("crash-8-fresh"),
	},
	{
		"topic-next", "a topic that is made anew is read from its start",
		[]patch{{sqlitePosition, "SET topic = excluded.topic, next = 0,", "SET topic = excluded.topic,"}},
		expectation("topic-made-anew"),
	},
}

// officeMutants break the background work.
var officeMutants = []mutant{
	{
		"lookback", "an idle worker looks whether the database is another one",
		[]patch{{workerFile, "	if w.incarnation == now {\n", "	if w.incarnation == now || w.incarnation != \"\" {\n"}},
		expectation("restored-and-silent-again"),
	},
	{
		"teller-parked", "a parked order is confirmed",
		[]patch{{workerFile, "if units := a.Order.Units; units == seckill.UnitsOpen || units == seckill.UnitsParked {\n",
			"if units := a.Order.Units; units == seckill.UnitsOpen {\n"}},
		expectation("locked-row"),
	},
	{
		"teller-report", "a rejection, or a page ahead of the books, asks for a rebuild",
		[]patch{{workerFile, "		if a.Ahead || a.Outcome == seckill.OutcomeRejected {\n			t.report", "		if false {\n			t.report"}},
		expectation("failover-sold-twice"),
	},
	{
		"note-epoch", "a note of another epoch is no note",
		[]patch{{sweepFile, "	if ok && n.epoch == ref.Epoch {\n", "	if ok && true {\n"}},
		expectation("note-of-an-older-epoch"),
	},
	{
		"sweep-sold", "the sweeper settles a sold order's hold as sold",
		[]patch{{sweepFile, "		case orders[i].Units == seckill.UnitsSold:\n", "		case false:\n"}},
		expectation("crash-8-sold"),
	},
	{
		"doom-filter", "a hold that was touched again is not decided",
		[]patch{{sweepFile, "		if state == inventory.Doomed {\n", "		if state == inventory.Doomed || state == inventory.Fresh {\n"}},
		history("L2", "touched-before-its-doom"),
	},
	{
		"barrier-before-wait (sweep)", "the sweeper's barrier comes after its wait-out",
		[]patch{{sweepFile, "	if !wait.For(ctx, s.cfg.WaitOut()) {\n		return ctx.Err()\n	}\n" +
			"	if err := s.barrier.Pass(ctx); err != nil {\n		return fmt.Errorf(\"pass a barrier: %w\", err)\n	}\n",
			"	if err := s.barrier.Pass(ctx); err != nil {\n		return fmt.Errorf(\"pass a barrier: %w\", err)\n	}\n" +
				"	if !wait.For(ctx, s.cfg.WaitOut()) {\n		return ctx.Err()\n	}\n"}},
		history("L2", "failover-forgets-a-touch"),
	},
	{
		"late-dooms", "a burial decides what was doomed before its wait-out",
		[]patch{{sweepFile, "	err := s.waitOut(ctx)\n	s.mu.Lock()\n",
			"	err := s.waitOut(ctx)\n	s.mu.Lock()\n	dooms = len(s.pending)\n"}},
		history("L2", "doomed-during-a-burial"),
	},
	{
		"bury-error", "without a barrier nothing is buried",
		[]patch{{sweepFile, "	if err != nil {\n		return err\n	}\n	for _, d := range now {\n",
			"	if err != nil && ctx.Err() != nil {\n		return err\n	}\n	for _, d := range now {\n"}},
		history("L2", "burial-without-a-barrier"),
	},
	{
		"bury-confirm", "a doomed hold whose order came after all is confirmed",
		[]patch{{sweepFile, "			case there:\n				open", "			case false:\n				open"}},
		expectation("sweep-waits-for-a-barrier"),
	},
	{
		"bury-withdrawal-sold", "a doomed hold whose withdrawal came after all is settled as sold",
		[]patch{{sweepFile, "			case withdrawal && there:\n", "			case false:\n"}},
		expectation("withdrawal-comes-after-its-doom"),
	},
	{
		"abandoned", "a shard that stays closed is rebuilt by another one",
		[]patch{{rebuildFile, "	return r.alone || time.Since(seen.since) >= abandoned\n", "	return r.alone || false\n"}},
		expectation("rebuilder-crashes"),
	},
	{
		"suspect-ignored", "a suspect shard is rebuilt",
		[]patch{{rebuildFile, "		return row.Suspect, nil\n", "		return false, nil\n"}},
		expectation("two-rebuilders"),
	},
	{
		"alone-mine", "a lone process waits its own promises out",
		[]patch{{rebuildFile, "	return r.alone && !slices.ContainsFunc(refs", "	return r.alone || r.alone && !slices.ContainsFunc(refs"}},
		expectation("alone-and-its-own-promises"),
	},
	{
		"late-incarnation", "a fence is of the database that the barrier passed in",
		[]patch{{rebuildFile, "	if err == nil {\n		err = r.barrier.Pass(ctx)\n	}\n",
			"	if err == nil {\n		err = r.barrier.Pass(ctx)\n	}\n	if err == nil {\n" +
				"		incarnation, err = r.store.Incarnation(ctx)\n	}\n"}},
		expectation("restored-behind-the-barrier"),
	},
	{
		"unclosed", "a shard that could not be closed is not written",
		[]patch{{rebuildFile, "\"shard\", shard, \"err\", err)\n			}\n			continue\n		}\n		refs = append(refs, ref)\n",
			"\"shard\", shard, \"err\", err)\n			}\n			if ref.Epoch == 0 {\n				continue\n			}\n		}\n" +
				"		refs = append(refs, ref)\n"}},
		expectation("close-refused"),
	},
	{
		"passed-topic", "a position of another topic has not passed a barrier",
		[]patch{{"seckill/queue.go", "!ok || h.Topic != p.Topic || h.Next", "!ok || false || h.Next"}},
		expectation("barrier-of-a-new-topic"),
	},
}

// buyerMutants break the answers to people.
var buyerMutants = []mutant{
	{
		"slot-held", "a purchase that is not held gives its place in the buffer back",
		[]patch{{flightFile, "	if unused := asked - len(kept); unused > 0 {\n", "	if unused := 0; unused > 0 {\n"}},
		seeds(""),
	},
	{
		"slot-fail", "a purchase that fails gives its place in the buffer back",
		[]patch{{lineFile, "	d.queue.Release(1)\n	s.err = err\n", "	s.err = err\n"}},
		seeds("L8"),
	},
	{
		"put-failed", "a page whose put failed is unknown, not failed",
		[]patch{{flightFile, "		err = &inventory.UnknownError{Err: fmt.Errorf(\"put the page: %w\", err)}\n",
			"		err = fmt.Errorf(\"put the page: %w\", err)\n"}},
		seeds("L4"),
	},
	{
		"put-ignored", "no 202 before the page is durable",
		[]patch{{flightFile, "			s.err = err\n			s.wake()\n", "			s.wake()\n"}},
		seeds("L2"),
	},
	{
		"no-answer-failed", "a purchase that runs out of time behind its hold is unknown, not failed",
		[]patch{{flightFile, "			s.timeout, s.err = true, errNoAnswer\n", "			s.timeout, s.err = true, errTooLong\n"}},
		seeds("L4"),
	},
	{
		"unknown-hold", "a hold whose answer was lost is unknown, not failed",
		[]patch{{buyFile, "	case errors.As(err, &unknown), errors.Is(err, batch.ErrAbandoned):\n",
			"	case errors.As(err, &unknown) && false, errors.Is(err, batch.ErrAbandoned):\n"}},
		seeds("L4"),
	},
	{
		"doomed-promised", "a repeat that meets a doomed hold is promised nothing",
		[]patch{{"inventory/hold.go", "func (v Verdict) Fresh() bool { return ", "func (v Verdict) Fresh() bool { return v == HeldDoomed || "},
			{buyFile, "	case inventory.Held, inventory.HeldAgain:\n",
				"	case inventory.Held, inventory.HeldAgain, inventory.HeldDoomed:\n"}},
		history("L2", "repeat-of-a-doomed-key"),
	},
	{
		"unknown-row", "a repeat whose row isn't there yet is unknown",
		[]patch{{buyFile, "	if err == nil && order.ID == \"\" {\n		err = errNoRow", "	if err == nil && false {\n		err = errNoRow"}},
		seeds("L4"),
	},
	{
		"status-again", "an order is unknown only where it had no row before and after the look for its hold",
		[]patch{{statusFile, "	if order, err := d.row(ctx, id); err != nil || order.ID != \"\" {\n		return order, none, err\n	}\n" +
			"	if hold",
			"	if hold"}},
		expectation("cancelled-across-a-failover"),
	},
	{
		"cancel-not", "an order that can't be cancelled is not told cancelled",
		[]patch{{statusFile, "	case moved.Order.State != seckill.OrderCancelled:\n", "	case false:\n"}},
		seeds("L4"),
	},
	{
		"pay-not-queued", "a payment for a queued order is kept",
		[]patch{{payFile, "		payment.Queued = true\n		result, err", "		payment.Queued = false\n		result, err"}},
		seeds(""),
	},
	{
		"take-hold", "the shop holds what it takes back",
		[]patch{{restockFile, "	o.stock.Hold(ctx, calls)\n",
			"	for _, call := range calls {\n		call.Verdicts = []inventory.Verdict{inventory.Held}\n	}\n"}},
		expectation("withdrawal-meets-a-buyer"),
	},
	{
		"divide-earlier", "a withdrawal that is repeated goes on with its earlier hold",
		[]patch{{restockFile, "			s.take = int64(s.hold.Quantity)\n			units -= s.take\n", ""}},
		expectation("withdrawal-goes-on"),
	},
}

// shelfMutants break the shard, in the model that the simulator uses.
var shelfMutants = []mutant{
	{
		"settle-marker", "a hold that has ended is not settled again",
		[]patch{{modelFile, "	case h.State == inventory.Void || h.State == inventory.Sold:\n		return", "	case false:\n		return"}},
		seeds(""),
	},
	{
		"confirm-any", "an ended hold is not confirmed",
		[]patch{{modelFile, "		case h != nil && h.undecided():\n", "		case h != nil && h.State != inventory.Ordered:\n"}},
		seeds(""),
	},
	{
		"over-limit", "the shard counts the buyer's units",
		[]patch{{modelFile, `	case want.Buyer != "" && want.Limit > 0 &&`, "	case false && want.Limit > 0 &&"}},
		seeds(""),
	},
	{
		"void-counts", "void units leave the buyer's limit",
		[]patch{{modelFile, "		if h.State != inventory.Void {\n			units", "		if true {\n			units"}},
		seeds(""),
	},
	{
		"sold-out", "a hold takes no more than there is",
		[]patch{{modelFile, "	case i.available < units:\n		return inventory.SoldOut\n", ""}},
		seeds(""),
	},
	{
		"old-back", "a hold that is not decided is looked at again",
		[]patch{{modelFile, "	s.young = append(s.young, back...)\n", ""}},
		seeds(""),
	},
	{
		"young", "a head with an undecided hold is looked at by sweeps",
		[]patch{{modelFile, "	if !undecided {\n		s.young", "	if !undecided && false {\n		s.young"}},
		seeds(""),
	},
	{
		"sold-out-name", "nobody who has a hold is told sold-out from memory",
		[]patch{{modelFile, "	return i != nil && i.available <= 0 && made == 0\n",
			"	return i != nil && i.available <= 0 && made >= 0\n"}},
		seeds(""),
	},
	{
		"ended", "a repeat of an ended key meets its order",
		[]patch{{modelFile, "		case h.State != inventory.Fresh:\n			return inventory.HeldEnded",
			"		case false:\n			return inventory.HeldEnded"}},
		seeds(""),
	},
}

// scriptMutants break the shard, in Lua.
var scriptMutants = []mutant{
	{
		"settle-marker (Lua)", "a hold that has ended is not settled again",
		[]patch{{"inventory/lua/settle.lua", "    if state ~= 'V' and state ~= 'S' then\n", "    if true then\n"}},
		conformance,
	},
	{
		"void-nothing (Lua)", "a hold that isn't there gives nothing back",
		[]patch{{"inventory/lua/settle.lua", "    if taken then\n      u.now[item] = u.now[item] + units\n    end\n",
			"    u.now[item] = u.now[item] + units\n"}},
		conformance,
	},
	{
		"sold-nothing (Lua)", "a sold order whose hold isn't there takes its units",
		[]patch{{"inventory/lua/settle.lua", "  if not taken then\n    u.now[item] = u.now[item] - units\n  end\n", ""}},
		conformance,
	},
	{
		"shop-total (Lua)", "units that the shop takes leave the total",
		[]patch{{"inventory/lua/settle.lua", "  if buyer then\n    b[item][2]", "  if true then\n    b[item][2]"}},
		conformance,
	},
	{
		"settle-ordered (Lua)", "an order's end leaves the digest of ordered holds",
		[]patch{{"inventory/lua/settle.lua", "        s.ordered = (s.ordered - digest + MODULUS) % MODULUS\n", "        s.ordered = s.ordered\n"}},
		conformance,
	},
	{
		"confirm-any (Lua)", "an ended hold is not confirmed",
		[]patch{{"inventory/lua/confirm.lua", "    if state ~= 'F' and state ~= 'D' then\n", "    if state == 'O' then\n"}},
		conformance,
	},
	{
		"confirm-fresh (Lua)", "a confirmed hold is undecided no more",
		[]patch{{"inventory/lua/confirm.lua", "      s.fresh = s.fresh - units\n", ""}},
		conformance,
	},
	{
		"confirm-touched (Lua)", "also one that was touched again",
		[]patch{{"inventory/lua/confirm.lua", "    s.fresh = s.fresh - tonumber(held)\n", ""}},
		conformance,
	},
	{
		"reused (Lua)", "a key is of one quantity",
		[]patch{{"inventory/lua/hold.lua", "      if held ~= quantity then\n", "      if false then\n"}},
		conformance,
	},
	{
		"over-limit (Lua)", "the shard counts the buyer's units",
		[]patch{{"inventory/lua/hold.lua", "  elseif most > 0 and used + units > most then\n", "  elseif false then\n"}},
		conformance,
	},
	{
		"over-limit-first (Lua)", "a buyer's first hold is within the limit",
		[]patch{{"inventory/lua/hold.lua", "    elseif most > 0 and units > most then\n", "    elseif false then\n"}},
		conformance,
	},
	{
		"too-many (Lua)", "the shard bounds a buyer's orders",
		[]patch{{"inventory/lua/hold.lua", "  elseif holdsAllowed > 0 and count >= holdsAllowed then\n", "  elseif false then\n"}},
		conformance,
	},
	{
		"void-counts (Lua)", "void units leave the buyer's limit",
		[]patch{{"inventory/lua/hold.lua", "    if state ~= 'V' then\n      used", "    if true then\n      used"}},
		conformance,
	},
	{
		"sold-out (Lua)", "a hold takes no more than there is",
		[]patch{{"inventory/lua/hold.lua", "  elseif available < units then\n    return 'F'\n", "  elseif false then\n    return 'F'\n"}},
		conformance,
	},
	{
		"sold-out-first (Lua)", "a buyer's first hold takes no more than there is",
		[]patch{{"inventory/lua/hold.lua", "    elseif available < units then\n", "    elseif false then\n"}},
		conformance,
	},
	{
		"in-call (Lua)", "claims of one call see each other",
		[]patch{{"inventory/lua/hold.lua", "        left[item] = available - units\n", "        left[item] = left[item]\n"}},
		conformance,
	},
	{
		"young (Lua)", "a head with an undecided hold is looked at by sweeps",
		[]patch{{"inventory/lua/hold.lua", "        if ripe then\n", "        if false then\n"}},
		conformance,
	},
	{
		"young-again (Lua)", "a head whose holds were all decided is looked at again",
		[]patch{{"inventory/lua/hold.lua", "start .. tail .. value, true, not undecided\n", "start .. tail .. value, true, false\n"}},
		conformance,
	},
	{
		"lost-seq (Lua)", "a shard that went back says so",
		[]patch{{"inventory/lua/shard.lua", "  elseif s.seq < tonumber(ARGV[base + 2]) then\n    return {LOST, s.epoch}\n", ""}},
		conformance,
	},
	{
		"lost-epoch (Lua)", "a shard that went back to an earlier epoch says so",
		[]patch{{"inventory/lua/shard.lua", "  if s.epoch < epoch then\n    return {LOST, s.epoch}\n  elseif", "  if"}},
		conformance,
	},
	{
		"closed (Lua)", "a closed shard takes nothing",
		[]patch{{"inventory/lua/shard.lua", "  elseif s.closed then\n    return {CLOSED, s.epoch}\n", ""}},
		conformance,
	},
	{
		"close-later (Lua)", "a close does not take a later epoch away",
		[]patch{{"inventory/lua/close.lua", "if s.epoch > epoch or s.epoch", "if s.epoch"}},
		conformance,
	},
	{
		"close-open (Lua)", "a late close does not take an open epoch away",
		[]patch{{"inventory/lua/close.lua", "(not s.closed or s.names > 0 or s.items > 0)", "(s.names > 0 or s.items > 0)"}},
		conformance,
	},
	{
		"close-loaded (Lua)", "a late repeat of a close takes nothing away",
		[]patch{{"inventory/lua/close.lua", "(not s.closed or s.names > 0 or s.items > 0)", "(not s.closed)"}},
		conformance,
	},
	{
		"load-open (Lua)", "an open shard is not loaded",
		[]patch{{"inventory/lua/load.lua", "if s.epoch ~= tonumber(ARGV[1]) or not s.closed then\n", "if s.epoch ~= tonumber(ARGV[1]) then\n"}},
		conformance,
	},
	{
		"load-epoch (Lua)", "a rebuild writes under its own close",
		[]patch{{"inventory/lua/load.lua", "if s.epoch ~= tonumber(ARGV[1]) or not s.closed then\n", "if not s.closed then\n"}},
		conformance,
	},
	{
		"load-twice (Lua)", "what is loaded twice is there once",
		[]patch{{"inventory/lua/load.lua", "  if not u.now[item] then\n", "  if true then\n"}},
		conformance,
	},
	{
		"open-epoch (Lua)", "a rebuild opens its own close",
		[]patch{{"inventory/lua/open.lua", "if s.epoch ~= tonumber(ARGV[1]) then\n", "if s.epoch < tonumber(ARGV[1]) then\n"}},
		conformance,
	},
	{
		"doom-touch (Lua)", "a hold that was touched is not doomed",
		[]patch{{"inventory/lua/doom.lua", "and tonumber(touch) <= note then\n", "then\n"}},
		conformance,
	},
	{
		"doom-ordered (Lua)", "an ordered hold is not doomed",
		[]patch{{"inventory/lua/doom.lua", "if where and state == 'F' and", "if where and (state == 'F' or state == 'O') and"}},
		conformance,
	},
	{
		"old-back (Lua)", "a hold that is not decided is looked at again",
		[]patch{{"inventory/lua/old.lua", "if #back > 0 then\n", "if false then\n"}},
		conformance,
	},
	{
		"old-doomed (Lua)", "a doomed hold is looked at again",
		[]patch{{"inventory/lua/old.lua", "    if state == 'F' or state == 'D' then\n      undecided", "    if state == 'F' then\n      undecided"}},
		conformance,
	},
	{
		"restock-unknown (Lua)", "a restock of an unknown item is not applied",
		[]patch{{"inventory/lua/restock.lua", "    ok = '0'\n", "    ok = '1'\n"}},
		conformance,
	},
	{
		"crossing-back (Lua)", "a unit that comes back is announced",
		[]patch{{"inventory/lua/books.lua", "        cross(s, item, now > 0)\n", "        if now <= 0 then cross(s, item, false) end\n"}},
		conformance,
	},
}

// The tests of rules that SQLite and the simulator's log don't have: several transactions at once,
// rows that are locked, a real log.
func inPostgres(test string) proof { return proof{"", "./internal/postgres", test, nil} }
func inKafka(test string) proof    { return proof{"", "./internal/kafka", test, nil} }
func inLeases(test string) proof   { return proof{"", "./internal/leases", test, nil} }

// postgresMutants break the conditions of the real store.
var postgresMutants = []mutant{
	{
		"nocas (PostgreSQL)", "a worker's transaction compares the position with where it read",
		[]patch{{"internal/postgres/position.go", " AND p.next = m.from_next\n				AND p.leader_epoch = m.from_epoch\n", "\n"}},
		inPostgres("TestL2_TwoWorkersWithOnePosition"),
	},
	{
		"notlast (PostgreSQL)", "a fence is of the last epoch that was given out",
		[]patch{{"internal/postgres/shard.go", "AND next_epoch = $2 AND next_epoch > 0", "AND next_epoch > 0"}},
		inPostgres("TestL1_TwoRebuilders"),
	},
	{
		"oldfence (PostgreSQL)", "a fence needs a barrier of this life of the database",
		[]patch{{"internal/postgres/shard.go", "AND next_epoch > 0 AND penstock_incarnation() = $3", "AND next_epoch > 0 AND $3 <> ''"}},
		inPostgres("TestL1_TwoRebuilders"),
	},
	{
		"noshardlock (tombstones)", "a burial has the shard's row while it decides",
		[]patch{{"internal/postgres/bury.go", "penstock_incarnation() = $3 FOR SHARE", "penstock_incarnation() = $3 FOR KEY SHARE"}},
		inPostgres("TestL2_AFenceWaitsForABurialInTheMiddle"),
	},
	{
		"noshardlock (cancellations)", "a desk makes no row while a fence changes the epoch",
		[]patch{{"internal/postgres/event.go", "	if !ok {\n		return seckill.Moved{Locked: true} // a fence",
			"	if false {\n		return seckill.Moved{Locked: true} // a fence"}},
		inPostgres("TestL10_ACancellationGoesAroundAFence"),
	},
	{
		"noabsorb (PostgreSQL)", "a fence takes stock that its snapshot counts out of the outbox",
		[]patch{{"internal/postgres/snapshot.go", `WHERE shard = $1 AND stock"`, `WHERE shard = $1 AND stock AND false"`}},
		inPostgres("TestL1_ARestockAndASnapshot"),
	},
	{
		"early stock rows (PostgreSQL)", "stock changes wait in the outbox until the snapshot of the shard's epoch was taken",
		[]patch{{"internal/postgres/outbox.go", " AND NOT (stock AND l.epoch <> s.epoch)", ""}},
		inPostgres("TestL1_ARestockAndASnapshot"),
	},
	{
		"snapshot-once (PostgreSQL)", "an epoch has one snapshot",
		[]patch{{"internal/postgres/snapshot.go", "AND s.epoch = $2 AND l.epoch < s.epoch", "AND s.epoch = $2"}},
		inPostgres("TestL1_ARestockAndASnapshot"),
	},
	{
		"one snapshot (PostgreSQL)", "a snapshot is of one state",
		[]patch{{"internal/postgres/transaction.go", `"BEGIN ISOLATION LEVEL REPEATABLE READ"`, `"BEGIN ISOLATION LEVEL READ COMMITTED"`}},
		inPostgres("TestL1_ASnapshotIsOfOneState"),
	},
	{
		"item-lock (PostgreSQL)", "two changes of an item's total see each other",
		[]patch{{"internal/postgres/stock.go", "WHERE s.item = $1 ORDER BY s.shard FOR NO KEY UPDATE OF s`", "WHERE s.item = $1 ORDER BY s.shard`"}},
		inPostgres("TestRestock_TwoOfOneItem"),
	},
	{
		"extended (PostgreSQL)", "an order that was extended meanwhile is not timed out",
		[]patch{{"internal/postgres/timeout.go", "			case !ok || !before.PayBy.Before(tx.now):\n", "			case !ok:\n"}},
		inPostgres("TestTimeOut_SeesAnExtension"),
	},
	{
		"draft-lock (PostgreSQL)", "what the change of a draft sees of its units stays so",
		[]patch{{"internal/postgres/activity.go", "AND NOT a.published ORDER BY s.item, s.shard FOR NO KEY UPDATE OF s`", "AND NOT a.published`"}},
		inPostgres("TestUpdateActivity_HoldsTheUnitsOfADraft"),
	},
	{
		"digests-lock (PostgreSQL)", "an order that is parked during a repair of the counters is counted",
		[]patch{{"internal/postgres/recount.go", "ORDER BY slot FOR NO KEY UPDATE", "ORDER BY slot"}},
		inPostgres("TestRecount_HoldsTheDigests"),
	},
	{
		"letters-lock (PostgreSQL)", "a dead letter is discarded by one person",
		[]patch{{"internal/postgres/letters.go", "ORDER BY id FOR UPDATE", "ORDER BY id"}},
		inPostgres("TestDiscardDeadLetters_TwoPeople"),
	},
	{
		"catalog-horizon (PostgreSQL)", "a reader that missed drops which are forgotten reads the whole catalog",
		[]patch{{"internal/postgres/catalog.go", "AND $1 >= horizon THEN", "THEN"}},
		inPostgres("TestLoadCatalog_ForgetsOldDrops"),
	},
}

// kafkaMutants break the real log's reader and writer.
var kafkaMutants = []mutant{
	{
		"marker-refused", "a barrier is not passed by a marker that isn't there",
		[]patch{{"internal/kafka/mark.go", "			if a.err != nil {\n", "			if false {\n"}},
		inKafka("TestL2_AMarkerThatIsRefusedIsNone"),
	},
	{
		"gap-once", "records that didn't come are asked for once, and a hole stops nothing",
		[]patch{{"internal/kafka/haul.go", "		p.hole = offset\n", ""}},
		judged,
	},
	{
		"lost-once", "a log that is replaced again is read from its start again",
		[]patch{{"internal/kafka/haul.go", "	p.hole, p.lost = 0, false\n", "	p.hole = 0\n"}},
		judged,
	},
	{
		"gap-passed", "no record behind a gap is taken",
		[]patch{{"internal/kafka/haul.go", "			h.seek(place, what, r.Offset)\n			break\n", "			h.seek(place, what, r.Offset)\n			continue\n"}},
		inKafka("TestHaul_Take"),
	},
	{
		"trim-unread", "no record above the workers' position is deleted",
		[]patch{{"internal/kafka/trim.go", "min(p.Next, end.Offset-1)", "end.Offset-1"}},
		inKafka("TestConformance/TrimKeepsWhatIsNotCommitted"),
	},
	{
		"between-unread", "records that no worker has read are not read again",
		[]patch{{"internal/kafka/between.go", "min(end.Offset, at.Next)", "end.Offset"}},
		inKafka("TestConformance/BetweenMovesNothing"),
	},
	{
		"between-topic", "an offset of another topic is not read in this one",
		[]patch{{"internal/kafka/between.go", "		case at.Topic != t.id:\n", "		case false:\n"}},
		inKafka("TestBetween_Refuses"),
	},
}

// keptMutants break what a process remembers of quotas.
var keptMutants = []mutant{
	{
		"kept-quota", "what is kept of a day is told for limits with a quota only",
		[]patch{{"internal/leases/kept.go", "a.Quota > 0 && u.Newer(a.Known)", "u.Newer(a.Known)"}},
		inLeases("TestKept_TellsTheNewer"),
	},
	{
		"kept-zero", "a key that was granted nothing takes no room",
		[]patch{{"internal/leases/kept.go", " || !known && u.Granted == 0 {", " {"}},
		inLeases("TestKept_RemembersChangesOnly"),
	},
	{
		"kept-same", "what hasn't changed is not written again",
		[]patch{{"internal/leases/kept.go", "	if known && before == u || ", "	_ = before\n	if "}},
		inLeases("TestKept_RemembersChangesOnly"),
	},
	{
		"kept-full", "the keys that are remembered are bounded",
		[]patch{{"internal/leases/kept.go", "	if !known && len(k.days) >= MaxKept {\n", "	if false {\n"}},
		inLeases("TestKept_IsBounded"),
	},
	{
		"kept-full-count", "keys that find no room are counted",
		[]patch{{"internal/leases/kept.go", "		k.full++\n", ""}},
		inLeases("TestKept_IsBounded"),
	},
	{
		"kept-swept", "all keys are looked at once for each new day",
		[]patch{{"internal/leases/kept.go", "len(k.days) >= MaxKept && k.swept < k.last {", "len(k.days) >= MaxKept {"}},
		inLeases("TestKept_IsBounded"),
	},
	{
		"kept-yesterday", "yesterday is still today in another zone",
		[]patch{{"internal/leases/kept.go", "old.Day < k.last-1", "old.Day < k.last"}},
		inLeases("TestKept_IsBounded"),
	},
	{
		"kept-size", "the file that is read is bounded",
		[]patch{{"internal/leases/kept.go", "info.Size() > maxKeptBytes {", "info.Size() < 0 {"}},
		inLeases("TestKeep_BoundsTheFile"),
	},
}

// heldMutants break scripts in Lua, where the suite's model says nothing.
var heldMutants = []mutant{
	{
		"old-touch (Lua)", "young holds take no room in the answer of a sweep",
		[]patch{{"inventory/lua/old.lua", "      if tonumber(touch) <= note then\n", "      if true then\n"}},
		proof{"", "./inventory", "TestOldPassesYoungHoldsOver", nil},
	},
	{
		"forget-changed (Lua)", "a head with a new hold is not forgotten",
		[]patch{{"inventory/lua/forget.lua", "  if value and value == ARGV[i + 1] then\n", "  if value then\n"}},
		proof{"", "./inventory", "TestForgetMeetsAHold", nil},
	},
}

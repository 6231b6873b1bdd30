// Package node is one process as it ships: it opens the parts, joins them, runs them and stops
// them.
//
//	n, err := node.Start(ctx, cfg, node.RoleGateway|node.RoleWorker, log)
//	// serves at n.PublicURL() and n.AdminURL(), until something arrives on n.Failed()
//	err = n.Stop(ctx)
//
// The parts are in layers. They start in this order, and stop in the reverse order:
//
//	listeners   take their ports; a taken port is the commonest mistake and costs nothing to find
//	log         names the process in its lines; breakers, and what was kept on disk
//	traces      where spans go, if anywhere
//	servers     stock, queue and store: real ones or those in the process
//	settings    limits and switches
//	sale        desk, office and back office (NewSale), from the catalog kept on disk if need be
//	loops       everything that works by itself
//	edges       the admin listener, then the public one: buyers come last and are seen off first
//
// The simulator joins a sale with NewSale, too, and uses the same seams.
//
// It promises that a process starts and serves even if a server can't be reached: it uses the data
// that it kept, and says what is missing. It is ready as soon as it has a catalog, whatever the
// state of the servers. It does not promise that it can sell at that time, because a purchase needs
// servers.
//
// Invariants: a layer is stopped only once, and only if it was started; a part is closed after all
// that use it; a loop ends when its context ends.
package node

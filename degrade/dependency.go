package degrade

// Dependency is something that a process needs, and what its loss costs. A strong one stops its tier; a weak one costs its feature and
// nothing else.
type Dependency struct {
	Name   string `json:"name"`
	Strong bool   `json:"strong"`
	Tier   Tier   `json:"-"`    // the highest that is touched by its loss
	Lost   string `json:"lost"` // what its loss costs
	Goes   string `json:"goes"` // what goes on meanwhile
}

// Dependencies is all of them, the strong ones first.
func Dependencies() []Dependency {
	return []Dependency{
		{"redis", true, Purchasing, "new orders: 503 unavailable", "refusals from memory for a second, pages, status, payment"},
		{"kafka", true, Purchasing, "new orders: 503 unavailable, before anything is held", "everything else"},
		{"database", true, OrderHandling, "status, cancellation, payment and changes by hand: 503 unavailable",
			"new orders: 202; pages; switches for emergencies, over Redis"},
		{"catalog", true, Purchasing, "everything, on a node that never had one", "with one on disk: everything"},
		{"settings", true, Purchasing, "everything, on a node that never had any", "with some on disk: everything"},
		{"event topics", false, Other, "news for other systems wait", "everything else"},
		{"disk of a gateway", false, Other, "a start without the database", "everything else"},
		{"database's clock", false, Other, "a sale begins by the clock as it was seen last", "everything else"},
		{"other gateways", false, Other, "nothing", "everything"},
	}
}

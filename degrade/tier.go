package degrade

// Tier says how much depends on a route or on a job that works by itself. Where there is too little of something, a lower tier does
// without it first.
type Tier uint8

// The tiers, the highest first. At the door one thing is above a new purchase: a fifth of the places is for orders that exist, since
// their buyers were promised something.
const (
	Purchasing    Tier = iota + 1 // a purchase and its payment, and what makes an order of it
	OrderHandling                 // what happens to orders that exist, and what keeps the stock right
	Other                         // everything else: pages, events for other systems, housekeeping
)

// String is the tier for people.
func (t Tier) String() string {
	return [...]string{"", "purchase", "order handling", "everything else"}[t]
}

// RouteTier returns the tier of a route of the public listener, by its name.
func RouteTier(route string) Tier {
	switch route {
	case "buy", "pay":
		return Purchasing
	case "order", "cancel":
		return OrderHandling
	}
	return Other
}

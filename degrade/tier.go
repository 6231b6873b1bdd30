package degrade

// Tier says how much depends on a job that works by itself. Where there is too little of something,
// a lower tier does without it first. Of visits, the Class says it.
type Tier uint8

// The tiers, the highest first.
const (
	Purchasing    Tier = iota + 1 // a purchase and its payment, and what makes an order of it
	OrderHandling                 // what happens to orders that exist, and what keeps the stock right
	Other                         // everything else: pages, events for other systems, housekeeping
)

// String is the tier for people.
func (t Tier) String() string {
	return [...]string{"", "purchase", "order handling", "everything else"}[t]
}

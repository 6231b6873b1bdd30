package degrade

// Tier is the importance of a background job. When a resource is short, a lower tier loses it
// first. For visits, the Class has that role.
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

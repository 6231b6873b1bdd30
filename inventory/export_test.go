package inventory

// HashName is hashName, for tests outside.
func HashName(name string) uint64 { return hashName(name) }

// ParseValue is parseValue, for tests outside. It returns the touches beside the holds.
func ParseValue(head, value string) ([]Entry, []uint64, error) {
	holds, err := parseValue(nil, head, value)
	var entries []Entry
	var touches []uint64
	for _, h := range holds {
		entries, touches = append(entries, h.Entry), append(touches, h.touch)
	}
	return entries, touches, err
}

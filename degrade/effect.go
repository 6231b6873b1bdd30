package degrade

import "fmt"

// Effect describes in plain words what the switch does with this value. The text fits after a
// colon.
func (s *Switch) Effect() string {
	switch s.Name {
	case Orders:
		return onOff(s.Value, "new orders are accepted", "new orders are refused with 503 degraded")
	case Admission:
		return fmt.Sprintf("new orders of %s %% of the buyers are accepted, the others are refused with 503 degraded", s.Value)
	case Wait:
		return onOff(s.Value, "Prefer: wait is used", "Prefer: wait is ignored, and purchases are answered 202 at once")
	case Browse:
		return map[string]string{
			"live": "activity pages are up to date", "static": "activity pages are as they were last rendered",
			"off": "activity pages are refused with 503 degraded",
		}[s.Value]
	case PollInterval:
		return fmt.Sprintf("a queued order may be asked for again after %s seconds", s.Value)
	case Limits:
		return map[string]string{
			"enforce": "limits refuse", "shadow": "limits count requests and refuse none", "off": "limits are not used",
		}[s.Value]
	case LogDetail:
		return onOff(s.Value, "visits are logged one by one", "visits are not logged one by one")
	case Timeouts:
		return map[string]string{
			"on": "orders that aren't paid in time are cancelled", "held": "no order is cancelled because it is not paid",
		}[s.Value]
	case LevelSwitch:
		return levelEffect(s.Value)
	case AutomaticSwitch:
		return map[string]string{
			"on": "nodes enter levels up to D3 automatically", "shadow": "nodes only report which level they would enter",
			"off": "nodes enter no level automatically",
		}[s.Value]
	case RedisBreaker:
		return breakerEffect(s.Value, "Redis")
	case KafkaBreaker:
		return breakerEffect(s.Value, "Kafka")
	case DatabaseBreaker:
		return breakerEffect(s.Value, "the database")
	}
	return string(s.Name) + " is " + s.Value
}

func onOff(value, on, off string) string {
	if value == "on" {
		return on
	}
	return off
}

func levelEffect(value string) string {
	for _, d := range Levels() {
		if d.Level.String() == value {
			return fmt.Sprintf("level %s (%s) turns off %s", value, d.Name, d.TurnsOff)
		}
	}
	return "each node finds its own level"
}

func breakerEffect(value, server string) string {
	return map[string]string{
		"auto": "the breaker before " + server + " decides by the results of calls", "open": "no call for a buyer is sent to " + server,
		"closed": "all calls are sent to " + server + ", even if it doesn't answer", "observe": "the breaker before " + server + " only counts",
	}[value]
}

// IsNormal reports whether the value is the switch's default.
func (s *Switch) IsNormal() bool {
	_, k, ok := kindOf(s.Name)
	return ok && k.text(k.normal) == s.Value
}

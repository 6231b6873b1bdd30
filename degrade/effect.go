package degrade

import "fmt"

// Effect says what the switch does with this value, in plain words that fit behind a colon.
func (s *Switch) Effect() string {
	switch s.Name {
	case Orders:
		return onOff(s.Value, "new orders are taken", "new orders are refused with 503 degraded")
	case Admission:
		return fmt.Sprintf("new orders of %s %% of the buyers are taken, the others are refused with 503 degraded", s.Value)
	case Wait:
		return onOff(s.Value, "Prefer: wait is honoured", "Prefer: wait is not honoured, and purchases are answered 202 at once")
	case Browse:
		return map[string]string{
			"live": "activity pages are as they are", "static": "activity pages are as they were rendered last",
			"off": "activity pages are refused with 503 degraded",
		}[s.Value]
	case PollInterval:
		return fmt.Sprintf("a queued order may be asked for again after %s seconds", s.Value)
	case Limits:
		return map[string]string{
			"enforce": "limits refuse", "shadow": "limits are counted and refuse nothing", "off": "limits are not asked",
		}[s.Value]
	case LogDetail:
		return onOff(s.Value, "visits are logged one by one", "visits are not logged one by one")
	case Timeouts:
		return map[string]string{
			"on": "orders that aren't paid in time are cancelled", "held": "no order is cancelled for want of payment",
		}[s.Value]
	case LevelSwitch:
		return levelEffect(s.Value)
	case AutomaticSwitch:
		return map[string]string{
			"on": "nodes enter levels up to D3 by themselves", "shadow": "nodes only say which level they would enter",
			"off": "nodes enter no level by themselves",
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
	return "the level is as each node finds it"
}

func breakerEffect(value, server string) string {
	return map[string]string{
		"auto": "the breaker before " + server + " decides by what it sees", "open": "nothing of buyers is sent to " + server,
		"closed": "everything is sent to " + server + ", also while it is away", "observe": "the breaker before " + server + " only counts",
	}[value]
}

// IsNormal reports whether the switch has the value that holds without it.
func (s *Switch) IsNormal() bool {
	_, k, ok := kindOf(s.Name)
	return ok && k.text(k.normal) == s.Value
}

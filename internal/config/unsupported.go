package config

// unsupported are settings with a name and no work done behind it. Taking
// them in silence would let an operator believe that they hold. Whoever does the
// work removes the line.
var unsupported = []struct {
	key   string
	what  string
	asked func(*Config) bool
}{}

func (c *Config) refused() []problem {
	var all []problem
	for _, u := range unsupported {
		if u.asked(c) {
			all = append(all, problem{u.key, u.what + " is not part of this version yet"})
		}
	}
	return all
}

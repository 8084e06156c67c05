package member

import (
	"context"
	"strings"
	"testing"
)

// named lets a node have queues in a database of that name.
func named(tables string) func(*Options) {
	return func(o *Options) {
		o.Replicas = 1
		o.Tables = func(context.Context) (string, error) { return tables, nil }
		o.Holds = func() bool { return o.Leader() != 0 && tables != "" }
	}
}

// TestTables: all nodes of a cluster have queues in the same database or none, and with such queues all have all groups, however few replicas
// there are to be.
func TestTables(t *testing.T) {
	one := newMachine(t, named("here"))
	if err := one.start("", nil); err != nil {
		t.Fatal(err)
	}
	defer one.kill()
	if got, known := one.m.Tables(); got != "" || known {
		t.Errorf("a node alone belongs to a cluster with queues in %q", got)
	}
	for tables, why := range map[string]string{"": "every node must reach them", "elsewhere": "leads to another database"} {
		other := newMachine(t, named(tables))
		if err := other.start(one.token(t), one); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("a node with queues in %q: %v, not %s", tables, err, why)
		}
	}
	two := newMachine(t, named("here"))
	if err := two.start(one.token(t), one); err != nil {
		t.Fatal(err)
	}
	defer two.kill()
	if r := one.settled(t, 2); r.Replicas != 1 || r.Tables == "" {
		t.Errorf("%d replicas, and %q has the tables", r.Replicas, r.Tables)
	}
	until(t, "both know whose tables they are", func() bool {
		first, _ := one.m.Tables()
		second, known := two.m.Tables()
		return first == "here" && second == "here" && known
	})

	none := newMachine(t, nil)
	if err := none.start("", nil); err != nil {
		t.Fatal(err)
	}
	defer none.kill()
	third := newMachine(t, named("here"))
	if err := third.start(none.token(t), none); err == nil || !strings.Contains(err.Error(), "begun without") {
		t.Errorf("a cluster without such queues lets a node in that has some: %v", err)
	}
}

package kill_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/load"
	"github.com/gmq/gmq/test/mariadb"
)

var mysqlKills = flag.Int("mysql-kills", 5, "how often the server is killed over MySQL, and how often the database")

const leastRateMySQL = 300 // confirms a second of serving; with less the load was not real

// TestKillOverMySQL kills the server, whose messages are in a database that lives on.
func TestKillOverMySQL(t *testing.T) { workOverMySQL(t, "OverMySQL", false) }

// TestKillMySQL kills the database, under a server that lives on.
func TestKillMySQL(t *testing.T) { workOverMySQL(t, "MySQL", true) }

func workOverMySQL(t *testing.T, run string, database bool) {
	n := *mysqlKills
	if testing.Short() {
		n = min(n, 3)
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	again := fmt.Sprintf("go test -count=1 ./test/kill -run TestKill%s -mysql-kills %d -seed %d", run, n, *seed)
	t.Log(again)
	db := mariadb.Get(t)
	if database {
		db.NeedPrivate(t)
	}
	server := harness.Start(t, "")
	server.UseMySQL(db.Database(t))
	server.Restart()
	main := load.Kind{Queue: "kill.main", Publishers: 4, Fate: load.Accepted, Size: load.Small, Room: 5_000}
	mortal := load.Mortal("kill.mortal")
	if database {
		main.Refusals, mortal.Refusals = []string{"overloaded"}, []string{"overloaded"}
	}
	r := &trial{t: t, server: server, Trial: load.NewTrial(t, server, load.Team{Kind: main, Consumers: 4}, mortal)}
	defer func() {
		for _, fault := range r.Faults() {
			t.Error(fault)
		}
		if t.Failed() {
			t.Log("again: ", again)
		}
	}()
	started := time.Now()
	if database {
		if !r.endDatabase(db, n) {
			return
		}
	} else if r.end(n) < n {
		return
	}
	v := r.Finish()
	rate := float64(v.Confirmed) / r.serving.Seconds()
	t.Logf("kills %d, %v; %.0f confirms a second of serving, seconds %.1f (serving %.1f, dying %.1f, starting %.1f)",
		n, v, rate, time.Since(started).Seconds(), r.serving.Seconds(), r.dying.Seconds(), r.rising.Seconds())
	if rate < leastRateMySQL {
		t.Errorf("%.0f confirms a second: the load was not real, it takes %d", rate, leastRateMySQL)
	}
}

// endDatabase kills the database n times, each 50 to 250 ms after something was confirmed again.
func (r *trial) endDatabase(db *mariadb.Server, n int) bool {
	chance := rand.New(rand.NewPCG(*seed, 0))
	r.Begin()
	ready := time.Now()
	for i := range n {
		<-time.After(50*time.Millisecond + time.Duration(chance.Int64N(int64(200*time.Millisecond))))
		killed := time.Now()
		r.serving += killed.Sub(ready)
		db.Kill()
		gone := time.Now()
		r.dying += gone.Sub(killed)
		if err := db.Up(); err != nil {
			r.t.Errorf("after %d kills: %v", i+1, err)
			return false
		}
		before := r.Main.Counts().Confirmed
		harness.Eventually(r.t, "something is confirmed again", func() bool { return r.Main.Counts().Confirmed > before || !r.server.Running() })
		if !r.server.Running() {
			r.t.Errorf("the server ended by itself after %d kills of the database", i+1)
			return false
		}
		ready = time.Now()
		r.rising += ready.Sub(gone)
	}
	return true
}

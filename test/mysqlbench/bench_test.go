// Package mysqlbench_test measures the storage in MySQL against what a database can do by itself: confirmed publishes
// against a bare loop of multi-row INSERTs, and a message's whole way against a table that workers poll.
//
//	go test ./test/mysqlbench -run '^$' -bench . -benchtime 1x
package mysqlbench_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/mariadb"
)

func TestMain(m *testing.M) {
	if os.Getenv(mariadb.DirVariable) == "" { // a disk, as in production
		os.Setenv(mariadb.DirVariable, os.TempDir())
	}
	os.Exit(harness.Main(m))
}

const (
	span    = 3 * time.Second // of each measurement
	flight  = 1000            // publishes without a confirm
	workers = 8
	body    = 100 // bytes
)

// start is a server over a new database.
func start(b *testing.B) (*harness.Server, *sql.DB) {
	dsn := mariadb.Get(b).Database(b)
	s := harness.Start(b, "")
	s.UseMySQL(dsn)
	s.Restart()
	return s, mariadb.Connect(b, dsn)
}

// commits is how many transactions the journal has done.
func commits(b *testing.B, db *sql.DB) (n int64) {
	if err := db.QueryRow("SELECT commits FROM gmq_epoch").Scan(&n); err != nil {
		b.Fatal(err)
	}
	return n
}

// publish keeps window publishes to a queue on their way until stop is closed, and counts the confirms.
func publish(addr, queue string, window int, confirmed *atomic.Int64, stop chan struct{}) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	line := []byte(fmt.Sprintf(`{"op":"publish","queue":"%s","body":"%s"}`+"\n", queue, strings.Repeat("x", body-2)))
	credit := make(chan int, window)
	failed := make(chan error, 1)
	go func() {
		r := bufio.NewReaderSize(c, 64<<10)
		for {
			got, err := r.ReadSlice('\n')
			if err == nil && !bytes.Contains(got, []byte(`"ok":true`)) {
				err = fmt.Errorf("%s", got)
			}
			if err != nil {
				failed <- err
				return
			}
			n := 1
			for r.Buffered() > 0 {
				rest, _ := r.Peek(r.Buffered())
				more := bytes.Count(rest, []byte{'\n'})
				if more == 0 {
					break
				}
				r.Discard(bytes.LastIndexByte(rest, '\n') + 1)
				n += more
			}
			confirmed.Add(int64(n))
			credit <- n
		}
	}()
	for n := window; ; {
		if _, err := c.Write(bytes.Repeat(line, n)); err != nil {
			return err
		}
		select {
		case n = <-credit:
			for len(credit) > 0 {
				n += <-credit
			}
		case err := <-failed:
			return err
		case <-stop:
			return nil
		}
	}
}

// consume takes and acks until stop is closed, and counts what was settled.
func consume(addr, queue string, settled *atomic.Int64, stop chan struct{}) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	go func() { <-stop; c.Close() }()
	fmt.Fprintf(c, `{"op":"subscribe","queue":"%s","credit":1000}`+"\n", queue)
	r := bufio.NewReaderSize(c, 256<<10)
	var acks []byte
	n := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil
		}
		if at := bytes.Index(line, []byte(`"seq":`)); at >= 0 && bytes.HasPrefix(line, []byte(`{"op":"message"`)) {
			seq := line[at+6:]
			seq = seq[:bytes.IndexByte(seq, ',')]
			acks = append(append(acks, seq...), ',')
			n++
		} else if bytes.Contains(line, []byte(`"settled":`)) {
			at := bytes.Index(line, []byte(`"settled":`))
			var k int64
			fmt.Sscanf(string(line[at+10:]), "%d", &k)
			settled.Add(k)
		}
		if n > 0 && (n >= 200 || r.Buffered() == 0) {
			fmt.Fprintf(c, `{"op":"ack","queue":"%s","seq":[%s]}`+"\n", queue, acks[:len(acks)-1])
			acks, n = acks[:0], 0
		}
	}
}

// rate counts for a span, after a beginning that does not count.
func rate(count *atomic.Int64) float64 {
	<-time.After(span / 6)
	from, began := count.Load(), time.Now()
	<-time.After(span)
	return float64(count.Load()-from) / time.Since(began).Seconds()
}

func BenchmarkPublish(b *testing.B) {
	s, db := start(b)
	var confirmed atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	before := commits(b, db)
	for w := range workers {
		wg.Go(func() {
			if err := publish(s.Addr, fmt.Sprint("q", w), flight/workers, &confirmed, stop); err != nil {
				b.Error(err)
			}
		})
	}
	ours := rate(&confirmed)
	batch := int(confirmed.Load() / max(commits(b, db)-before, 1))
	close(stop)
	wg.Wait()
	s.Kill()
	bare := insertLoop(b, db, batch)
	once(b)
	b.ReportMetric(ours, "gmq/s")
	b.ReportMetric(bare, "bare/s")
	b.ReportMetric(float64(batch), "rows/transaction")
	b.ReportMetric(100*ours/bare, "%")
}

// insertLoop is the bare loop: one connection, one statement and one commit for each batch.
func insertLoop(b *testing.B, db *sql.DB, batch int) float64 {
	ctx := context.Background()
	conn, err := db.Conn(ctx)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "CREATE TABLE bare LIKE gmq_message"); err != nil {
		b.Fatal(err)
	}
	if _, err := conn.ExecContext(ctx, "SET autocommit = 0"); err != nil {
		b.Fatal(err)
	}
	n, text := 0, strings.Repeat("x", body-2)
	began := time.Now()
	for time.Since(began) < span {
		var q strings.Builder
		q.WriteString("INSERT INTO bare (place, queue, seq, published, due, attempts, headers, body, body_place, head, crc) VALUES ")
		for i := range batch {
			if i > 0 {
				q.WriteByte(',')
			}
			fmt.Fprintf(&q, `(%d,'q%d',%d,'2026-11-23 05:00:00.000000',NULL,0,NULL,'"%s"',NULL,'0123456789abcdef',%d)`, 4096+n*128, n%workers, n, text, n)
			n++
		}
		if _, err := conn.ExecContext(ctx, q.String()); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n) / time.Since(began).Seconds()
}

func BenchmarkWholeWay(b *testing.B) {
	s, db := start(b)
	var confirmed, settled atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range workers {
		q := fmt.Sprint("q", w%4)
		wg.Go(func() {
			if err := publish(s.Addr, q, flight/workers, &confirmed, stop); err != nil {
				b.Error(err)
			}
		})
		wg.Go(func() {
			if err := consume(s.Addr, q, &settled, stop); err != nil {
				b.Error(err)
			}
		})
	}
	ours := rate(&settled)
	close(stop)
	wg.Wait()
	b.Logf("%d confirmed, %d settled", confirmed.Load(), settled.Load())
	s.Kill()
	polled := poll(b, db)
	once(b)
	b.ReportMetric(ours, "gmq/s")
	b.ReportMetric(polled, "polled/s")
	b.ReportMetric(ours/polled, "times")
}

// poll is the table that everybody builds: workers insert a row in a transaction, and others take one in a transaction.
func poll(b *testing.B, db *sql.DB) float64 {
	ctx := context.Background()
	db.SetMaxIdleConns(2 * workers)
	if _, err := db.ExecContext(ctx, "CREATE TABLE jobs (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, body LONGTEXT NOT NULL) ENGINE=InnoDB"); err != nil {
		b.Fatal(err)
	}
	var done atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	text := `"` + strings.Repeat("x", body-2) + `"`
	for range workers {
		wg.Go(func() {
			for !over(stop) {
				if _, err := db.ExecContext(ctx, "INSERT INTO jobs (body) VALUES (?)", text); err != nil {
					b.Error(err)
					return
				}
			}
		})
		wg.Go(func() {
			for !over(stop) {
				took, err := takeOne(ctx, db)
				if err != nil {
					b.Error(err)
					return
				}
				if took {
					done.Add(1)
				}
			}
		})
	}
	r := rate(&done)
	close(stop)
	wg.Wait()
	return r
}

func over(stop chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// takeOne takes one row, in one transaction.
func takeOne(ctx context.Context, db *sql.DB) (bool, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	var id int64
	var text string
	err = tx.QueryRowContext(ctx, "SELECT id, body FROM jobs ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED").Scan(&id, &text)
	if err == sql.ErrNoRows {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM jobs WHERE id = ?", id); err != nil {
		return false, err
	}
	return true, tx.Commit()
}

// once lets the benchmark's own loop, which measures nothing here, be over before metrics are reported: it forgets earlier ones.
func once(b *testing.B) {
	for b.Loop() {
	}
}

// BenchmarkBacklog is how fast messages are delivered and acked that the server has to fetch, and how long it takes to start with them.
func BenchmarkBacklog(b *testing.B) {
	const n = 200_000
	s, _ := start(b)
	c := s.Dial(b)
	text := strings.Repeat(fmt.Sprintf(`,{"body":"%s"}`, strings.Repeat("x", body-2)), 1000)[1:]
	for range n / 1000 {
		c.OK(`{"op":"publish","queue":"q","messages":[%s]}`, text)
	}
	s.Kill()
	began := time.Now()
	if err := s.Up(); err != nil {
		b.Fatal(err)
	}
	up := time.Since(began)
	var settled atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	began = time.Now()
	for range workers {
		wg.Go(func() {
			if err := consume(s.Addr, "q", &settled, stop); err != nil {
				b.Error(err)
			}
		})
	}
	harness.Eventually(b, "all are acked", func() bool { return settled.Load() >= n })
	took := time.Since(began)
	close(stop)
	wg.Wait()
	once(b)
	b.ReportMetric(n/took.Seconds(), "fetched/s")
	b.ReportMetric(up.Seconds()*1000, "ms/start")
}

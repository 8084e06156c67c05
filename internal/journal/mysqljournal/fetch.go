package mysqljournal

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/gmq/gmq/internal/journal"
)

// What is not in the cache is fetched by one of the readers, while the owner goes on with other things: it is woken when
// the rows are there. With them come those behind the last one in its queue, which will be wanted next.

const (
	// maxReaders is how many fetches go on at a time.
	maxReaders = 4
	// A shard remembers its latest fetches: fetchesKept at least, and more of them as long as they take no more than fetchedBytes.
	fetchesKept, fetchedBytes = 4, 4 << 20
	// aheadBytes is about how much is read ahead.
	aheadBytes = 512 << 10
	aheadRows  = 500
)

// A record is a fetched one, or why it cannot be had.
type record struct {
	payload []byte
	err     error
	fetch   uint64 // with which it came
}

// Read implements journal.Journal.
func (s *Shard) Read(refs []journal.Ref, into [][]byte) ([][]byte, error) {
	if !s.j.tenured() { // what is in memory may be settled elsewhere; renew wakes
		return into, journal.ErrUnavailable
	}
	had := len(into)
	var missing []journal.Ref
	var err error
	c := &s.j.cache
	c.mu.RLock()
	s.mu.Lock()
	var b *block
	for _, ref := range refs {
		if b = c.find(ref, b); b != nil {
			p, ok := b.record(ref)
			if !ok {
				err = fmt.Errorf("mysql: no record at %d", ref)
				break
			}
			into = append(into, p)
		} else if r, ok := s.lookup(ref); !ok {
			missing = append(missing, ref)
		} else if r.err != nil {
			err = r.err
			break
		} else {
			into = append(into, r.payload)
		}
	}
	if len(missing) > 0 && err == nil {
		if err = journal.ErrNotYet; s.vain {
			err = journal.ErrUnavailable
		}
		if len(s.wanted) > 0 {
			s.next = missing
		} else if s.j.ctx.Err() == nil {
			s.wanted = missing
			s.j.fetches <- s // has room for every shard
		}
	}
	s.mu.Unlock()
	c.mu.RUnlock()
	if err != nil {
		return into[:had], err
	}
	return into, nil
}

// record is the payload of the record at ref; false where none begins there, as far as that can be told.
func (b *block) record(ref journal.Ref) ([]byte, bool) {
	at := int(ref - b.base)
	if at+journal.HeaderBytes > len(b.data) {
		return nil, false
	}
	n := int(uint32(b.data[at]) | uint32(b.data[at+1])<<8 | uint32(b.data[at+2])<<16 | uint32(b.data[at+3])<<24)
	if n > len(b.data)-at-journal.HeaderBytes {
		return nil, false
	}
	return b.data[at+journal.HeaderBytes:][:n:n], true
}

// lookup finds what was fetched. Called with mu held.
func (s *Shard) lookup(ref journal.Ref) (record, bool) {
	r, ok := s.records[ref]
	return r, ok
}

// A fetched is what came with one fetch.
type fetched struct {
	number uint64
	refs   []journal.Ref
	bytes  int
}

// remember keeps what has come. Called with mu held.
func (s *Shard) remember(got map[journal.Ref]record) {
	f := fetched{number: s.fetches}
	for ref, r := range got {
		f.refs = append(f.refs, ref)
		f.bytes += len(r.payload) + 100
		r.fetch = f.number
		s.records[ref] = r
	}
	s.fetched = append(s.fetched, f)
	s.fetchedSum += f.bytes
	for s.fetchedSum > fetchedBytes && len(s.fetched) > fetchesKept {
		old := s.fetched[0]
		s.fetched[0] = fetched{}
		s.fetched = s.fetched[1:]
		s.fetchedSum -= old.bytes
		for _, ref := range old.refs {
			if s.records[ref].fetch == old.number { // else it came again since
				delete(s.records, ref)
			}
		}
	}
}

// fetchLoop is a reader.
func (j *Journal) fetchLoop() {
	var conn *sql.Conn
	defer func() {
		if conn != nil {
			discard(conn)
		}
	}()
	for {
		select {
		case s := <-j.fetches:
			s.mu.Lock()
			wanted := s.wanted
			s.fetches++
			n := s.fetches
			s.mu.Unlock()
			late := time.AfterFunc(j.opt.Slow, func() { s.inVain(n) })
			got := j.fetch(&conn, wanted)
			late.Stop()
			if got == nil {
				return
			}
			s.mu.Lock()
			s.vain = false
			s.fetches++
			s.remember(got)
			s.wanted, s.next = s.unread(), nil
			more := len(s.wanted) > 0
			s.mu.Unlock()
			if more {
				j.fetches <- s
			}
			s.callWake()
		case <-j.ctx.Done():
			return
		}
	}
}

// inVain notes that the n-th fetch takes long, if it is still under way.
func (s *Shard) inVain(n uint64) {
	s.mu.Lock()
	late := s.fetches == n
	s.vain = s.vain || late
	s.mu.Unlock()
	if late {
		s.callWake()
	}
}

// unread are those of next that have not been fetched. Called with mu held.
func (s *Shard) unread() (refs []journal.Ref) {
	for _, ref := range s.next {
		if _, ok := s.lookup(ref); !ok {
			refs = append(refs, ref)
		}
	}
	return refs
}

// fetch gets records from the tables, however long it takes; nil where the journal ends first.
func (j *Journal) fetch(conn **sql.Conn, refs []journal.Ref) map[journal.Ref]record {
	for n := 0; ; n++ {
		got := map[journal.Ref]record{}
		err := j.tryFetch(conn, refs, got)
		if err == nil {
			for _, ref := range refs {
				if _, ok := got[ref]; !ok {
					got[ref] = record{err: fmt.Errorf("mysql: there is no message with the place %d in gmq_message or gmq_body", ref)}
				}
			}
			return got
		}
		if n == 3 {
			j.opt.Logf("mysql: messages cannot be read, and are not delivered for the time being: %v", err)
		}
		if *conn != nil {
			discard(*conn)
			*conn = nil
		}
		if !sleep(j.ctx, backoff(n)) {
			return nil
		}
	}
}

func (j *Journal) tryFetch(conn **sql.Conn, refs []journal.Ref, got map[journal.Ref]record) error {
	if *conn == nil {
		c, err := j.connect(j.ctx, reads)
		if err != nil {
			return err
		}
		*conn = c
	}
	ctx, c := j.ctx, *conn
	var in []byte
	for i, ref := range refs {
		if i > 0 {
			in = append(in, ',')
		}
		in = appendInt(in, int64(ref))
	}
	bytes, err := collect(ctx, c, "SELECT place, head, headers, body, crc FROM gmq_message WHERE body_place IS NULL AND place IN ("+string(in)+")", got)
	if err != nil {
		return err
	}
	if len(got) < len(refs) {
		more, err := collect(ctx, c, "SELECT place, head, headers, body, crc FROM gmq_body WHERE place IN ("+string(in)+")", got)
		if err != nil {
			return err
		}
		bytes += more
	}
	if len(got) == 0 || bytes >= aheadBytes || len(refs) >= aheadRows {
		return nil
	}
	rows := min(aheadRows, (aheadBytes-bytes)/max(bytes/len(got), 1))
	if rows < 2 {
		return nil
	}
	last := refs[len(refs)-1]
	_, err = collect(ctx, c, fmt.Sprintf("SELECT b.place, b.head, b.headers, b.body, b.crc FROM gmq_message a JOIN gmq_message b ON b.queue = a.queue AND b.seq > a.seq AND b.seq <= a.seq + %d "+
		"WHERE a.place = %d AND b.body_place IS NULL", rows, last), got)
	return err
}

// collect adds the rows of a query, and returns how many bytes they are.
func collect(ctx context.Context, conn *sql.Conn, query string, got map[journal.Ref]record) (bytes int, err error) {
	rows, err := conn.QueryContext(ctx, query)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var place, crc int64
	var head, headers, body sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&place, &head, &headers, &body, &crc); err != nil {
			return bytes, err
		}
		payload := make([]byte, 0, len(head)+len(headers)+len(body))
		payload = append(append(append(payload, head...), headers...), body...)
		r := record{payload: payload}
		if int64(sum(journal.Ref(place), payload)) != crc {
			r = record{err: fmt.Errorf("mysql: the message with the place %d is not as it was written: its checksum is wrong", place)}
		}
		got[journal.Ref(place)] = r
		bytes += len(payload) + 64
	}
	return bytes, rows.Err()
}

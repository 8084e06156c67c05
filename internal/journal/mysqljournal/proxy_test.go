package mysqljournal

import (
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// What a proxy does with a statement.
type action struct {
	cut  bool   // the connection, before the server has seen it
	late bool   // the connection, when the server has done it
	code uint16 // the answer is that error, and the server never sees it
	text string
	done bool // with code: the server does it, and its answer is replaced
}

// A proxy stands between the journal and the server, and is where things go wrong.
type proxy struct {
	server *mysql.Config
	dsn    string

	mu    sync.Mutex
	judge func(query string) action
}

func newProxy(t *testing.T, dsn string) *proxy {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "p"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	own := cfg.Clone()
	own.Net, own.Addr = "unix", l.Addr().String()
	p := &proxy{server: cfg, dsn: own.FormatDSN()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

// on sets what becomes of statements from now on.
func (p *proxy) on(judge func(query string) action) {
	p.mu.Lock()
	p.judge = judge
	p.mu.Unlock()
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	s, err := net.Dial(p.server.Net, p.server.Addr)
	if err != nil {
		return
	}
	defer s.Close()
	late := make(chan struct{})
	instead := make(chan action, 1)
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := s.Read(buf)
			select {
			case <-late:
				err = io.EOF
			default:
			}
			if err != nil {
				c.Close()
				return
			}
			select {
			case a := <-instead:
				c.Write(errorPacket(a))
			default:
				c.Write(buf[:n])
			}
		}
	}()
	for {
		head := make([]byte, 4)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		packet := append(head, make([]byte, int(head[0])|int(head[1])<<8|int(head[2])<<16)...)
		if _, err := io.ReadFull(c, packet[4:]); err != nil {
			return
		}
		if len(packet) > 5 && packet[4] == 3 {
			p.mu.Lock()
			judge := p.judge
			p.mu.Unlock()
			if judge != nil {
				switch a := judge(string(packet[5:])); {
				case a.cut:
					return
				case a.late:
					close(late)
				case a.done:
					instead <- a
				case a.code != 0:
					c.Write(errorPacket(a))
					continue
				}
			}
		}
		if _, err := s.Write(packet); err != nil {
			return
		}
	}
}

// errorPacket is an ERR packet in answer to a command.
func errorPacket(a action) []byte {
	body := append(binary.LittleEndian.AppendUint16([]byte{0xff}, a.code), "#HY000"+a.text...)
	return append([]byte{byte(len(body)), byte(len(body) >> 8), 0, 1}, body...)
}

// mysqlError is an error of the server: its number, and what it says.
func mysqlError(text string) error {
	e := &mysql.MySQLError{}
	number, message, _ := strings.Cut(text, " ")
	n, _ := strconv.ParseUint(number, 10, 16) // those of the tests are numbers
	e.Number, e.Message = uint16(n), message
	return e
}

func is(query, what string) bool { return strings.HasPrefix(query, what) }

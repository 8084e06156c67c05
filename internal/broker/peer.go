package broker

// A Peer is what the transport knows of the client before it has said anything.
type Peer struct {
	Secure bool // the connection is encrypted
	// PeerNames are the names of the certificate that the client has proved to hold, the identity first. There
	// are none where it presented none, or where the transport does not ask.
	PeerNames []string
}

// SetPeer says who is at the other end. Only the session's reader may call it, before the
// first request; nothing changes it afterwards.
func (s *Session) SetPeer(p Peer) { s.peer = p }

// Peer is what SetPeer was told last.
func (s *Session) Peer() Peer { return s.peer }

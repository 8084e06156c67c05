package server

import (
	"slices"

	"github.com/gmq/gmq/wire"
)

// A Cluster carries out the requests about the nodes of a cluster. Do appends what the reply holds; it may wait.
type Cluster interface {
	Do(r *wire.Request, dst []byte) ([]byte, *wire.Error)
}

var clusterOps = []wire.Op{wire.OpClusterToken, wire.OpClusterStatus, wire.OpClusterRemove, wire.OpClusterTransfer}

// carrier is who carries out an operation that the broker does not know.
func (s *Server) carrier(op wire.Op) func(r *wire.Request, dst []byte) ([]byte, *wire.Error) {
	switch {
	case !slices.Contains(clusterOps, op):
		return s.opt.Auth.Do
	case s.opt.Cluster != nil:
		return s.opt.Cluster.Do
	}
	return func(r *wire.Request, dst []byte) ([]byte, *wire.Error) {
		return dst, wire.Errorf(wire.CodeBadRequest, "%s: this server is made to be alone", r.Op.String())
	}
}

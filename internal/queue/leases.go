package queue

// A lease is the owner's promise to one consumer. prev and next link the
// leases of one consumer, as seqs; 0 ends the list.
type lease struct {
	at         int64 // ends at, unix ns
	c          *Consumer
	prev, next uint64
	timer      uint32 // its entry in leaseEnds; 0: it has none
	returning  bool   // its end has been proposed
}

// fewMost is how many leases of a chunk lie in fewLeases. Where many queues take turns, each has one or two
// messages with a consumer at a time; a block with a place for every message of the chunk would be nearly all air.
const fewMost = 4

type fewLeases struct {
	index [fewMost]uint8 // which messages of the chunk they are of
	n     int
	at    [fewMost]lease
	_     [2]uint64 // so that blocks begin where lines of memory do
}

type allLeases [chunkLen]lease

// spareFew and spareAll are how many emptied blocks of either kind are kept to be used again.
const spareFew, spareAll = 1024, 64

// A leasePool keeps blocks of leases to be used again by any queue of a state.
type leasePool struct {
	few []*fewLeases
	all []*allLeases
}

// lease is that of a leased message.
func (c *chunk) lease(seq uint64) *lease {
	if c.all != nil {
		return &c.all[seq&(chunkLen-1)]
	}
	return c.few.find(uint8(seq & (chunkLen - 1)))
}

func (f *fewLeases) find(i uint8) *lease {
	k := 0
	for f.index[k] != i { // it is there
		k++
	}
	return &f.at[k]
}

// add makes room for the lease of message seq in its chunk.
func (p *leasePool) add(c *chunk, seq uint64) *lease {
	c.leased++
	switch {
	case c.all != nil:
		return &c.all[seq&(chunkLen-1)]
	case c.few == nil:
		c.few = p.newFew()
	case c.few.n == fewMost:
		c.all = p.newAll()
		for k, i := range c.few.index {
			c.all[i] = c.few.at[k]
		}
		*c.few = fewLeases{}
		p.dropFew(c)
		return &c.all[seq&(chunkLen-1)]
	}
	f := c.few
	f.index[f.n] = uint8(seq & (chunkLen - 1))
	f.n++
	return &f.at[f.n-1]
}

// drop forgets the lease of message seq.
func (p *leasePool) drop(c *chunk, seq uint64) {
	c.leased--
	i := uint8(seq & (chunkLen - 1))
	if c.all != nil {
		c.all[i] = lease{}
		if c.leased == 0 {
			if len(p.all) < spareAll {
				p.all = append(p.all, c.all)
			}
			c.all = nil
		}
		return
	}
	f := c.few
	f.n--
	k := 0
	for f.index[k] != i {
		k++
	}
	f.index[k], f.at[k] = f.index[f.n], f.at[f.n]
	f.at[f.n] = lease{}
	if f.n == 0 {
		p.dropFew(c)
	}
}

func (p *leasePool) newFew() *fewLeases {
	n := len(p.few)
	if n == 0 {
		return new(fewLeases)
	}
	f := p.few[n-1]
	p.few = p.few[:n-1]
	return f
}

// dropFew takes away a block in which nothing is left: no lease, that is, and where they were is of no meaning.
func (p *leasePool) dropFew(c *chunk) {
	if len(p.few) < spareFew {
		p.few = append(p.few, c.few)
	}
	c.few = nil
}

func (p *leasePool) newAll() *allLeases {
	n := len(p.all)
	if n == 0 {
		return new(allLeases)
	}
	a := p.all[n-1]
	p.all = p.all[:n-1]
	return a
}

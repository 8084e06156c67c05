package broker

// A part is what one node has of publishes to topics.
type part struct{}

func (p *part) lost()                     {}
func (p *part) told(kind byte, r *reader) {}

func (g *Guest) claim(number uint64, r *reader)  {}
func (g *Guest) launch(number uint64, r *reader) {}
func (g *Guest) forget(number uint64)            {}

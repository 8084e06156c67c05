package queue

// Untake undoes Take, or TakeFor, of a message that could not be handed over: as if nobody had ever had it.
func (st *State) Untake(d *Delivery) {
	q := d.Queue
	c, m := q.find(d.Seq)
	if m == nil || m.state != leased || c.lease(d.Seq).c != d.C {
		return // it was ended meanwhile
	}
	st.unlease(q, d.Seq, c)
	q.Delivered--
	st.stepBack(q, d.Seq, m)
	st.makeReady(q, d.Seq, m)
	st.enterRing(d.C)
}

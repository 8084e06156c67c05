package history

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// ops are operations that one client does one after the other.
func ops(all ...any) (history []porcupine.Operation) {
	for i := 0; i < len(all); i += 2 {
		at := int64(i) * 10
		history = append(history, porcupine.Operation{Input: all[i], Output: all[i+1], Call: at, Return: at + 5})
	}
	return history
}

// A model that finds nothing wrong proves nothing.
func TestModelFinds(t *testing.T) {
	pub, rec := input{op: publish}, input{op: receive}
	first := output{seq: 1, receipt: 1}
	again := output{seq: 1, receipt: 2, redelivered: true}
	for name, c := range map[string]struct {
		good, lossy bool
		history     []porcupine.Operation
	}{
		"a good life":              {good: true, history: ops(pub, output{seq: 1}, rec, first, input{op: ack, receipt: 1}, output{}, rec, output{})},
		"nacked":                   {good: true, history: ops(pub, output{seq: 1}, rec, first, input{op: nack, receipt: 1}, output{}, rec, again, input{op: ack, receipt: 2}, output{})},
		"a number twice":           {history: ops(pub, output{seq: 1}, pub, output{seq: 1})},
		"a number left out":        {history: ops(pub, output{seq: 2})},
		"lost":                     {history: ops(pub, output{seq: 1}, rec, output{})},
		"untold":                   {good: true, lossy: true, history: ops(pub, output{seq: 1}, pub, output{seq: 2}, rec, output{seq: 2, receipt: 1}, rec, output{}, rec, output{seq: 1, receipt: 2, redelivered: true})},
		"untold and not marked":    {lossy: true, history: ops(pub, output{seq: 1}, rec, output{}, rec, first)},
		"too many untold":          {lossy: true, history: ops(pub, output{seq: 1}, pub, output{seq: 2}, pub, output{seq: 3}, pub, output{seq: 4}, pub, output{seq: 5}, rec, output{})},
		"back after its ack":       {history: ops(pub, output{seq: 1}, rec, first, input{op: ack, receipt: 1}, output{}, rec, again)},
		"back with another leader": {lossy: true, history: ops(pub, output{seq: 1}, rec, first, input{op: ack, receipt: 1}, output{}, rec, again)},
		"two have it":              {history: ops(pub, output{seq: 1}, rec, first, rec, again)},
		"two have it, as may be":   {good: true, lossy: true, history: ops(pub, output{seq: 1}, rec, first, rec, again)},
		"out of order":             {history: ops(pub, output{seq: 1}, pub, output{seq: 2}, rec, output{seq: 2, receipt: 1})},
		"again and not marked":     {lossy: true, history: ops(pub, output{seq: 1}, rec, first, rec, output{seq: 1, receipt: 2})},
		"a stale ack that counts":  {history: ops(pub, output{seq: 1}, rec, first, input{op: nack, receipt: 1}, output{}, rec, again, input{op: ack, receipt: 1}, output{})},
		"a good ack that does not": {history: ops(pub, output{seq: 1}, rec, first, input{op: ack, receipt: 1}, output{lost: true})},
		"delivered from nowhere":   {history: ops(rec, first)},
	} {
		if got := porcupine.CheckOperationsTimeout(model(c.lossy), c.history, time.Minute); (got == porcupine.Ok) != c.good {
			t.Errorf("%s: %v", name, got)
		}
	}
}

package watermill

import (
	"fmt"
	"maps"

	"github.com/ThreeDotsLabs/watermill/message"
	gmq "github.com/gmq/gmq/client"
)

// HeaderUUID is the header in which [Binary] keeps the UUID of a message.
const HeaderUUID = "watermill-uuid"

// A Marshaler says what a message of Watermill is in GMQ, and the other way round.
type Marshaler interface {
	// Marshal gives the body, as the package comment of the client explains bodies, and the headers.
	Marshal(topic string, m *message.Message) (body any, headers map[string]string, err error)
	// Unmarshal makes the message of what was delivered. A message for which it fails goes to the
	// dead-letter queue.
	Unmarshal(m *gmq.Message) (*message.Message, error)
}

// Binary keeps payloads byte for byte, as base64, and metadata as headers. What other clients have
// published it takes as well: the payload is the text of a JSON string, else the JSON as it was sent; a
// missing UUID is made of the queue and the number.
type Binary struct{}

// Marshal implements [Marshaler].
func (Binary) Marshal(_ string, m *message.Message) (any, map[string]string, error) {
	headers := make(map[string]string, len(m.Metadata)+1)
	maps.Copy(headers, m.Metadata)
	headers[HeaderUUID] = m.UUID
	return []byte(m.Payload), headers, nil
}

// Unmarshal implements [Marshaler].
func (Binary) Unmarshal(m *gmq.Message) (*message.Message, error) {
	payload := []byte(m.Text())
	metadata := make(message.Metadata, len(m.Headers))
	maps.Copy(metadata, m.Headers)
	id, ok := metadata[HeaderUUID]
	if !ok {
		id = fmt.Sprintf("%s-%d", m.Queue(), m.Seq)
	}
	delete(metadata, HeaderUUID)
	out := message.NewMessage(id, payload)
	out.Metadata = metadata
	return out, nil
}

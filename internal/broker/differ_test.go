package broker

import (
	"reflect"
	"strings"
	"testing"

	"github.com/gmq/gmq/internal/queue"
)

// TestExistsSaysWhatDiffers: each setting that differs is named, with both values, whichever it is: also one that is added to the struct.
func TestExistsSaysWhatDiffers(t *testing.T) {
	for i := range reflect.TypeFor[queue.Settings]().NumField() {
		var has, wanted queue.Settings
		switch f := reflect.ValueOf(&wanted).Elem().Field(i); f.Kind() {
		case reflect.String:
			f.SetString("memory")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Float64:
			f.SetFloat(1.5)
		case reflect.Uint8:
			f.SetUint(1)
		default:
			f.SetInt(1)
		}
		err := existsOtherwise([]byte("q"), &has, &wanted)
		if text, ok := strings.CutPrefix(err.Message, `queue "q" exists with other settings: `); !ok || strings.Count(text, " is ") != 1 {
			t.Errorf("of %s it says: %s", reflect.TypeFor[queue.Settings]().Field(i).Name, err.Message)
		}
	}
	has, wanted := queue.Settings{MaxMessages: 7, RetryFactor: 2, Overflow: queue.DropOldest}, queue.Settings{MaxMessages: 10, RetryFactor: 2}
	if got, want := existsOtherwise([]byte("q"), &has, &wanted).Message, `queue "q" exists with other settings: max_messages is 7, not 10; overflow is drop_oldest, not reject`; got != want {
		t.Errorf("it says %s, want %s", got, want)
	}
}

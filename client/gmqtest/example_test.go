package gmqtest_test

import (
	"context"
	"testing"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/client/gmqtest"
)

// remind is what is to be tested: a mail a day before the appointment.
func remind(ctx context.Context, mails *gmq.Queue, appointment time.Time) error {
	_, err := mails.Send(ctx, "tomorrow!", gmq.At(appointment.Add(-24*time.Hour)))
	return err
}

// testReminder is called TestReminder in a test of yours.
func testReminder(t *testing.T) {
	srv := gmqtest.NewServer(t)
	mails := srv.Client(t).Queue("mails")

	now := srv.Clock().Now()
	if err := remind(t.Context(), mails, now.Add(72*time.Hour)); err != nil {
		t.Fatal(err)
	}

	srv.Advance(47 * time.Hour)
	if msgs, err := mails.Receive(t.Context(), 1, 0); err != nil || len(msgs) > 0 {
		t.Errorf("too early: %d, %v", len(msgs), err)
	}

	srv.Advance(time.Hour)
	if msgs, err := mails.Receive(t.Context(), 1, 0); err != nil || len(msgs) != 1 {
		t.Errorf("on the day before: %d, %v", len(msgs), err)
	}
}

// A reminder that is due in two days is tested in a moment.
func Example() {
	_ = testReminder
}

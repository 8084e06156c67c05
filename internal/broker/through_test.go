package broker

import (
	"testing"

	"github.com/gmq/gmq/internal/journal"
)

// throughAnother has rigs put their clients at a node that leads nothing.
var throughAnother bool

type noNodes struct{ of []uint64 }

func (n noNodes) Nodes() []uint64 { return n.of }

// goThroughAnother makes that node.
func (r *rig) goThroughAnother(limits Limits) {
	budget := journal.NewBudget(64 << 20)
	open := func(_ int, wake func()) journal.Journal { return journal.NewMemory(budget, wake) }
	front, err := Start(Options{
		Version: "test", ID: 1, Peers: noNodes{[]uint64{2}}, Limits: limits, Boot: 8, Seed: 2, Fail: func(err error) { r.t.Error(err) },
		Storages: []Storage{{Name: "memory", Stored: "memory", Open: open}, {Name: "file", Stored: "disk", Syncs: true, Open: open}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	for shard := range Shards {
		front.setLeader(shard, 2, 1, false)
		r.b.setLeader(shard, 2, 1, true)
	}
	ns := &nodes{t: r.t, brokers: []*Broker{front, r.b}, cables: map[[2]int]*cable{}}
	ns.connect(0, 1)
	r.front = front
	r.ends = []*cable{ns.cables[[2]int{0, 1}]}
}

func (r *rig) closeFront() {
	if r.front == nil {
		return
	}
	for _, c := range r.ends {
		c.there.cut()
		c.back.cut()
		c.over.Wait()
	}
	if err := r.front.Close(); err != nil {
		r.t.Error(err)
	}
}

// TestThroughAnotherNode: what holds at a queue's leader holds at a node that leads nothing.
func TestThroughAnotherNode(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector sees lines in TestThroughARealLine; this is for what is said")
	}
	throughAnother = true
	defer func() { throughAnother = false }()
	for name, test := range map[string]func(*testing.T){
		"TestLeaseEndsAndComesBackLater":         TestLeaseEndsAndComesBackLater,
		"TestReceiveWaits":                       TestReceiveWaits,
		"TestMaxInFlight":                        TestMaxInFlight,
		"TestSlowReaderIsHeldBack":               TestSlowReaderIsHeldBack,
		"TestOneWorkTwoStorages":                 TestOneWorkTwoStorages,
		"TestRefusingJournal":                    TestRefusingJournal,
		"TestEndOfSession":                       TestEndOfSession,
		"TestHalfCloseWaitsForTheJournal":        TestHalfCloseWaitsForTheJournal,
		"TestHalfCloseWaitsForTheQueue":          TestHalfCloseWaitsForTheQueue,
		"TestOverflowLeavesWhatIsBeingDelivered": TestOverflowLeavesWhatIsBeingDelivered,
		"TestDeletedQueueEndsSubscriptions":      TestDeletedQueueEndsSubscriptions,
		"TestDelay":                              TestDelay,
		"TestCancelAndReschedule":                TestCancelAndReschedule,
		"TestTTL":                                TestTTL,
		"TestPriority":                           TestPriority,
		"TestDedup":                              TestDedup,
		"TestStoredDemanded":                     TestStoredDemanded,
		"TestKeys":                               TestKeys,
		"TestRedriveToAnotherShardAndStorage":    TestRedriveToAnotherShardAndStorage,
		"TestRedriveMany":                        TestRedriveMany,
		"TestPurgeByState":                       TestPurgeByState,
		"TestPurgeBehindPublishes":               TestPurgeBehindPublishes,
		"TestTopicReachesEveryBoundQueue":        TestTopicReachesEveryBoundQueue,
		"TestTopicAllOrNone":                     TestTopicAllOrNone,
		"TestTopicKeepsOrder":                    TestTopicKeepsOrder,
		"TestTopicKnowsDuplicatesQueueByQueue":   TestTopicKnowsDuplicatesQueueByQueue,
		"TestEphemeralSubscription":              TestEphemeralSubscription,
		"TestTopicDuplicateIntoFullQueue":        TestTopicDuplicateIntoFullQueue,
		"TestBindingsInOrder":                    TestBindingsInOrder,
		"TestTopicCopiesAreBounded":              TestTopicCopiesAreBounded,
		"TestTopicPowerCuts":                     TestTopicPowerCuts,
		"TestSharedRecordsMoveOnce":              TestSharedRecordsMoveOnce,
		"TestOverflowOfWhatIsUnderWay":           TestOverflowOfWhatIsUnderWay,
		"TestTopicCountsWhatIsUnderWay":          TestTopicCountsWhatIsUnderWay,
		"TestTopicBodiesByStorage":               TestTopicBodiesByStorage,
		"TestCompactionsFollowEachOther":         TestCompactionsFollowEachOther,
		"TestUnsubscribeAtOnce":                  TestUnsubscribeAtOnce,
		"TestRedriveRefusedAtHome":               TestRedriveRefusedAtHome,
		"TestRedriveAndOthers":                   TestRedriveAndOthers,
		"TestRedrivePowerCuts":                   TestRedrivePowerCuts,
		"TestExplainWhatHoldsBack":               TestExplainWhatHoldsBack,
		"TestGuardIsAskedOnce":                   TestGuardIsAskedOnce,
		"TestGuardAllocatesNothing":              TestGuardAllocatesNothing,
		"TestUnknownOperationsAreRefused":        TestUnknownOperationsAreRefused,
		"TestGuardOfStrangers":                   TestGuardOfStrangers,
		"TestGuardOfRates":                       TestGuardOfRates,
		"TestRecheck":                            TestRecheck,
		"TestDocuments":                          TestDocuments,
		"TestDocumentsOfAFullStorage":            TestDocumentsOfAFullStorage,
		"TestTopicTellsNothingOfQueues":          TestTopicTellsNothingOfQueues,
		"TestGateAgreesWithTheTable":             TestGateAgreesWithTheTable,
	} {
		t.Run(name, test)
	}
}

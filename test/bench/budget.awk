# What a message costs step by step: reads go tool pprof -top -cum -unit ns, of a run with n messages, and prints
# the steps of docs/performance.md. Those that are indented are a part of the one before.
#
#	go tool pprof -top -cum -unit ns -nodecount 1000 test cpu | awk -v n=5000000 -f test/bench/budget.awk

BEGIN {
	count = split("\
server.(*conn).read;- server.(*conn).fill;- wire.(*Decoder).Decode;- broker.(*Intake).Handle;- broker.(*Intake).Flush;\
broker.(*shard).turn;- broker.(*shard).admitAll;- broker.(*shard).proposeAll;- broker.(*shard).collect;- - broker.(*shard).applyPubs;- - broker.(*shard).applyTasks;\
- broker.(*shard).pump;- - broker.(*shard).takeBatch;- - broker.(*shard).encodeBatch;- broker.(*shard).flush;\
server.(*conn).write;\
filejournal.(*Log).begin.func1;- filejournal.(*Log).writeFrame;- - vfs.osFile.WriteAt;- - vfs.osFile.Sync;- filejournal.(*Log).snapLoop;\
loadgen.(*publisher).publish;loadgen.(*publisher).read;loadgen.(*consumer).read;\
runtime.mcall;runtime.gcBgMarkWorker", steps, ";")
}
/^Duration/ { all = $0; sub(/.*samples = /, "", all); all = all + 0 }
$4 ~ /ns$/ { name = $6; sub(/.*\//, "", name); cost[name] = $4 + 0 }
END {
	printf "%8.0f ns  all, the load generator included\n", all / n
	for (i = 1; i <= count; i++) {
		name = steps[i]
		gsub(/- /, "", name)
		if (name in cost) {
			gsub(/- /, "  ", steps[i])
			printf "%8.0f ns  %s\n", cost[name] / n, steps[i]
		}
	}
}

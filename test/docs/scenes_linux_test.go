package docs

// scenes are what comes before a block and is not in the document, by the document and the block's first line: what its
// reader has, and an empty directory has not.
var scenes = map[string]string{
	"docs/operations.md: $ gmq journal repair --data /srv/gmq": damaged,
	"docs/operations.md: $ gmq peek jobs": `
gmq pub jobs 'remind me' --delay 24h
gmq pub jobs --json '{"item":17}' --key ann
gmq pub jobs --json '{"item":18}' --key ann
printf '{"op":"receive","queue":"jobs"}\n{"op":"nack","queue":"jobs","seq":2,"delay":"0s","reason":"no stock"}\n' | nc -q1 127.0.0.1 4567
`,
	"docs/operations.md: $ gmq queue bind thumbnails 'files.*.added'": `gmq queue create thumbnails`,
	"docs/operations.md: $ gmq peek jobs.dlq": `
printf '{"op":"receive","queue":"jobs"}\n{"op":"nack","queue":"jobs","seq":2,"dead":true,"reason":"no such item"}\n' | nc -q1 127.0.0.1 4567
`,
	"docs/operations.md: $ cat gmq-data/admin-password": `
pkill -TERM -P $terminal || kill $terminal
wait $terminal || true
rm -rf gmq-data
GMQ_AUTH_REQUIRED=true gmq serve &
until [ -s gmq-data/admin-password ] && (: </dev/tcp/127.0.0.1/4567) 2>/dev/null; do sleep 0.05; done
`,
	"docs/operations.md: $ curl -s -u admin:$GMQ_PASSWORD 'http://127.0.0.1:4580/api/queues?sort=ready&down=true&limit=1'": `seq 40 | gmq pub orders`,
	"docs/operations.md: $ gmq backup /backup/gmq-$(date +%F).tar":                                                         `mkdir -p backup`,
}

// damaged makes a data directory of which one message is lost and another one has a bit that has changed.
const damaged = `
gmq serve --data srv/gmq --listen 127.0.0.1:4600 --admin off & damaged=$!
until gmq ping --server 127.0.0.1:4600; do sleep 0.1; done
for n in $(seq 30); do echo "{\"order\":$n,\"text\":\"aaaaaaaaaaaaaaaaaaaaaaaa\"}"; done | gmq pub orders --json --server 127.0.0.1:4600
kill $damaged; wait $damaged
at() { grep -abo "\"order\":$1," srv/gmq/wal/0000000001.seg | cut -d: -f1; }
printf 0123456789 | dd of=srv/gmq/wal/0000000001.seg bs=1 seek=$(( $(at 17) + 20 )) conv=notrunc
printf c | dd of=srv/gmq/wal/0000000001.seg bs=1 seek=$(( $(at 25) + 22 )) conv=notrunc
`

// elsewhere are directories of somebody's machine, and where they are in a test.
var elsewhere = []string{"/srv/gmq", "srv/gmq", "/backup/", "backup/", "/var/lib/gmq-restored", "gmq-restored"}

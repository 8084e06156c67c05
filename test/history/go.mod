module github.com/gmq/gmq/test/history

go 1.26.0

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/gmq/gmq v0.0.0
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	github.com/go-sql-driver/mysql v1.10.1 // indirect
)

replace github.com/gmq/gmq => ../..

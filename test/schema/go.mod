module github.com/gmq/gmq/test/schema

go 1.26.0

require (
	github.com/gmq/gmq v0.0.0
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.2
	go.yaml.in/yaml/v3 v3.0.6
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	github.com/go-sql-driver/mysql v1.10.1 // indirect
	golang.org/x/text v0.42.0 // indirect
)

replace github.com/gmq/gmq => ../..

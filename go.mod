module github.com/gmq/gmq

go 1.26

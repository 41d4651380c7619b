// Package examples holds programs to run, read and take apart, one in each
// folder:
//
//	http_api            net/http, with a table of limits for its routes
//	per_user_limiting   plans for users and API keys, strangers by IP
//	config_file         limits in a file, followed while it serves
//	batch_processing    jobs that wait for their turn
//	gin, echo, fiber    the same in the frameworks
//
// They need no server:
//
//	go run ./examples/http_api
//
// With -redis redis://localhost:6379 the buckets are in Redis, where any number
// of processes share them. With -addr they listen elsewhere than on
// 127.0.0.1:8080.
package examples

module github.com/spillway-go/spillway/interop

go 1.25.0

require (
	github.com/hashicorp/go-retryablehttp v0.7.8
	github.com/spillway-go/spillway v0.0.0
)

require github.com/hashicorp/go-cleanhttp v0.5.2 // indirect

replace github.com/spillway-go/spillway => ../

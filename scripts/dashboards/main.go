// Holds Grafana dashboards against Grafana's own types, strictly: dashboards FILE ...
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins()
	failed := false
	for _, file := range os.Args[1:] {
		text, err := os.ReadFile(file)
		board := dashboard.Dashboard{}
		if err == nil {
			err = board.UnmarshalJSONStrict(text)
		}
		if err == nil {
			err = board.Validate()
		}
		// An empty list of problems is an error, too, to Go.
		if err != nil && err.Error() != "" {
			failed = true
			fmt.Printf("FAILED: %s: %v\n", file, err)
			continue
		}
		fmt.Printf("dashboards: %s: %d panels\n", file, len(board.Panels))
	}
	if failed {
		os.Exit(1)
	}
}

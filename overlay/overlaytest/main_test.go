package overlaytest_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/p2pnode/p2pnode/overlay/overlaytest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { overlaytest.Main(leakChecked{m}) }

// leakChecked runs tests and fails if goroutines are left.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

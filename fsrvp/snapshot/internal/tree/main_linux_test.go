package tree

import (
	"testing"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snaptest"
)

func TestMain(m *testing.M) { snaptest.Main(m) }

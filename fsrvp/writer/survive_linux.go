package writer

import "os"

// survive keeps the kernel from killing a guard when memory runs out. Only root may do this; a
// guard works without it.
func survive() { _ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0) }

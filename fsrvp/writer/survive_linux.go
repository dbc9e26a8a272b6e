package writer

import "os"

// survive keeps a guard from being what the kernel kills when memory runs out. Only root may; a
// guard works without.
func survive() { _ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0) }

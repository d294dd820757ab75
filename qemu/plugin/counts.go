// Package plugin is the TCG plugin that counts guest instructions: its C source, its compiler run, and the decoder of
// what it reports.
package plugin

// Counts is what a counting boot executed.
type Counts struct {
	Total  uint64 // guest instructions
	Blocks uint64 // blocks translated
	PSS    int64  // proportional set size of the VMM at its end, in bytes, the plugin's own included; 0 if unknown
	Marks  []Mark // in the order of execution
}

// Mark is one execution of an instruction that was to be logged.
type Mark struct {
	Addr         uint64 // its virtual address
	Instructions uint64 // guest instructions executed before it
}

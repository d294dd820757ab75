package image

// Write is for tests of what a failing disk does.
var Write = write

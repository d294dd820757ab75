package fsmod

// Describer is a FileSystem that tells how its content is stored.
type Describer interface {
	Usage() (Usage, error)
}

// Usage is what the content of a file system is stored as.
type Usage struct {
	Codecs      []CodecUsage `json:"codecs"`       // in use
	Inline      int          `json:"inline_files"` // files whose content lies in the metadata
	Tails       int          `json:"packed_tails"` // files that share a cluster with others
	Mappable    int          `json:"mappable"`     // files of a page or more whose pages can be mapped without a copy
	Holes       int          `json:"holes"`        // clusters of zeros, with nothing stored
	Shared      int          `json:"shared"`       // clusters and tails that are equal to others, and so not stored again
	SharedBytes int64        `json:"shared_bytes"` // content of these
	Order       []UsedRange  `json:"order"`        // the first content in the order of its place
	Digest      string       `json:"digest"`       // over the whole file system, in hex; empty if there is none
}

// CodecUsage is what is stored with one codec.
type CodecUsage struct {
	Codec    string `json:"codec"` // "raw" is what is stored as it is
	Clusters int    `json:"clusters"`
	Bytes    int64  `json:"bytes"` // of content
	Stored   int64  `json:"stored_bytes"`
}

// UsedRange is a Use with names for JSON.
type UsedRange struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
}

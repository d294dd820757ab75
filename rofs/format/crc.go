package format

// Checksum returns the CRC-32C (Castagnoli, as in RFC 3720 and hash/crc32) of p.
func Checksum(p []byte) uint32 { return ^update(^uint32(0), p) }

// nibbles has the CRC of each four-bit value: a table this small is data, where 256 entries would be work or pages at boot.
var nibbles = [16]uint32{
	0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
	0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
}

// updateGeneric is for processors without the CRC32 instruction.
func updateGeneric(crc uint32, p []byte) uint32 {
	for _, b := range p {
		crc ^= uint32(b)
		crc = crc>>4 ^ nibbles[crc&15]
		crc = crc>>4 ^ nibbles[crc&15]
	}
	return crc
}

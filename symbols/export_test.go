package symbols

import "encoding/binary"

var le = binary.LittleEndian

package profile

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"io"
	"slices"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// pprofWriter writes pprof's profile.proto message by message, as runtime/pprof does, and holds neither samples nor stacks: the
// package of google/pprof would take more than a gigabyte for the exact profile of a Linux boot.
type pprofWriter struct {
	z     *gzip.Writer
	w     *bufio.Writer
	types int
	msg   message // the one that is being made, and one within it
	sub   message

	strs   []string
	index  map[string]uint64
	frames map[string]uint64 // ids of the locations of named frames
	labels map[labels][]byte // encoded

	mappings, functions, locations uint64 // how many there are: the last one's id
}

// Fields of the messages.
const (
	profileSampleType, profileSample, profileMapping, profileLocation, profileFunction, profileStrings = 1, 2, 3, 4, 5, 6
	profileTime, profileDuration, profilePeriodType, profilePeriod, profileDefaultType                 = 9, 10, 11, 12, 14

	valueTypeType, valueTypeUnit                                                       = 1, 2
	sampleLocations, sampleValues, sampleLabel                                         = 1, 2, 3
	labelKey, labelString                                                              = 1, 2
	mappingID, mappingStart, mappingLimit, mappingOffset, mappingFile, mappingBuildID  = 1, 2, 3, 4, 5, 6
	mappingHasFunctions, mappingHasFilenames, mappingHasLineNumbers, mappingHasInlines = 7, 8, 9, 10
	locationID, locationMapping, locationAddress, locationLine                         = 1, 2, 3, 4
	lineFunction, lineLine                                                             = 1, 2
	functionID, functionTitle, functionSystemName, functionFile, functionStartLine     = 1, 2, 3, 4, 5
)

func newPprofWriter(w io.Writer, types []valueType) *pprofWriter {
	// It cannot fail: the level is a valid one. Of a large profile the best speed is half the time and a tenth more bytes.
	z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
	e := &pprofWriter{
		z: z, w: bufio.NewWriterSize(z, 1<<16), types: len(types),
		index: make(map[string]uint64), frames: make(map[string]uint64), labels: make(map[labels][]byte),
	}
	e.str("") // the table begins with it
	value := func(t valueType) {
		e.msg = e.msg[:0]
		e.msg.uint(valueTypeType, e.str(t.name))
		e.msg.uint(valueTypeUnit, e.str(t.unit))
	}
	for _, t := range types {
		value(t)
		e.emit(profileSampleType)
	}
	value(types[0])
	e.emit(profilePeriodType)
	e.field(profilePeriod, 1)
	e.field(profileDefaultType, e.str(types[0].name))
	return e
}

// close writes what comes last, and returns the first error that there was.
func (e *pprofWriter) close() error {
	for _, s := range e.strs {
		e.msg = append(e.msg[:0], s...)
		e.emit(profileStrings)
	}
	if err := e.w.Flush(); err != nil {
		return err
	}
	return e.z.Close()
}

func (e *pprofWriter) times(at, duration int64) {
	e.field(profileTime, uint64(at))
	e.field(profileDuration, uint64(duration))
}

func (e *pprofWriter) values() values { return make(values, e.types) }

// add adds a sample, whose stack is given from the root down; empty names are left out.
func (e *pprofWriter) add(v values, l labels, stack ...string) {
	var ids []uint64
	for _, name := range slices.Backward(stack) {
		if name != "" {
			ids = append(ids, e.named(name))
		}
	}
	e.sample(v, l, ids)
}

// sample adds a sample, whose stack is given from the last function called up. One without any value is left out.
func (e *pprofWriter) sample(v values, l labels, stack []uint64) {
	if !slices.ContainsFunc(v, func(v int64) bool { return v != 0 }) {
		return
	}
	e.msg, e.sub = e.msg[:0], e.sub[:0]
	for _, id := range stack {
		e.sub = binary.AppendUvarint(e.sub, id)
	}
	e.msg.bytes(sampleLocations, e.sub)
	e.sub = e.sub[:0]
	for _, n := range v {
		e.sub = binary.AppendUvarint(e.sub, uint64(n))
	}
	e.msg.bytes(sampleValues, e.sub)
	encoded, ok := e.labels[l]
	if !ok {
		var all message
		for _, kv := range [][2]string{{"phase", l.phase}, {"privilege", l.privilege}, {"cpu", l.cpu}} {
			if kv[1] != "" {
				e.sub = e.sub[:0]
				e.sub.uint(labelKey, e.str(kv[0]))
				e.sub.uint(labelString, e.str(kv[1]))
				all.bytes(sampleLabel, e.sub)
			}
		}
		encoded = all
		e.labels[l] = encoded
	}
	e.msg = append(e.msg, encoded...)
	e.emit(profileSample)
}

// named returns the id of the location of a frame that is a name and no place in the guest's code.
func (e *pprofWriter) named(name string) uint64 {
	if id, ok := e.frames[name]; ok {
		return id
	}
	e.function(name, name, "", 0)
	e.location(1, 0, []boottrace.Line{{}}, e.functions-1)
	e.frames[name] = e.locations
	return e.locations
}

func (e *pprofWriter) mapping(m boottrace.Mapping) {
	e.mappings++
	e.msg = e.msg[:0]
	e.msg.uint(mappingID, e.mappings)
	e.msg.uint(mappingStart, m.Start)
	e.msg.uint(mappingLimit, m.Limit)
	e.msg.uint(mappingOffset, m.Offset)
	e.msg.uint(mappingFile, e.str(m.Name))
	e.msg.uint(mappingBuildID, e.str(m.BuildID))
	for _, field := range []int{mappingHasFunctions, mappingHasFilenames, mappingHasLineNumbers, mappingHasInlines} {
		e.msg.uint(field, 1)
	}
	e.emit(profileMapping)
}

func (e *pprofWriter) function(name, system, file string, line int) {
	e.functions++
	e.msg = e.msg[:0]
	e.msg.uint(functionID, e.functions)
	e.msg.uint(functionTitle, e.str(name))
	e.msg.uint(functionSystemName, e.str(system))
	e.msg.uint(functionFile, e.str(file))
	e.msg.uint(functionStartLine, uint64(line))
	e.emit(profileFunction)
}

// location adds a location, whose functions are numbered from base on.
func (e *pprofWriter) location(mapping, address uint64, lines []boottrace.Line, base uint64) {
	e.locations++
	e.msg = e.msg[:0]
	e.msg.uint(locationID, e.locations)
	e.msg.uint(locationMapping, mapping)
	e.msg.uint(locationAddress, address)
	for _, l := range lines {
		e.sub = e.sub[:0]
		e.sub.uint(lineFunction, base+uint64(l.Function)+1)
		e.sub.uint(lineLine, uint64(l.Line))
		e.msg.bytes(locationLine, e.sub)
	}
	e.emit(profileLocation)
}

func (e *pprofWriter) str(s string) uint64 {
	i, ok := e.index[s]
	if !ok {
		i = uint64(len(e.strs))
		e.index[s] = i
		e.strs = append(e.strs, s)
	}
	return i
}

// emit writes the message as a field of the profile. The writer keeps its first error.
func (e *pprofWriter) emit(field int) {
	var head message
	head.tag(field, wireBytes)
	e.w.Write(binary.AppendUvarint(head, uint64(len(e.msg))))
	e.w.Write(e.msg)
}

func (e *pprofWriter) field(field int, v uint64) {
	var m message
	m.uint(field, v)
	e.w.Write(m)
}

// Wire types of protocol buffers.
const (
	wireVarint = 0
	wireBytes  = 2
)

// message is a message that is being encoded.
type message []byte

func (m *message) tag(field, wire int) { *m = binary.AppendUvarint(*m, uint64(field<<3|wire)) }

// uint adds a number; zero is what a field that is not there has.
func (m *message) uint(field int, v uint64) {
	if v != 0 {
		m.tag(field, wireVarint)
		*m = binary.AppendUvarint(*m, v)
	}
}

func (m *message) bytes(field int, b []byte) {
	m.tag(field, wireBytes)
	*m = append(binary.AppendUvarint(*m, uint64(len(b))), b...)
}
